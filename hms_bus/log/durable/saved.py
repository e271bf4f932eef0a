"""What a log keeps of a durable between two commits, and between two processes."""

from enum import IntEnum

from msgspec import Struct

from hms_bus.abc import Durable


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

    @property
    def is_open(self) -> bool:
        """Whether it was delivered and is not settled."""
        return self in {State.OUT, State.WAITING}


class Row(Struct, frozen=True, gc=False):
    """The state of one position."""

    position: int
    state: State
    attempts: int
    due_ns: int


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


def apply(saved: Saved | None, changes: Changes) -> Saved:
    """Return what is kept after `changes`."""
    rows = {row.position: row for row in saved.rows} if saved else {}
    rows |= {row.position: row for row in changes.written}
    for position in changes.removed:
        rows.pop(position, None)
    return Saved(
        durable=changes.durable,
        floor=changes.floor,
        delivered=changes.delivered,
        delivered_ns=changes.delivered_ns,
        rows=tuple(rows[position] for position in sorted(rows)),
    )
