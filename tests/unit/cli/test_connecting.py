"""Which buses reach other processes, and who sends when nobody is named."""

import getpass

import pytest

from hms_bus import BusConfig
from hms_bus.cli.connecting import leaves_process, load, require_others
from hms_bus.errors import UnsupportedError


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


def test_the_sender_is_the_user_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found: 4711")

    assert load({"source": "/me"}, None).source == "/me"
    monkeypatch.setattr(getpass, "getuser", lambda: "jo smith")
    assert load({}, None).source == "/cli/jo%20smith"
    monkeypatch.setattr(getpass, "getuser", nameless)
    assert load({}, None).source == "/cli/unknown"
