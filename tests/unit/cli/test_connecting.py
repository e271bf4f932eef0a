"""Which buses reach other processes, and who sends when nobody is named."""

import getpass

import pytest

from hms_bus import BusConfig
from hms_bus.cli.connecting import OTHER_BUS, leaves_process, load, require_others
from hms_bus.errors import ConfigError, UnsupportedError


def test_a_direct_bus_stays_in_its_process() -> None:
    assert not leaves_process(BusConfig(url="direct://"), ">")
    assert not leaves_process(BusConfig(url="direct://shared", routes={"a.>": "direct://x"}), ">")
    with pytest.raises(UnsupportedError, match=r"asking another process: do this"):
        require_others(BusConfig(), "a", "asking", instead="do this")


def test_a_route_may_lead_out_of_it() -> None:
    config = BusConfig(url="direct://", routes={"orders.>": "nats://host"})
    assert leaves_process(config, "orders.created")
    assert leaves_process(config, "*.created")
    assert not leaves_process(config, "notes.>")
    require_others(config, "orders.created", "asking", instead="")


def test_faults_do_not_lead_out_of_a_process() -> None:
    assert not leaves_process(BusConfig(url="faulty:direct://a?drop=0.5"), ">")
    assert not leaves_process(BusConfig(url="faulty:faulty:direct://a"), ">")
    assert leaves_process(BusConfig(url="faulty:nats://host?drop=0.5"), ">")


def test_the_hint_names_a_bus_that_leaves_the_process() -> None:
    url = OTHER_BUS.rpartition(" ")[2]
    assert leaves_process(BusConfig(url=url), ">")
    load({"url": url}, None)


def test_a_log_may_be_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({"log": "my run.db"}, None).log == "sqlite:my%20run.db"
    assert load({"log": "memory:"}, None).log == "memory:"
    monkeypatch.setenv("HMS_BUS_LOG", "run.db")
    assert load({}, None).log == "sqlite:run.db"


@pytest.mark.parametrize("wrong", [{"url": "direct://?codc=json"}, {"codec": "xml"}])
def test_what_no_bus_can_be_made_of_is_refused_first(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        load(wrong, None)


def test_the_sender_is_the_user_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found: 4711")

    assert load({"source": "/me"}, None).source == "/me"
    monkeypatch.setattr(getpass, "getuser", lambda: "jo smith")
    assert load({}, None).source == "/cli/jo%20smith"
    monkeypatch.setattr(getpass, "getuser", nameless)
    assert load({}, None).source == "/cli/unknown"
