"""A durable's cursor against a simple model: whatever happens, in whatever order, and crashes."""

from collections import Counter
from collections.abc import Sequence
from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from hms_bus.abc import Delivery, Durable, Outcome, Record, Settlement
from hms_bus.ids import format_time
from hms_bus.log.durable.cursor import Cursor, Dead
from hms_bus.log.durable.saved import Changes, Saved, State
from tests.support.delivery_model import SECOND, DeliveryModel, apply
from tests.support.events import event

BEGIN_NS = 2 * 10**18
DURABLE = Durable(name="d", pattern=">", ack_wait_s=10, max_deliveries=3, max_unacked=4)
OWNERS = ("one", "two", "three")
OUTCOMES: Sequence[Outcome] = ("ack", "ack", "nak", "term", "progress", "defer")


class Keeping(Struct):
    """A step that is under way: what it keeps, and whom it lets have their deliveries."""

    changes: Changes
    dead: list[Dead]
    model: DeliveryModel
    waiting: list[Delivery]


class CursorMachine(RuleBasedStateMachine):
    """Does to a cursor what its engine does, and what may befall the process meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = BEGIN_NS
        self.model = DeliveryModel(DURABLE)
        self.on_disk = self.model.copy()
        self.letters: Counter[int] = Counter()
        self.saved: Saved = Saved(durable=DURABLE, floor=0, delivered=0, delivered_ns=0)
        self.cursor = Cursor(self.saved, is_new=True)
        self.fed = 0
        self.waiting: list[Delivery] = []
        self.handed: list[Delivery] = []
        self.keeping: Keeping | None = None
        self._ids = count()

    # -- the world -----------------------------------------------------------------------------

    @rule(
        key=st.sampled_from(["a", "b", None]),
        gap=st.integers(1, 3),
        life_s=st.none() | st.integers(-5, 60),
    )
    def append(self, key: str | None, gap: int, life_s: int | None) -> None:
        expires = None if life_s is None else format_time(self.now_ns + life_s * SECOND)
        position = max(self.model.records, default=0) + gap
        envelope = event(partitionkey=key, expirytime=expires, id=str(next(self._ids)))
        record = Record(position=position, recorded_ns=self.now_ns, envelope=envelope)
        self.model.add(record)
        self.on_disk.add(record)
        if self.keeping is not None:
            self.keeping.model.add(record)

    @rule(most=st.integers(1, 5))
    def feed(self, most: int) -> None:
        records = [record for at, record in self.model.records.items() if at > self.fed][:most]
        self.cursor.feed(records)
        self.fed = records[-1].position if records else self.fed

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND

    # -- consumers -----------------------------------------------------------------------------

    @rule(owner=st.sampled_from(OWNERS), limit=st.integers(1, 5))
    def take(self, owner: str, limit: int) -> None:
        self.model.pass_time(self.now_ns)
        taken = self.cursor.take(limit, self.now_ns, owner)
        assert len(taken) <= limit
        for delivery in taken:
            self.model.deliver(delivery, owner, self.now_ns)
        self.waiting += taken

    @precondition(lambda self: self.handed)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), delay_s=st.sampled_from([0, 0, 7]))
    def settle(self, data: st.DataObject, outcome: Outcome, delay_s: int) -> None:
        delivery = data.draw(st.sampled_from(self.handed[-8:]), "delivery")
        settlement = Settlement(
            position=delivery.record.position,
            attempt=delivery.attempt,
            outcome=outcome,
            delay_s=delay_s,
        )
        self.cursor.settle(settlement, self.now_ns)
        self.model.settle(settlement, self.now_ns)

    @rule(owner=st.sampled_from(OWNERS))
    def hand_back(self, owner: str) -> None:
        self.cursor.hand_back(owner, self.now_ns)
        self.model.hand_back(owner, self.now_ns)

    @rule(owner=st.sampled_from(OWNERS))
    def abandon(self, owner: str) -> None:
        self.cursor.abandon(owner)
        self.model.abandon(owner)

    @precondition(lambda self: self.waiting)
    @rule()
    def cancel_the_fetch(self) -> None:
        self._take_back(self.waiting)
        self.waiting = []

    @precondition(lambda self: self.cursor.dead_positions)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        dead = data.draw(st.sets(st.sampled_from(sorted(self.cursor.dead_positions)), min_size=1))
        self.cursor.redrive([self.model.records[at] for at in sorted(dead)])
        for position in dead:
            self.model.redrive(position)

    # -- keeping -------------------------------------------------------------------------------

    @precondition(lambda self: self.keeping is None)
    @rule()
    def begin_to_keep(self) -> None:
        dead, self.cursor.dead = self.cursor.dead, []
        changes = self.cursor.changes()
        self.keeping = Keeping(changes, dead, self.model.copy(), self.waiting)
        self.waiting = []

    @precondition(lambda self: self.keeping is not None)
    @rule()
    def keep(self) -> None:
        step = self._end_step()
        self._commit(step)
        self.handed += step.waiting

    @precondition(lambda self: self.keeping is not None)
    @rule()
    def fail_to_keep(self) -> None:
        step = self._end_step()
        self.cursor.not_kept(step.changes, step.dead)
        self._take_back(step.waiting)

    @rule(committed=st.booleans())
    def crash(self, committed: bool) -> None:
        if self.keeping is not None:
            step = self._end_step()
            if committed:
                self._commit(step)
        self.waiting = []
        self.model = self.on_disk.copy()
        self.model.restart(self.saved)
        self.cursor = Cursor(self.saved)
        singles, between = self.cursor.missing()
        wanted = [*singles, *between]
        self.cursor.restore(self.model.records[at] for at in wanted if at in self.model.records)
        self.fed = self.cursor.delivered

    def _end_step(self) -> Keeping:
        step, self.keeping = self.keeping, None
        assert step is not None
        return step

    def _commit(self, step: Keeping) -> None:
        self.saved = apply(self.saved, step.changes)
        self.on_disk = step.model
        self.letters.update(dead.record.position for dead in step.dead)
        assert self.letters == self.on_disk.deaths(), "dead letters"

    def _take_back(self, deliveries: Sequence[Delivery]) -> None:
        self.cursor.take_back(deliveries, self.now_ns)
        for delivery in deliveries:
            self.model.take_back(delivery, self.now_ns)

    # -- what always holds ---------------------------------------------------------------------

    @invariant()
    def no_more_than_the_limit_are_unacked(self) -> None:
        unacked = self.model.at("out", "waiting")
        certain = [at for at in unacked if not self.model.is_expired(at, self.now_ns)]
        assert len(certain) <= self.cursor.unacked <= min(len(unacked), DURABLE.max_unacked)

    @invariant()
    def the_floor_passes_nothing_that_is_not_settled(self) -> None:
        for model, floor in ((self.model, self.cursor.floor), (self.on_disk, self.saved.floor)):
            for position in model.at("new", "out", "waiting"):
                may_be_gone = model.is_expired(position, self.now_ns)
                is_below = position <= floor and not model.kept[position].redriven
                assert not is_below or may_be_gone, f"{position} is below the floor {floor}"

    @invariant()
    def what_is_due_is_known(self) -> None:
        unacked = self.model.at("out")
        due_ns = self.cursor.next_due_ns()
        for position in unacked:
            if not self.model.is_expired(position, self.now_ns):
                assert due_ns is not None
                assert due_ns <= self.model.kept[position].due_ns

    def teardown(self) -> None:
        """All that is not settled comes, and in the end nothing is left but the dead."""
        self.crash(committed=True)
        last = max(self.model.records, default=0)
        for _ in range(4 * len(self.model.records) + 4):
            self.now_ns += round(DURABLE.ack_wait_s) * SECOND
            self.feed(5)
            self.take("one", 5)
            self.begin_to_keep()
            step = self.keeping
            self.keep()
            for delivery in step.waiting if step else ():
                settlement = Settlement(
                    position=delivery.record.position, attempt=delivery.attempt, outcome="ack"
                )
                self.cursor.settle(settlement, self.now_ns)
                self.model.settle(settlement, self.now_ns)
        self.begin_to_keep()
        self.keep()
        left = self.model.at("new", "out", "waiting")
        assert all(self.model.is_expired(position, self.now_ns) for position in left)
        assert self.cursor.unacked == 0
        rows = {row.position: row.state for row in self.saved.rows}
        assert rows == dict.fromkeys(self.model.at("dead"), State.DEAD)
        assert self.cursor.floor == self.cursor.delivered == last


TestCursor = CursorMachine.TestCase
