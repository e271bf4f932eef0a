"""What one durable has delivered, and what became of it: pure state, no I/O and no clock.

Every call that could depend on the time is given it, in nanoseconds since 1970. What has to be kept
is collected until `changes` is asked for it, in the same step as the dead letters.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain

from msgspec import Raw, Struct
from msgspec.structs import replace

from hms_bus.abc import Delivery, Durable, Record, Settlement
from hms_bus.log.durable.saved import Changes, Row, Saved, State

READ_AHEAD = 1024
"""Records that are held ready beyond those that are not settled."""

MOST_BETWEEN = 4096
"""Positions that may lie between the first that is not settled and the last that was taken."""

READ_AHEAD_BYTES = 4 * 2**20
"""No more is read once their payloads have that many bytes."""


_LATEST_NS = 2**63 - 1

_SET_BACK_NS = 10**9
"""From how far back on a clock was set, and does not just waver."""


class Dead(Struct, frozen=True, kw_only=True):
    """A record that will not be delivered any more, and why."""

    record: Record
    attempts: int
    code: str
    reason: str


class _Held:
    """A record that was delivered and is not settled: out, or waiting for another try."""

    __slots__ = ("attempts", "due_ns", "is_out", "is_refused", "owner", "record")

    def __init__(
        self, record: Record, attempts: int, due_ns: int, owner: object, *, is_out: bool
    ) -> None:
        self.record = record
        self.attempts = attempts
        self.due_ns = due_ns
        self.owner = owner
        self.is_out = is_out
        self.is_refused = False
        """Whether its last delivery was settled: by being refused."""


class Cursor:
    """The state of one durable. `fed` is the last position that it was given to read.

    Records are fed in the order of positions, those that the durable selects only. The first fed is
    the first behind `delivered`; what lies before was given to `restore`.
    """

    def __init__(self, saved: Saved, *, is_new: bool = False) -> None:
        self.durable = saved.durable
        self.floor = saved.floor
        self.fed = self.delivered = saved.delivered
        self.dead: list[Dead] = []
        self._delivered_ns = self._now_ns = saved.delivered_ns
        self._saved_rows = {row.position: row for row in saved.rows}
        self._held: dict[int, _Held] = {}
        self._ready: deque[Record] = deque()
        self._again: list[int] = []
        """Positions of held ones that are due again, a heap."""
        self._freed: list[tuple[int, Record]] = []
        """What was parked and is the next of its key, a heap."""
        self._due: list[tuple[int, int, int]] = []
        """`(due_ns, position, attempts)`; an entry that does not fit the held one is void."""
        self._keys: dict[str, deque[Record]] = {}
        """The keys of what is held, with what is parked behind it."""
        self._parked = 0
        self._queued_bytes = 0
        """About how large the ready and the parked ones are."""
        self._order: deque[int] = deque()
        """Positions that were taken or parked and lie behind the floor, in order."""
        self._done: set[int] = set()
        self._dead_positions = {row.position for row in saved.rows if row.state is State.DEAD}
        self._late: set[int] = set()
        """Positions that are not settled although they lie before the floor."""
        self._redriven = {row.position for row in saved.rows if row.is_redriven}
        """Positions that were asked for again: they are delivered though they have expired."""
        self._dirty: set[int] = set()
        self._is_changed = is_new

    # -- beginning -----------------------------------------------------------------------------

    def missing(self) -> tuple[list[int], range]:
        """Return the positions, and the range of them, that `restore` needs the records of."""
        singles = sorted(
            row.position
            for row in self._saved_rows.values()
            if row.position <= self.floor and row.state is not State.DEAD
        )
        return singles, range(self.floor + 1, self.delivered + 1)

    def restore(self, records: Iterable[Record]) -> None:
        """Take the records of `missing`, in the order of positions, as they were left."""
        due_ns = _later(self._delivered_ns, self.durable.ack_wait_s)
        parked: list[Record] = []
        for record in records:
            position = record.position
            row = self._saved_rows.get(position) or Row(position, State.OUT, 1, due_ns)
            if position > self.floor:
                self._order.append(position)
            else:
                self._late.add(position)
            if row.state in {State.DONE, State.DEAD}:
                self._done.add(position)
            elif row.state is State.PARKED:
                parked.append(record)
            else:
                is_out = row.state is State.OUT
                self._hold(record, row.attempts, row.due_ns, None, is_out=is_out)
        for record in parked:  # a redriven one may wait for a later position
            self._queue(record)
        self._advance()

    def _queue(self, record: Record) -> None:
        """Let `record` be delivered when it is its key's turn, as if for the first time."""
        self._queued_bytes += _size(record)
        if not self._park(record):
            self._free(record)

    def _free(self, record: Record) -> None:
        """Let a parked record be the next of its key."""
        if (key := record.envelope.partitionkey) is not None:
            self._keys.setdefault(key, deque())
        heappush(self._freed, (record.position, record))

    # -- feeding -------------------------------------------------------------------------------

    @property
    def wants_records(self) -> bool:
        """Whether there is room for more ready ones."""
        return (
            len(self._ready) < READ_AHEAD // 2
            and self._parked < READ_AHEAD
            and self._queued_bytes < READ_AHEAD_BYTES
        )

    def feed(self, records: Sequence[Record]) -> None:
        """Take the next records."""
        self._ready.extend(records)
        self.fed = max((record.position for record in records[-1:]), default=self.fed)
        self._queued_bytes += sum(map(_size, records))

    # -- delivering ----------------------------------------------------------------------------

    @property
    def settled_to(self) -> int:
        """The position up to which all is settled, what was redriven excepted."""
        return min((self.floor, *(late - 1 for late in self._late - self._redriven)))

    @property
    def unacked(self) -> int:
        """How many were delivered and are not settled."""
        return len(self._held)

    @property
    def held_back(self) -> int:
        """How many at or before `delivered` were not delivered: they wait behind one of their key.

        Those that were redriven and wait are among them.
        """
        parked = (record for records in self._keys.values() for record in records)
        freed = (record for _, record in self._freed)
        return sum(record.position <= self.delivered for record in chain(parked, freed))

    @property
    def redelivered(self) -> int:
        """How many of those were delivered more than once."""
        return sum(held.attempts > 1 for held in self._held.values())

    def next_due_ns(self) -> int | None:
        """When something waits to be delivered again, at the latest; `None` for nothing."""
        while self._due and not self._is_valid(self._due[0]):
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def take(self, limit: int, now_ns: int, owner: object) -> list[Delivery]:
        """Hand out at most `limit` records to `owner`; what is due again comes first."""
        self._note_time(now_ns)
        self._collect_due(now_ns)
        taken: list[Delivery] = []
        while self._again and len(taken) < limit:
            held = self._held.get(heappop(self._again))
            if held is None or held.is_out:
                continue
            if held.due_ns <= now_ns:
                taken += self._deliver(held.record, held.attempts, now_ns, owner)
            else:  # the clock was put back, or it was put off again
                heappush(self._due, (held.due_ns, held.record.position, held.attempts))
        most = self.durable.max_unacked
        while self._freed and len(taken) < limit and len(self._held) < most:
            _, record = heappop(self._freed)
            self._queued_bytes -= _size(record)
            taken += self._deliver(record, 0, now_ns, owner)
        while self._ready and len(taken) < limit and len(self._held) < most:
            if self._parked >= READ_AHEAD:
                break
            record = self._ready.popleft()
            self._order.append(record.position)
            if len(self._order) > MOST_BETWEEN:
                self._pass_over()
            if not self._park(record):
                self._queued_bytes -= _size(record)
                taken += self._deliver(record, 0, now_ns, owner)
        return taken

    def _note_time(self, now_ns: int) -> None:
        """Learn the time, before anything is put off by it: all waits go by one clock."""
        if now_ns < self._now_ns - _SET_BACK_NS:
            self._set_back(self._now_ns - now_ns)
        self._now_ns = now_ns

    def _set_back(self, by_ns: int) -> None:
        """Let what waits wait no longer than it would have: the clock was set back."""
        for position, held in self._held.items():
            held.due_ns -= by_ns
            self._dirty.add(position)
        self._due = [(held.due_ns, at, held.attempts) for at, held in self._held.items()]
        heapify(self._due)
        self._again.clear()
        self._delivered_ns -= by_ns
        self._is_changed = True

    def _park(self, record: Record) -> bool:
        """Put `record` behind the unsettled one of its key, if there is one."""
        key = record.envelope.partitionkey
        if key is None or key not in self._keys:
            return False
        self._keys[key].append(record)
        self._parked += 1
        self._dirty.add(record.position)
        self._is_changed = True
        return True

    def _deliver(
        self, record: Record, attempts: int, now_ns: int, owner: object
    ) -> tuple[Delivery, ...]:
        position = record.position
        if (
            record.envelope.expirytime is not None
            and position not in self._redriven
            and ((expires_ns := record.envelope.expires_ns) is not None and expires_ns <= now_ns)
        ):
            self.delivered = max(self.delivered, position)
            self._end(record)
            return ()
        due_ns = _later(now_ns, self.durable.ack_wait_s)
        self._hold(record, attempts + 1, due_ns, owner, is_out=True)
        if attempts or position <= self.delivered or position in self._saved_rows:
            self._dirty.add(position)  # the others need no row: see `State`
        self.delivered = max(self.delivered, position)
        self._delivered_ns = now_ns
        self._is_changed = True
        return (Delivery(record=record, attempt=attempts + 1),)

    def _hold(
        self, record: Record, attempts: int, due_ns: int, owner: object, *, is_out: bool
    ) -> None:
        if (key := record.envelope.partitionkey) is not None:
            self._keys.setdefault(key, deque())
        self._held[record.position] = _Held(record, attempts, due_ns, owner, is_out=is_out)
        heappush(self._due, (due_ns, record.position, attempts))
        if len(self._due) > 2 * len(self._held) + READ_AHEAD:
            self._due = [entry for entry in self._due if self._is_valid(entry)]
            heapify(self._due)

    def _collect_due(self, now_ns: int) -> None:
        """Move what is due again to `_again`, or among the dead if that was its last attempt."""
        while self._due and self._due[0][0] <= now_ns:
            entry = heappop(self._due)
            if not self._is_valid(entry):
                continue
            held = self._held[entry[1]]
            if held.is_out and self._is_last(held.attempts):
                reason = (
                    f"not settled within {self.durable.ack_wait_s:g} s of the last delivery: its "
                    "handler took longer, or its process ended"
                )
                self._bury(held, "DEADLINE_EXCEEDED", reason)
                continue
            self._await_try(held, held.due_ns)
            heappush(self._again, entry[1])

    def _await_try(self, held: _Held, due_ns: int) -> None:
        held.is_out = False
        held.due_ns = due_ns
        held.owner = None
        self._dirty.add(held.record.position)
        self._is_changed = True

    def _is_valid(self, entry: tuple[int, int, int]) -> bool:
        due_ns, position, attempts = entry
        held = self._held.get(position)
        return held is not None and held.due_ns == due_ns and held.attempts == attempts

    def _is_last(self, attempts: int) -> bool:
        most = self.durable.max_deliveries
        return most is not None and attempts >= most

    # -- settling ------------------------------------------------------------------------------

    def settle(self, settlement: Settlement, now_ns: int) -> None:
        """Note what became of a delivery; one that is not the last of its position is void."""
        self._note_time(now_ns)
        held = self._held.get(settlement.position)
        if held is None or held.attempts != settlement.attempt:
            return
        outcome = settlement.outcome
        if held.is_refused:
            return
        if outcome == "ack":
            self._end(held.record)
        elif not held.is_out:
            return  # its ack wait is over: it will be delivered again
        elif outcome == "progress":
            self._extend(held, _later(now_ns, self.durable.ack_wait_s))
        elif outcome == "term" or (outcome == "nak" and self._is_last(held.attempts)):
            self._bury(held, settlement.code, settlement.reason)
        else:
            if outcome == "defer":
                held.attempts -= 1
            self._wait(held, _later(now_ns, settlement.delay_s))

    def hand_back(self, owner: object, now_ns: int) -> None:
        """Take back, uncounted, what `owner` holds."""
        self._note_time(now_ns)
        for held in list(self._held.values()):
            if held.owner is owner and held.is_out:
                held.attempts -= 1
                self._wait(held, now_ns)

    def take_back(self, deliveries: Iterable[Delivery], now_ns: int) -> None:
        """Take back, uncounted, what was never handed over."""
        self._note_time(now_ns)
        for delivery in deliveries:
            held = self._held.get(delivery.record.position)
            if held is not None and held.is_out and held.attempts == delivery.attempt:
                held.attempts -= 1
                self._wait(held, now_ns)

    def abandon(self, owner: object) -> None:
        """Forget who holds what `owner` does: its ack wait decides."""
        for held in self._held.values():
            if held.owner is owner:
                held.owner = None

    def redrive(self, records: Iterable[Record]) -> None:
        """Deliver dead letters again, as if for the first time."""
        for record in records:
            self._dead_positions.discard(record.position)
            self._redriven.add(record.position)
            if record.position <= self.floor:
                self._late.add(record.position)
            else:
                self._done.discard(record.position)
            self._queue(record)  # not held yet: `max_unacked` goes for it, too
            self._dirty.add(record.position)
            self._is_changed = True

    @property
    def dead_positions(self) -> frozenset[int]:
        """Positions that became dead letters and were not redriven since."""
        return frozenset(self._dead_positions)

    def _extend(self, held: _Held, due_ns: int) -> None:
        held.due_ns = due_ns
        heappush(self._due, (due_ns, held.record.position, held.attempts))
        self._dirty.add(held.record.position)
        self._is_changed = True

    def _wait(self, held: _Held, due_ns: int) -> None:
        self._await_try(held, due_ns)
        held.is_refused = True
        heappush(self._due, (due_ns, held.record.position, held.attempts))

    def _bury(self, held: _Held, code: str, reason: str) -> None:
        self.dead.append(Dead(record=held.record, attempts=held.attempts, code=code, reason=reason))
        self._dead_positions.add(held.record.position)
        self._end(held.record)

    def _end(self, record: Record) -> None:
        """Settle a position for good, and let the next one of its key go."""
        position = record.position
        self._held.pop(position, None)
        self._is_changed = True
        self._late.discard(position)
        self._redriven.discard(position)
        if position in self._saved_rows or position in self._dead_positions:
            self._dirty.add(position)
        if position > self.floor:
            self._done.add(position)
            if self._order and self._order[0] == position:
                self._advance()
            else:
                self._dirty.add(position)
        if (key := record.envelope.partitionkey) is None:
            return
        parked = self._keys.get(key)
        if parked:
            self._parked -= 1
            self._dirty.add(parked[0].position)
            self._free(parked.popleft())
        else:
            self._keys.pop(key, None)

    def _pass_over(self) -> None:
        """Leave the first unsettled position behind, with a row of its own.

        What is settled behind it needs none then: neither memory nor a restart grows with it.
        """
        self.floor = position = self._order.popleft()
        self.delivered = max(self.delivered, position)
        self._late.add(position)
        self._dirty.add(position)
        self._advance()

    def _advance(self) -> None:
        order, done = self._order, self._done
        while order and order[0] in done:
            self.floor = order.popleft()
            done.discard(self.floor)
            if self.floor in self._saved_rows:
                self._dirty.add(self.floor)

    # -- keeping -------------------------------------------------------------------------------

    @property
    def is_changed(self) -> bool:
        """Whether there is something to keep."""
        return self._is_changed

    def configure(self, durable: Durable) -> None:
        """Go by other waits and limits from now on; pattern and start stay."""
        durable = replace(durable, start=self.durable.start, start_ns=self.durable.start_ns)
        if durable != self.durable:
            self.durable = durable
            self._is_changed = True

    def changes(self) -> Changes:
        """Return what is to be kept since the last call; it is assumed to be kept from now on."""
        written: list[Row] = []
        removed: list[int] = []
        for position in self._dirty:
            row = self._row(position)
            if row is not None:
                written.append(row)
                self._saved_rows[position] = row
            elif self._saved_rows.pop(position, None) is not None:
                removed.append(position)
        self._dirty.clear()
        self._is_changed = False
        return Changes(
            durable=self.durable,
            floor=self.floor,
            delivered=self.delivered,
            delivered_ns=self._delivered_ns,
            written=tuple(written),
            removed=tuple(removed),
        )

    def not_kept(self, changes: Changes, dead: Sequence[Dead]) -> None:
        """Note that `changes` could not be kept: they, and `dead`, are among the next ones."""
        self._dirty.update(row.position for row in changes.written)
        self._dirty.update(changes.removed)
        self._saved_rows |= {
            position: Row(position, State.DONE, 0, 0) for position in changes.removed
        }
        self.dead[:0] = dead
        self._is_changed = True

    def _row(self, position: int) -> Row | None:
        held = self._held.get(position)
        is_redriven = position in self._redriven
        if held is not None:
            state = State.OUT if held.is_out else State.WAITING
            return Row(position, state, held.attempts, held.due_ns, is_redriven)
        if position in self._dead_positions:
            return Row(position, State.DEAD, 0, 0)
        if position in self._done:
            return Row(position, State.DONE, 0, 0)
        if position > self.floor or position in self._late:
            return Row(position, State.PARKED, 0, 0, is_redriven)
        return None


def _later(now_ns: int, wait_s: float) -> int:
    """Return the time after a wait, within what a log file holds; no number is no wait."""
    wait_ns = max(0.0, wait_s * 1e9)
    return now_ns + round(wait_ns) if wait_ns < _LATEST_NS - now_ns else _LATEST_NS


def _size(record: Record) -> int:
    """Return how many bytes the payload of a record that was read has; the rest is small."""
    data = record.envelope.data
    return len(bytes(data)) if type(data) is Raw else len(data) if type(data) is bytes else 0
