"""Where settings come from, which source wins, and what is refused."""

import inspect
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.config import BusConfig, load_config
from hms_bus.errors import ConfigError

FILE = """
url = "direct://file"
max_queue = 7
request_timeout_s = 2

[routes]
"telemetry.>" = "direct://telemetry"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "bus.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where no `hms-bus.toml` lies."""
    monkeypatch.chdir(tmp_path)


def test_without_any_source_the_defaults_hold() -> None:
    assert load_config(environment={}) == BusConfig()


def test_a_file_is_read(toml: Path) -> None:
    config = load_config(toml, environment={})
    assert config.url == "direct://file"
    assert config.max_queue == 7
    assert config.request_timeout_s == 2.0
    assert config.routes == {"telemetry.>": "direct://telemetry"}
    assert config.max_hops == BusConfig().max_hops


def test_the_environment_wins_over_the_file(toml: Path) -> None:
    config = load_config(toml, environment={"HMS_BUS_MAX_QUEUE": "9"})
    assert (config.max_queue, config.url) == (9, "direct://file")


def test_arguments_win_over_the_environment(toml: Path) -> None:
    environment = {"HMS_BUS_MAX_QUEUE": "9", "HMS_BUS_URL": "direct://environment"}
    config = load_config(toml, environment=environment, max_queue=11)
    assert (config.max_queue, config.url) == (11, "direct://environment")


def test_a_mapping_stands_in_for_the_file() -> None:
    config = load_config({"url": "direct://mapping"}, environment={"HMS_BUS_CODEC": "cbor"})
    assert (config.url, config.codec) == ("direct://mapping", "cbor")


def test_the_environment_names_the_file(toml: Path) -> None:
    assert load_config(environment={"HMS_BUS_CONFIG": str(toml)}).max_queue == 7


def test_the_file_of_the_working_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "hms-bus.toml").write_text("max_hops = 3")
    assert load_config(environment={}).max_hops == 3


def test_a_named_file_wins_over_that_of_the_working_directory(toml: Path, tmp_path: Path) -> None:
    (tmp_path / "hms-bus.toml").write_text("max_hops = 3")
    assert load_config(toml, environment={}).max_hops == BusConfig().max_hops


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("HMS_BUS_LOG", "sqlite:run.db", "log", "sqlite:run.db"),
        ("HMS_BUS_SOURCE", "/agents/scout", "source", "/agents/scout"),
        ("HMS_BUS_REQUEST_TIMEOUT_S", "0.5", "request_timeout_s", 0.5),
        ("HMS_BUS_EXPOSE_TRACEBACKS", "true", "expose_tracebacks", True),
        ("HMS_BUS_EXPOSE_TRACEBACKS", "0", "expose_tracebacks", False),
        ("HMS_BUS_LOGGED", "orders.>, $reply.>", "logged", ("orders.>", "$reply.>")),
    ],
)
def test_a_variable_becomes_the_type_of_its_key(
    name: str, text: str, key: str, value: object
) -> None:
    assert getattr(load_config(environment={name: text}), key) == value


def test_every_key_but_routes_has_a_variable() -> None:
    environment = {
        f"HMS_BUS_{key.upper()}": "direct://x" if key == "url" else "1"
        for key in BusConfig.__struct_fields__
        if key != "routes"
    }
    environment["HMS_BUS_LOG"] = "memory:"
    config = load_config(environment=environment)
    changed = {
        key
        for key in BusConfig.__struct_fields__
        if getattr(config, key) != getattr(BusConfig(), key)
    }
    assert changed == set(BusConfig.__struct_fields__) - {"routes"}


def test_an_empty_variable_counts_as_not_set(toml: Path) -> None:
    environment = {"HMS_BUS_URL": "", "HMS_BUS_LOG": "", "HMS_BUS_LOGGED": ""}
    config = load_config(toml, environment=environment)
    assert (config.url, config.log, config.logged) == ("direct://file", None, BusConfig().logged)


def test_other_variables_are_nobodys_business() -> None:
    environment = {
        "HMS_BUS_DEBUG": "1",
        "HMS_BUS_RUNTIME_DIR": "/run/hubs",
        "HMS_BUS_TOKEN": "secret",
        "HMS_BUS_OLD": "",
        "_HMS_BUS_COMPLETE": "bash",
        "PATH": "/bin",
    }
    assert load_config(environment=environment) == BusConfig()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("HMS_BUS_MAX_QUEUE", "many", "HMS_BUS_MAX_QUEUE is 'many': it takes a whole number from"),
        ("HMS_BUS_MAX_HOPS", "0", "HMS_BUS_MAX_HOPS is '0': it takes a whole number from 1"),
        ("HMS_BUS_DRAIN_TIMEOUT_S", "5m", "HMS_BUS_DRAIN_TIMEOUT_S is '5m': it takes seconds"),
        ("HMS_BUS_EXPOSE_TRACEBACKS", "maybe", "is 'maybe': it takes true or false"),
        ("HMS_BUS_MAX_QEUE", "5", "unknown variable HMS_BUS_MAX_QEUE: did you mean HMS_BUS_MAX_"),
        ("HMS_BUS_XYZZY", "5", "unknown variable HMS_BUS_XYZZY; known: HMS_BUS_URL"),
        ("HMS_BUS_ROUTES", "a=b", "HMS_BUS_ROUTES: routes only come from files"),
    ],
)
def test_a_variable_that_cannot_work_is_named(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environment={name: text})
    assert told in caught.value.message
    assert ("; known:" in caught.value.message) == (name == "HMS_BUS_XYZZY")


def test_each_variable_says_what_it_takes() -> None:
    for key in BusConfig.__struct_fields__:
        if not isinstance(getattr(BusConfig(), key), str | tuple | dict | None):
            with pytest.raises(ConfigError, match="it takes"):
                load_config(environment={f"HMS_BUS_{key.upper()}": "?"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_queue", 0),
        ("max_hops", 0),
        ("max_emits", -1),
        ("request_timeout_s", -1),
        ("request_timeout_s", float("nan")),
        ("drain_timeout_s", float("inf")),
        ("max_queue", "many"),
        ("url", 5),
        ("logged", "orders.>"),
        ("max_queue", "5"),
        ("request_timeout_s", "0.5"),
        ("expose_tracebacks", "true"),
        ("expose_tracebacks", 1),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config({key: value}, environment={})
    with pytest.raises(ConfigError, match=f"arguments: {key} is"):
        load_config({}, environment={}, **{key: value})


def test_an_unknown_key_is_refused_and_the_closest_one_is_named(toml: Path) -> None:
    toml.write_text("max_quue = 3")
    with pytest.raises(ConfigError, match=r"bus\.toml: unknown key 'max_quue': did you mean max_q"):
        load_config(toml, environment={})
    with pytest.raises(ConfigError, match="arguments: unknown key 'max_queues': did you mean max_"):
        load_config({}, environment={}, max_queues=3)


def test_where_no_key_is_close_the_known_ones_are_listed(toml: Path) -> None:
    toml.write_text("colour = 3")
    with pytest.raises(ConfigError, match=r"'colour'; known: url, codec, log, .*max_queue"):
        load_config(toml, environment={})


def test_a_path_in_place_of_a_logs_url_is_refused_with_the_url() -> None:
    for give in (
        lambda: Bus.from_config({}, environment={"HMS_BUS_LOG": "run.db"}),
        lambda: Bus(log="run.db"),
    ):
        with pytest.raises(ConfigError, match=r"log is 'run\.db', no URL: did you mean 'sqlite:"):
            give()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read.*missing\.toml.*No such file"):
        load_config(tmp_path / "missing.toml", environment={})
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load_config(environment={"HMS_BUS_CONFIG": str(tmp_path / "missing.toml")})


@pytest.mark.parametrize("content", [b"url = ", b"\xff\xfe", b"[routes"])
def test_a_file_that_is_no_toml_is_refused(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(ConfigError, match="is no TOML"):
        load_config(toml, environment={})


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path, environment={})


# -- the bus -------------------------------------------------------------------------------------


def test_a_bus_reads_no_environment_unless_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMS_BUS_URL", "direct://environment")
    assert Bus().config.url == "direct://"
    assert Bus.from_config().config.url == "direct://environment"


def test_a_bus_takes_its_settings_from_a_file_and_arguments(toml: Path) -> None:
    bus = Bus.from_config(toml, environment={}, source="/agents/scout")
    assert (bus.config.max_queue, bus.source) == (7, "/agents/scout")


def test_every_setting_is_an_argument_of_the_bus() -> None:
    arguments = {
        key: getattr(BusConfig(), key) for key in BusConfig.__struct_fields__ if key != "url"
    }
    assert Bus("direct://", **arguments).config == BusConfig()
    assert "config" in inspect.signature(Bus.__init__).parameters


def test_each_bus_has_a_source_of_its_own() -> None:
    first, second = Bus(), Bus()
    assert first.source != second.source
    assert first.source.startswith("/agents/")


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"url": "carrier://pigeon"}, "direct"),
        ({"url": "direct"}, "direct://"),
        ({"url": ""}, "no URL"),
        ({"codec": "morse"}, "json"),
        ({"log": "paper:roll"}, "sqlite"),
        ({"routes": {"a.>": "carrier://pigeon"}}, "direct"),
        ({"routes": {"a..b": "direct://"}}, "token 2 is empty"),
        ({"logged": ["a b"]}, "not allowed"),
        ({"source": "line\nbreak"}, "source"),
    ],
)
def test_making_a_bus_refuses_what_could_never_be_opened(
    settings: dict[str, object], known: str
) -> None:
    with pytest.raises(ConfigError, match=known):
        Bus.from_config(settings, environment={})
