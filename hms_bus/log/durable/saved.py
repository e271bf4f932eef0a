"""What a log keeps of a durable between two commits, and between two processes."""

from enum import IntEnum

from msgspec import Struct

from hms_bus.abc import Durable

MOST_COUNTED = 1_000_000
"""How many records that a durable has not delivered are counted at most."""


class State(IntEnum):
    """What a row says of one position. A position that was delivered and has none is out, once."""

    OUT = 1
    """Delivered for the `attempts`-th time; delivered again at `due_ns`."""
    WAITING = 2
    """To be delivered again at `due_ns`; so far `attempts` times."""
    PARKED = 3
    """Not delivered: an earlier record with the same key is not settled."""
    DONE = 4
    """Settled, behind one that is not."""
    DEAD = 5
    """Became a dead letter; can be redriven."""


class Row(Struct, frozen=True, gc=False):
    """The state of one position. One that was redriven is delivered though it has expired."""

    position: int
    state: State
    attempts: int
    due_ns: int
    is_redriven: bool = False


class Saved(Struct, frozen=True, kw_only=True):
    """A durable as it is kept.

    All positions up to `floor` that it selects are settled, those in `rows` excepted. `delivered`
    is the last position that was handed out, at `delivered_ns` or before.
    """

    durable: Durable
    floor: int
    delivered: int
    delivered_ns: int
    rows: tuple[Row, ...] = ()


class Changes(Struct, frozen=True, kw_only=True):
    """What is to be kept from now on: `written` replaces rows, `removed` names those that go."""

    durable: Durable
    floor: int
    delivered: int
    delivered_ns: int
    written: tuple[Row, ...] = ()
    removed: tuple[int, ...] = ()


class KeptDurable:
    """A durable as it is kept in memory."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._last: Changes | None = None

    def apply(self, changes: Changes) -> None:
        """Keep `changes`."""
        self._last = changes
        self._rows.update((row.position, row) for row in changes.written)
        for position in changes.removed:
            self._rows.pop(position, None)

    def saved(self) -> Saved | None:
        """Return it as it is now; `None` before anything was kept."""
        if self._last is None:
            return None
        return Saved(
            durable=self._last.durable,
            floor=self._last.floor,
            delivered=self._last.delivered,
            delivered_ns=self._last.delivered_ns,
            rows=tuple(self._rows[position] for position in sorted(self._rows)),
        )
