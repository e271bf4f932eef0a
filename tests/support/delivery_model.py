"""What a durable has to do, said once more and simply: what a test holds its cursor against.

Times are nanoseconds since 1970. A record is `new` until it was delivered, `out` until it is
settled or its ack wait is over, `waiting` for another try, then `done` or `dead`.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Literal, Self

from hms_bus.abc import Delivery, Durable, Record, Settlement
from hms_bus.log.durable.saved import Changes, Saved

SECOND = 10**9

Status = Literal["new", "out", "waiting", "done", "dead"]


class Kept:
    """What is known of one record."""

    __slots__ = ("attempts", "deaths", "due_ns", "is_refused", "owner", "redriven", "status")

    def __init__(self) -> None:
        self.status: Status = "new"
        self.attempts = 0
        self.due_ns = 0
        self.owner: str | None = None
        self.redriven = False
        self.is_refused = False
        """Whether somebody has said that it shall come again: then an ack is too late."""
        self.deaths = 0

    @property
    def is_unacked(self) -> bool:
        """Whether it was delivered and is not settled."""
        return self.status in {"out", "waiting"}


class DeliveryModel:
    """The records that a durable selects, by position, and what became of each."""

    def __init__(self, durable: Durable) -> None:
        self.durable = durable
        self.records: dict[int, Record] = {}
        self.kept: dict[int, Kept] = {}

    def copy(self) -> Self:
        """Return what would be found after a crash, if this were kept."""
        twin = copy.copy(self)
        twin.kept = {position: copy.copy(kept) for position, kept in self.kept.items()}
        return twin

    def add(self, record: Record) -> None:
        """Append a record."""
        self.records[record.position] = record
        self.kept[record.position] = Kept()

    def deaths(self) -> Counter[int]:
        """Return how many dead letters there are of each position."""
        return Counter({position: kept.deaths for position, kept in self.kept.items()})

    def at(self, *statuses: Status) -> list[int]:
        """Return the positions that stand so."""
        return [position for position, kept in self.kept.items() if kept.status in statuses]

    def is_expired(self, position: int, now_ns: int) -> bool:
        """Whether nobody should handle it any more: it may be gone without a trace."""
        expires_ns = self.records[position].envelope.expires_ns
        return expires_ns is not None and expires_ns <= now_ns

    def rivals(self, position: int) -> Iterator[int]:
        """Yield the other positions with the same key."""
        key = self.records[position].envelope.partitionkey
        for other, record in self.records.items():
            if key is not None and other != position and record.envelope.partitionkey == key:
                yield other

    # -- what happens --------------------------------------------------------------------------

    def pass_time(self, now_ns: int) -> None:
        """Let what is due wait for another try, or be dead when that was the last one."""
        for kept in self.kept.values():
            if kept.status == "out" and kept.due_ns <= now_ns:
                if self._is_last(kept):
                    self._die(kept)
                else:
                    kept.status = "waiting"

    def deliver(self, delivery: Delivery, owner: str, now_ns: int) -> None:
        """Check that a delivery is due, and note it."""
        position = delivery.record.position
        kept = self.kept[position]
        what = f"position {position}, {kept.status} after {kept.attempts}"
        assert delivery.record == self.records[position]
        assert not self.is_expired(position, now_ns), f"{what}: has expired"
        assert kept.status in {"new", "waiting"}, f"{what}: was delivered"
        assert kept.status == "new" or kept.due_ns <= now_ns, f"{what}: was delivered too early"
        assert delivery.attempt == kept.attempts + 1, f"{what}: as attempt {delivery.attempt}"
        for rival in self.rivals(position):
            its = self.kept[rival]
            may_be_gone = self.is_expired(rival, now_ns)
            is_before = its.status == "new" and rival < position
            assert not its.is_unacked or may_be_gone, f"{what}: {rival} of the same key is unacked"
            assert not is_before or its.redriven or may_be_gone, f"{what}: comes before {rival}"
        kept.status, kept.owner, kept.is_refused = "out", owner, False
        kept.attempts += 1
        kept.due_ns = now_ns + round(self.durable.ack_wait_s * SECOND)

    def settle(self, settlement: Settlement, now_ns: int) -> None:
        """Note what became of a delivery."""
        kept = self.kept[settlement.position]
        if not kept.is_unacked or kept.attempts != settlement.attempt:
            return
        match settlement.outcome:
            case "ack":
                kept.status = kept.status if kept.is_refused else "done"
            case _ if kept.status != "out":
                pass
            case "progress":
                kept.due_ns = now_ns + round(self.durable.ack_wait_s * SECOND)
            case "term":
                self._die(kept)
            case "nak" if self._is_last(kept):
                self._die(kept)
            case "nak":
                self._refuse(kept, now_ns + round(settlement.delay_s * SECOND))
            case "defer":
                kept.attempts -= 1
                self._refuse(kept, now_ns + round(settlement.delay_s * SECOND))

    def hand_back(self, owner: str, now_ns: int) -> None:
        """Take back, uncounted, what one holds."""
        for kept in self.kept.values():
            if kept.status == "out" and kept.owner == owner:
                self._take_back(kept, now_ns)

    def take_back(self, delivery: Delivery, now_ns: int) -> None:
        """Take back, uncounted, what nobody was given."""
        kept = self.kept[delivery.record.position]
        if kept.status == "out" and kept.attempts == delivery.attempt:
            self._take_back(kept, now_ns)

    def abandon(self, owner: str) -> None:
        """Forget who holds what."""
        for kept in self.kept.values():
            if kept.owner == owner:
                kept.owner = None

    def redrive(self, position: int) -> None:
        """Let a dead one begin anew."""
        kept = self.kept[position]
        kept.status, kept.attempts, kept.redriven = "new", 0, True

    def restart(self, saved: Saved) -> None:
        """Take over when what is out is due, as far as it was kept exactly."""
        due = {row.position: row.due_ns for row in saved.rows}
        otherwise = saved.delivered_ns + round(saved.durable.ack_wait_s * SECOND)
        for position, kept in self.kept.items():
            kept.owner, kept.is_refused = None, False
            if kept.status == "out":
                known_ns = due.get(position, otherwise)
                assert known_ns >= kept.due_ns, f"{position} would come too early"
                kept.due_ns = known_ns

    def _is_last(self, kept: Kept) -> bool:
        most = self.durable.max_deliveries
        return most is not None and kept.attempts >= most

    def _take_back(self, kept: Kept, now_ns: int) -> None:
        kept.attempts -= 1
        self._refuse(kept, now_ns)

    def _die(self, kept: Kept) -> None:
        kept.status = "dead"
        kept.deaths += 1

    def _refuse(self, kept: Kept, due_ns: int) -> None:
        kept.status, kept.owner, kept.is_refused = "waiting", None, True
        kept.due_ns = due_ns


def apply(saved: Saved, changes: Changes) -> Saved:
    """Return what is kept after `changes`."""
    rows = {row.position: row for row in (*saved.rows, *changes.written)}
    for position in changes.removed:
        rows.pop(position, None)
    return Saved(
        durable=changes.durable,
        floor=changes.floor,
        delivered=changes.delivered,
        delivered_ns=changes.delivered_ns,
        rows=tuple(rows[position] for position in sorted(rows)),
    )
