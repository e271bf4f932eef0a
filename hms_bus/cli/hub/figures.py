"""What a hub tells of itself, and what two of its answers say about the time between them."""

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from hms_bus.errors import RefusedError


class Hub(Struct, frozen=True, kw_only=True):
    """Which hub it is. `idle_s` is after how long without clients one that was spawned ends."""

    name: str
    url: str
    pid: int
    version: str
    protocol: int
    started_ns: int
    spawned: bool
    idle_s: float | None


class Log(Struct, frozen=True, kw_only=True):
    """The log that a hub keeps, and the position of its last record."""

    url: str
    position: int
    capabilities: list[str]


class Totals(Struct, frozen=True, kw_only=True):
    """Messages and bytes since the hub began; `queued` is what waits at this moment.

    `received` holds what was `appended` to the log, too; `returned` found nobody who answers, and
    `refused` was sent without the right to.
    """

    clients: int
    subscriptions: int
    received: int
    delivered: int
    bytes_in: int
    bytes_out: int
    dropped: int
    returned: int
    refused: int
    appended: int
    queued: int
    queued_bytes: int


class Subscription(Struct, frozen=True, kw_only=True):
    """A subscription. `credit` is for how many messages its client has room, `None`: for any."""

    pattern: str
    group: str | None
    overflow: str
    credit: int | None
    load: int
    queued: int
    delivered: int
    dropped: int


class Client(Struct, frozen=True, kw_only=True):
    """A client. One that is `congested` does not read; `waiting` publishers wait for it."""

    number: int
    name: str
    pid: int | None
    uid: int | None
    sdk: str | None
    token: str | None
    connected_ns: int
    received: int
    delivered: int
    dropped: int
    queued: int
    queued_bytes: int
    congested: bool
    waiting: int
    subscriptions: list[Subscription]

    @property
    def state(self) -> str:
        """A word for what goes wrong with it, else for nothing."""
        if self.congested:
            return "does not read"
        return "holds others back" if self.waiting else "ok"


class Status(Struct, frozen=True, kw_only=True):
    """A hub at one moment, `taken_ns` since 1970; the asking process is not among its clients."""

    taken_ns: int
    hub: Hub
    log: Log | None
    limits: dict[str, Any]
    totals: Totals
    clients: list[Client]

    @property
    def up_s(self) -> float:
        """How long the hub has been running."""
        return max(0, self.taken_ns - self.hub.started_ns) / 1e9


def read_status(answer: dict[str, Any]) -> Status:
    """Return what a hub has answered to `status` just now. Raises `RefusedError`."""
    try:
        status = msgspec.convert({"taken_ns": time.time_ns(), **answer}, Status)
    except msgspec.ValidationError as error:
        raise RefusedError(
            "the hub's figures are those of another version; update the older one, this program or "
            f"the hub: {error}"
        ) from error
    others = [client for client in status.clients if client.pid != os.getpid()]
    return msgspec.structs.replace(status, clients=others)


class Rates(Struct, frozen=True, kw_only=True):
    """Messages and bytes per second."""

    received: float
    delivered: float
    dropped: float
    bytes_in: float = 0.0
    bytes_out: float = 0.0


def hub_rates(now: Status, before: Status | None) -> Rates | None:
    """Return what went through the hub between two statuses; `None` if it is not the same hub."""
    per_second = _per_second(now, before)
    if per_second is None or before is None:
        return None
    new, old = now.totals, before.totals
    return Rates(
        received=per_second(new.received, old.received),
        delivered=per_second(new.delivered, old.delivered),
        dropped=per_second(new.dropped, old.dropped),
        bytes_in=per_second(new.bytes_in, old.bytes_in),
        bytes_out=per_second(new.bytes_out, old.bytes_out),
    )


def client_rates(now: Status, before: Status | None) -> dict[int, Rates]:
    """Return the rates of each client that was there at both moments, by its number."""
    per_second = _per_second(now, before)
    if per_second is None or before is None:
        return {}
    known = {(client.number, client.connected_ns): client for client in before.clients}
    rates: dict[int, Rates] = {}
    for client in now.clients:
        if old := known.get((client.number, client.connected_ns)):
            rates[client.number] = Rates(
                received=per_second(client.received, old.received),
                delivered=per_second(client.delivered, old.delivered),
                dropped=per_second(client.dropped, old.dropped),
            )
    return rates


def _per_second(now: Status, before: Status | None) -> Callable[[int, int], float] | None:
    if before is None or before.hub.started_ns != now.hub.started_ns:
        return None
    seconds = (now.taken_ns - before.taken_ns) / 1e9
    return (lambda new, old: (new - old) / seconds) if seconds > 0 else None
