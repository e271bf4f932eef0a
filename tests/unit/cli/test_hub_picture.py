"""What is made of a hub's answers; `statuses/` holds two of a real hub, 1.1 s apart.

Two clients keep up, one was stopped (SIGSTOP), one publishes.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hms_bus.cli.hub.figures import Status, client_rates, hub_rates, read_status
from hms_bus.cli.hub.picture import (
    CLIENTS,
    QUEUES,
    RATES,
    SUBSCRIPTIONS,
    client_rows,
    facts,
    moving_facts,
    queue_rows,
    rate_rows,
    span,
    subscription_rows,
    used,
)
from hms_bus.cli.screen import Column, show_table
from hms_bus.errors import RefusedError

RECORDED = Path(__file__).parent / "statuses"


def answer(name: str) -> dict[str, Any]:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes())


@pytest.fixture
def before() -> Status:
    return read_status(answer("before"))


@pytest.fixture
def after() -> Status:
    return read_status(answer("after"))


def printed(
    columns: tuple[Column, ...], rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> list[list[str]]:
    show_table(used(columns, rows), rows, "text", headed=True)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_asking_process_is_not_among_the_clients() -> None:
    told = answer("after")
    told["clients"][0]["pid"] = os.getpid()
    assert [client.number for client in read_status(told).clients] == [2, 3, 4]


def test_members_that_a_later_hub_adds_are_ignored() -> None:
    assert read_status({**answer("after"), "weather": "fine"}) == read_status(answer("after"))


def test_figures_of_another_kind_are_refused() -> None:
    told = answer("after")
    del told["totals"]["queued"]
    with pytest.raises(RefusedError, match=r"another version; update the older one.*queued"):
        read_status(told)


def test_the_facts_of_a_hub(after: Status) -> None:
    assert dict(facts(after)) == {
        "hub": "ipc://shop, process 23490, hms-bus 0.1.0",
        "up": "4 s, started by hand",
        "log": "sqlite:///srv/shop.db at position 4,398",
        "in": "4,398 messages, 1.6 MiB",
        "out": "12,595 messages, 4.5 MiB",
        "dropped": "419 messages that a slow client had no room for",
        "returned": "0 requests that nobody answers",
        "refused": "0 messages without the right to send it",
        "queued": "180 messages, 64.0 KiB",
        "clients": "4 with 3 subscriptions",
    }


def test_a_hub_that_a_client_has_started_says_when_it_ends(after: Status) -> None:
    spawned = replace(after, hub=replace(after.hub, spawned=True, idle_s=30.0), log=None)
    told = dict(facts(spawned))
    assert told["up"] == "4 s, started by a client; ends after 30 s without clients"
    assert told["log"] == "none"


def test_one_is_told_in_the_singular(after: Status) -> None:
    totals = replace(after.totals, received=1, returned=1)
    told = dict(facts(replace(after, totals=totals)))
    assert told["in"].startswith("1 message, ")
    assert told["returned"] == "1 request that nobody answers"


def test_clients_stand_in_the_order_in_which_they_came(
    after: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    shuffled = replace(after, clients=after.clients[::-1])
    header, *lines = printed(CLIENTS, client_rows(shuffled), capsys)
    assert header[:5] == ["client", "name", "pid", "sdk", "token"]
    assert [line[0] for line in lines] == ["1", "2", "3", "4"]
    assert lines[2][1:3] == ["stuck.py", "23499"]
    assert " ".join(lines[2]).endswith("clerk 3 s 0 3,799 419 180 0 does not read")
    assert " ".join(lines[3]).endswith("till 2 s 398 0 0 0 0 ok")


def test_subscriptions_are_shown_without_idle_inboxes(
    after: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = printed(SUBSCRIPTIONS, subscription_rows(after), capsys)
    assert " ".join(header) == (
        "client pattern group overflow credit load queued delivered dropped"
    )
    assert [" ".join(line) for line in lines] == [
        "1 orders.*.created billing block 807 0 0 4,398 0",
        "2 orders.> - block 807 218 0 4,398 0",
        "3 orders.> - drop_newest - 3,799 180 3,799 419",
    ]


def test_rates_are_of_the_time_between_two_statuses(before: Status, after: Status) -> None:
    seconds = (after.taken_ns - before.taken_ns) / 1e9
    rates = hub_rates(after, before)
    assert rates is not None
    assert rates.received == pytest.approx(183 / seconds)
    assert rates.delivered == pytest.approx(366 / seconds)
    assert rates.dropped == pytest.approx(183 / seconds)
    assert rates.bytes_in == pytest.approx((1_681_236 - 1_618_449) / seconds)
    assert client_rates(after, before)[2].delivered == pytest.approx(183 / seconds)
    assert dict(moving_facts(after, before)) == {
        "hub": "ipc://shop, up 4 s",
        "clients": "4 with 3 subscriptions",
        "in": "165 messages/s, 55.2 KiB/s",
        "out": "329 messages/s, 107.1 KiB/s",
        "dropped": "165/s, 419 in all",
        "queued": "180 messages, 64.0 KiB",
        "log": "sqlite:///srv/shop.db at position 4,398",
    }


def test_there_are_no_rates_without_a_status_before(
    before: Status, after: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    restarted = replace(after, hub=replace(after.hub, started_ns=after.hub.started_ns + 1))
    assert hub_rates(after, None) is None
    assert hub_rates(restarted, before) is None
    assert hub_rates(before, before) is None
    assert client_rates(restarted, before) == {}
    assert dict(moving_facts(after, None))["in"] == "- messages/s, -/s"
    header, *lines = printed(RATES, rate_rows(after, None), capsys)
    assert " ".join(header) == "client name pid in/s out/s dropped/s queued bytes state"
    assert lines[0][:6] == ["3", "stuck.py", "23499", "-", "-", "-"]


def test_a_client_that_is_new_has_no_rate(before: Status, after: Status) -> None:
    newcomer = replace(after.clients[0], connected_ns=after.clients[0].connected_ns + 1)
    now = replace(after, clients=[newcomer, *after.clients[1:]])
    rates = client_rates(now, before)
    assert set(rates) == {2, 3, 4}
    row = next(row for row in rate_rows(now, before) if row["client"] == 1)
    assert row["in/s"] is None


def test_the_busiest_client_comes_first_and_the_idle_one_last(
    before: Status, after: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = printed(RATES, rate_rows(after, before), capsys)
    assert " ".join(header) == "client name pid in/s out/s dropped/s queued bytes state"
    assert [line[0] for line in lines] == ["1", "2", "4", "3"]
    assert lines[2][3:] == ["165", "0", "0", "0", "0", "B", "ok"]
    assert lines[3][3:] == ["0", "0", "165", "180", "64.0", "KiB", "does", "not", "read"]


def test_only_subscriptions_in_trouble_are_watched(
    after: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = printed(QUEUES, queue_rows(after), capsys)
    assert header == ["client", "pattern", "queued", "credit", "dropped"]
    assert lines == [["3", "orders.>", "180", "-", "419"]]


def test_an_inbox_that_is_behind_is_shown(after: Status) -> None:
    stuck = after.clients[2]
    inbox = replace(stuck.subscriptions[0], queued=1)
    behind = replace(stuck, subscriptions=[inbox])
    assert [row["pattern"] for row in queue_rows(replace(after, clients=[behind]))] == [
        inbox.pattern
    ]


def test_a_client_that_holds_publishers_back_is_told_of(after: Status) -> None:
    assert replace(after.clients[0], waiting=2).state == "holds others back"
    assert [client.state for client in after.clients] == ["ok", "ok", "does not read", "ok"]


def test_no_name_reaches_the_terminal_as_a_control_sequence(after: Status) -> None:
    rude = replace(after.clients[0], name="\x1b[2J", token="\r", sdk="\n")
    told = replace(after, clients=[rude])
    shown = [*client_rows(told), *rate_rows(told, None), *map(dict, [facts(told)])]
    assert not any(c in str(value) for row in shown for value in row.values() for c in "\x1b\r\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
