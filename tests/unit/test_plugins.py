"""URLs, and finding what they name: built in, or installed with an entry point."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.errors import ConfigError
from hms_bus.plugins import (
    _BUILT_IN,  # pyright: ignore[reportPrivateUsage] - what stands in it is the point
    Kind,
    _find_installed,  # pyright: ignore[reportPrivateUsage] - what it found is forgotten again
    absolute_log,
    find,
    get_codec,
    identify_log,
    names,
    open_log,
    open_transport,
    parse_address,
)
from hms_bus.testing.faulty import open_faulty


@pytest.mark.parametrize(
    ("url", "scheme", "path", "options"),
    [
        ("direct://", "direct", "", {}),
        ("direct://team", "direct", "team", {}),
        ("direct://team?codec=json", "direct", "team", {"codec": "json"}),
        ("direct:?codec=cbor", "direct", "", {"codec": "cbor"}),
        ("DIRECT://Team", "direct", "Team", {}),
        ("sqlite:run.db", "sqlite", "run.db", {}),
        ("sqlite:/var/run.db", "sqlite", "/var/run.db", {}),
        ("sqlite:///var/run.db", "sqlite", "/var/run.db", {}),
        ("sqlite:a%20b%3F.db", "sqlite", "a b?.db", {}),
        ("sqlite:run.db?sync=&x=a%26b", "sqlite", "run.db", {"sync": "", "x": "a&b"}),
        ("nats://host:4222", "nats", "host:4222", {}),
    ],
)
def test_a_url_is_taken_apart(url: str, scheme: str, path: str, options: dict[str, str]) -> None:
    address = parse_address(url)
    assert (address.url, address.scheme) == (url, scheme)
    assert (address.path, address.options) == (path, options)


@pytest.mark.parametrize("url", ["", "direct", ":", "://team", "run.db"])
def test_what_has_no_scheme_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        parse_address(url)


def test_an_option_that_is_not_known_is_refused_and_the_known_ones_are_listed() -> None:
    address = parse_address("direct://?codek=json")
    with pytest.raises(ConfigError, match="'codek'; known: codec"):
        address.only("codec")
    with pytest.raises(ConfigError, match="known: none"):
        address.only()
    assert parse_address("direct://?codec=json").only("codec") == {"codec": "json"}


@pytest.mark.parametrize("url", ["direct://a?codek=1&token=SECRET", "direct?token=SECRET"])
def test_no_message_shows_options_that_may_be_secret(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(url).only("token")
    assert "direct" in caught.value.message
    assert "SECRET" not in caught.value.message
    assert parse_address("direct://a?token=SECRET").bare_url == "direct://a"


@pytest.mark.parametrize("kind", ["transports", "codecs", "logs"])
def test_what_is_built_in_is_listed_and_found(kind: Kind) -> None:
    assert names(kind)
    assert all(callable(find(kind, name)) for name in names(kind))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("transports", "unknown transport 'carrier'; known: direct"),
        ("codecs", "unknown codec 'carrier'; known: .*json"),
        ("logs", "unknown log 'carrier'; known: memory, sqlite"),
    ],
)
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(kind: Kind, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find(kind, "carrier")


def test_opening_finds_by_scheme_and_touches_nothing(tmp_path: Path) -> None:
    codec = get_codec("json")
    assert codec.name == "json"
    open_transport("direct://", codec=codec)
    open_log(f"sqlite:{tmp_path / 'run.db'}")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="unknown transport"):
        open_transport("carrier://pigeon", codec=codec)
    with pytest.raises(ConfigError, match="unknown log"):
        open_log("paper:roll")


# -- installed plug-ins --------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution on the path with one codec that works and one that cannot be imported."""
    metadata = tmp_path / "pigeons-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[hms_bus.codecs]\nmorse = pigeons:make\nbroken = pigeons:missing\njson = pigeons:make\n"
    )
    (tmp_path / "pigeons.py").write_text("def make():\n    return 'a codec'\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "pigeons", raising=False)
    yield
    _find_installed.cache_clear()


@pytest.mark.usefixtures("installed")
def test_an_installed_plugin_is_found_by_its_entry_point() -> None:
    assert get_codec("morse") == "a codec"
    assert {"morse", "json"} <= set(names("codecs"))


@pytest.mark.usefixtures("installed")
def test_what_is_built_in_wins_over_what_is_installed() -> None:
    assert get_codec("json").name == "json"


@pytest.mark.usefixtures("installed")
def test_a_plugin_that_cannot_be_imported_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"'broken' \(pigeons:missing\) cannot be imported"):
        get_codec("broken")


def test_what_is_only_for_tests_is_a_plug_in_like_any_other() -> None:
    assert "faulty" not in _BUILT_IN["transports"]
    assert find("transports", "faulty") is open_faulty


# -- two names of one log ------------------------------------------------------------------------


def test_urls_of_one_log_have_one_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to("a.db")
    same = {"sqlite:a.db", "sqlite:./a.db", f"sqlite:{tmp_path}/a.db", "SQLITE:a.db?readonly=false"}
    assert {identify_log(url) for url in same | {"sqlite:link.db"}} == {identify_log("sqlite:a.db")}
    others = ["sqlite:a.db", "sqlite:b.db", "sqlite:a.db?readonly=true", "memory:a", "memory:b"]
    assert len({identify_log(url) for url in others}) == len(others)


def test_a_log_that_says_nothing_about_it_is_told_by_its_url() -> None:
    assert identify_log("memory:a") == identify_log("memory:a")
    with pytest.raises(ConfigError, match="unknown log"):
        identify_log("paper:roll")


@pytest.mark.parametrize(
    ("log", "absolute"),
    [
        ("sqlite:run.db", "sqlite://{cwd}/run.db"),
        ("SQLITE:./run.db?sync=normal&busy=2", "sqlite://{cwd}/run.db?sync=normal&busy=2"),
        ("sqlite:/var/run.db", "sqlite:///var/run.db"),
        ("sqlite:///var/a%20b%3F%25.db", "sqlite:///var/a%20b%3F%25.db"),
        ("sqlite:a b.db", "sqlite://{cwd}/a%20b.db"),
        ("sqlite:~/run.db", "sqlite://{home}/run.db"),
        ("memory:name", "memory:name"),
    ],
)
def test_a_url_of_a_log_for_every_folder(
    log: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    wanted = absolute.format(cwd=tmp_path, home="/home/somebody")
    assert absolute_log(log) == wanted
    assert absolute_log(wanted) == wanted


def test_a_path_that_cannot_be_written_as_a_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError):
        absolute_log("sqlite:\udcff.db")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError):
        absolute_log("sqlite:run.db")


def test_a_url_is_shown_without_its_token() -> None:
    address = parse_address("faulty:ipc://shop?token=s3cret&drop=0.1")
    assert address.shown_url == "faulty:ipc://shop?token=…&drop=0.1"
