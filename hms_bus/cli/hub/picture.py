"""A hub's figures as words and tables, for `hms-bus hub status` and `hms-bus hub top`."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from hms_bus.cli.hub.figures import (
    Client,
    Rates,
    Status,
    Totals,
    client_rates,
    hub_rates,
)
from hms_bus.cli.records import escape
from hms_bus.cli.screen import Column, byte_count

Fact = tuple[str, str]
"""A name and what there is to say under it."""

_INBOXES = "$inbox."

CLIENTS = (
    Column(name="client"),
    Column(name="name", style="cyan", least=12),
    Column(name="pid", spare=2),
    Column(name="sdk", least=8, spare=6),
    Column(name="token", spare=5),
    Column(name="up", kind="number", spare=4),
    Column(name="received", kind="number"),
    Column(name="delivered", kind="number"),
    Column(name="dropped", kind="number"),
    Column(name="queued", kind="number"),
    Column(name="waiting", kind="number", spare=3),
    Column(name="state", spare=1),
)
SUBSCRIPTIONS = (
    Column(name="client"),
    Column(name="pattern", style="yellow", least=12),
    Column(name="group", spare=2),
    Column(name="overflow", spare=4),
    Column(name="credit", kind="number", spare=3),
    Column(name="load", kind="number", spare=1),
    Column(name="queued", kind="number"),
    Column(name="delivered", kind="number"),
    Column(name="dropped", kind="number"),
)
RATES = (
    Column(name="client"),
    Column(name="name", style="cyan", least=12),
    Column(name="pid", spare=3),
    Column(name="in/s", kind="number", style="bold"),
    Column(name="out/s", kind="number", style="bold"),
    Column(name="dropped/s", kind="number", spare=4),
    Column(name="queued", kind="number"),
    Column(name="bytes", kind="number", spare=2),
    Column(name="state", spare=1),
)
QUEUES = (
    Column(name="client"),
    Column(name="pattern", style="yellow", least=12),
    Column(name="group", spare=1),
    Column(name="queued", kind="number"),
    Column(name="credit", kind="number", spare=2),
    Column(name="dropped", kind="number"),
)


def facts(status: Status) -> Iterator[Fact]:
    """Yield what there is to say of the hub itself, since it began."""
    hub, totals = status.hub, status.totals
    yield "hub", f"{escape(hub.url)}, process {hub.pid}, hms-bus {hub.version}"
    yield "up", f"{span(status.up_s)}, {_origin(status)}"
    yield "log", _log(status)
    yield "in", f"{_many(totals.received, 'message')}, {byte_count(totals.bytes_in)}"
    yield "out", f"{_many(totals.delivered, 'message')}, {byte_count(totals.bytes_out)}"
    yield "dropped", f"{_many(totals.dropped, 'message')} that a slow client had no room for"
    yield "returned", f"{_many(totals.returned, 'request')} that nobody answers"
    yield "refused", f"{_many(totals.refused, 'message')} without the right to send it"
    yield "queued", _queued(totals)
    yield "clients", _clients(status)


def _origin(status: Status) -> str:
    hub = status.hub
    if not hub.spawned:
        return "started by hand"
    return f"started by a client; ends after {span(hub.idle_s or 0)} without clients"


def _log(status: Status) -> str:
    log = status.log
    return "none" if log is None else f"{escape(log.url)} at position {log.position:,}"


def _clients(status: Status) -> str:
    return f"{len(status.clients)} with {_many(len(subscription_rows(status)), 'subscription')}"


def _queued(totals: Totals) -> str:
    return f"{_many(totals.queued, 'message')}, {byte_count(totals.queued_bytes)}"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def moving_facts(now: Status, before: Status | None) -> Iterator[Fact]:
    """Yield what went through the hub per second between two statuses, and what waits."""
    hub, totals, rates = now.hub, now.totals, hub_rates(now, before)
    yield "hub", f"{escape(hub.url)}, up {span(now.up_s)}"
    yield "clients", _clients(now)
    yield "in", _flow(rates and rates.received, rates and rates.bytes_in)
    yield "out", _flow(rates and rates.delivered, rates and rates.bytes_out)
    yield "dropped", f"{_rate(rates and rates.dropped)}/s, {totals.dropped:,} in all"
    yield "queued", _queued(totals)
    yield "log", _log(now)


def _flow(messages: float | None, size: float | None) -> str:
    amount = "-" if size is None else byte_count(round(size))
    return f"{_rate(messages)} messages/s, {amount}/s"


def _rate(per_second: float | None) -> str:
    return "-" if per_second is None else f"{per_second:,.0f}"


def client_rows(status: Status) -> list[dict[str, Any]]:
    """Return a row of `CLIENTS` for each, in the order in which they came."""
    return [
        {
            "client": client.number,
            "name": _name(client),
            "pid": client.pid,
            "sdk": _safe(client.sdk),
            "token": _safe(client.token),
            "up": span((status.taken_ns - client.connected_ns) / 1e9),
            "received": client.received,
            "delivered": client.delivered,
            "dropped": client.dropped,
            "queued": client.queued,
            "waiting": client.waiting,
            "state": client.state,
        }
        for client in sorted(status.clients, key=lambda client: client.number)
    ]


def subscription_rows(status: Status) -> list[dict[str, Any]]:
    """Return a row of `SUBSCRIPTIONS` (and of `QUEUES`) for each subscription of each client.

    Inboxes, which every bus has one of, are left out unless they are behind or have lost something.
    """
    return [
        {
            "client": client.number,
            "pattern": escape(subscription.pattern),
            "group": _safe(subscription.group),
            "overflow": subscription.overflow,
            "credit": subscription.credit,
            "load": subscription.load,
            "queued": subscription.queued,
            "delivered": subscription.delivered,
            "dropped": subscription.dropped,
        }
        for client in sorted(status.clients, key=lambda client: client.number)
        for subscription in client.subscriptions
        if subscription.queued
        or subscription.dropped
        or not subscription.pattern.startswith(_INBOXES)
    ]


def rate_rows(now: Status, before: Status | None) -> list[dict[str, Any]]:
    """Return a row of `RATES` for each client, the busiest first, then what has queued up most."""
    rates = client_rates(now, before)
    clients = sorted(now.clients, key=lambda client: _busyness(client, rates), reverse=True)
    return [_rate_row(client, rates.get(client.number)) for client in clients]


def _busyness(client: Client, rates: Mapping[int, Rates]) -> tuple[float, int, int]:
    own = rates.get(client.number)
    return (own.received + own.delivered if own else 0.0, client.queued, -client.number)


def _rate_row(client: Client, rates: Rates | None) -> dict[str, Any]:
    return {
        "client": client.number,
        "name": _name(client),
        "pid": client.pid,
        "in/s": rates and rates.received,
        "out/s": rates and rates.delivered,
        "dropped/s": rates and rates.dropped,
        "queued": client.queued,
        "bytes": byte_count(client.queued_bytes),
        "state": client.state,
    }


def moving_tables(
    now: Status, before: Status | None
) -> Iterator[tuple[list[Column], list[dict[str, Any]]]]:
    """Yield the tables of `top` that have rows, each with its columns."""
    for columns, rows in ((RATES, rate_rows(now, before)), (QUEUES, queue_rows(now))):
        if rows:
            yield used(columns, rows), rows


def queue_rows(status: Status) -> list[dict[str, Any]]:
    """Return a row of `QUEUES` for each subscription that has or had trouble, the worst first."""
    troubled = [row for row in subscription_rows(status) if row["queued"] or row["dropped"]]
    return sorted(troubled, key=lambda row: (row["queued"], row["dropped"]), reverse=True)


def used(columns: Iterable[Column], rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """Return the columns without those of words in which no row has any."""
    filled = {name for row in rows for name, value in row.items() if value is not None}
    return [column for column in columns if column.kind == "number" or column.name in filled]


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: `2 h 5 min`."""
    whole = int(seconds)
    units = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, unit), (smaller, smaller_unit) in pairwise(units):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def _name(client: Client) -> str:
    """Return the client's name without the process id, which has a column of its own."""
    return escape(client.name.removesuffix(f"[{client.pid}]"))


def _safe(text: str | None) -> str | None:
    return None if text is None else escape(text)
