"""Checks: event sourcing on a log: streams, aggregates, old events, snapshots."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw, Struct
from msgspec.structs import replace

from hms_bus.abc import EventLog
from hms_bus.bus import Message
from hms_bus.errors import ConflictError, DecodeError
from hms_bus.sourcing import (
    MemorySnapshots,
    Repository,
    Snapshot,
    Streams,
    aggregate,
    applies,
    emit,
    event,
    event_type,
    upcast,
)
from hms_bus.testing.conformance.appending import event as envelope
from hms_bus.testing.conformance.probes import Gate, Seen, equal, raises, read, take, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")
of_a_bus = checks_of("logged")

MANY = 8
"""How many decide at once: fewer than the attempts that `Repository.change` makes."""


class Deposited(Struct, frozen=True):
    """What happened to an account."""

    amount: int


class Withdrawn(Struct, frozen=True):
    """What happened to an account."""

    amount: int


@event(version=3)
class Moved(Struct, frozen=True):
    """What was `Moved` with an `amount` once, then `Moved.v2` with `cents`."""

    cents: int
    currency: str


@upcast(Moved, version=1)
def _in_cents(data: dict[str, Any]) -> dict[str, Any]:
    return {"cents": data["amount"] * 100}


@upcast(Moved, version=2)
def _in_euros(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


@dataclass
class Account:
    """What its events add up to; `account_of` makes it an aggregate."""

    balance: int = 0
    history: list[int] = field(default_factory=list[int])

    def deposit(self, amount: int) -> None:
        """Decide that there is more."""
        emit(self, Deposited(amount))

    def withdraw(self, amount: int) -> None:
        """Decide that there is less. Raises `ValueError` when there is not so much."""
        if amount > self.balance:
            raise ValueError(f"only {self.balance} left")
        emit(self, Withdrawn(amount))

    @applies(Deposited)
    def deposited(self, event: Deposited) -> None:
        """There is more."""
        self.balance += event.amount
        self.history.append(event.amount)

    @applies(Withdrawn)
    def withdrawn(self, event: Withdrawn) -> None:
        """There is less."""
        self.balance -= event.amount
        self.history.append(-event.amount)


def account_of(subject: Subject, *, version: int | None = None) -> type[Account]:
    """Return the accounts of this check, whose topics are its own."""

    @aggregate(subject.topic("accounts.{id}"), version=version)
    @dataclass
    class Own(Account):
        pass

    return Own


def repository_of(
    subject: Subject, log: EventLog, snapshots: MemorySnapshots | None = None
) -> Repository:
    """Return a repository that knows nothing yet; with `snapshots` it keeps one at each edit."""
    return Repository(log, source=subject.source, snapshots=snapshots, snapshot_every=1)


# -- streams -----------------------------------------------------------------------------------


@check("log-expect", "log-batch")
async def a_streams_version_is_its_last_position(subject: Subject) -> None:
    """A stream is appended to at the version that was loaded, whatever other streams do."""
    topic, other = subject.topic("accounts.1"), subject.topic("accounts.2")
    async with subject.open_log() as log:
        streams = Streams(log, [Deposited], source=subject.source)
        equal((await streams.load(topic)).position, 0, "version of a stream without events")
        first = await streams.append(topic, [Deposited(1), Deposited(2)], expect=0)
        await streams.append(other, [Deposited(9)], expect=0)
        equal((await streams.load(topic)).position, first, "version of the stream")
        last = await streams.append(topic, [Deposited(3)], expect=first)
        that(last > first + 1, "the other stream has no place between them")
        for wrong in (0, first - 1, first, last + 1):
            with raises(ConflictError, f"append to version {wrong}") as caught:
                await streams.append(topic, [Deposited(4), Deposited(5)], expect=wrong)
            equal(caught.error.actual, last, "version in the error")
        stream = await streams.load(topic)
        equal(stream.events, tuple(map(Deposited, (1, 2, 3))), "events")
        equal(stream.records[-1].position, stream.position, "position of the last record")


@check("log-expect")
async def who_decides_on_an_old_version_changes_nothing(subject: Subject) -> None:
    """Of two who decide on the same version one wins, the other gets ConflictError."""
    cls = account_of(subject)
    async with subject.open_log() as log:
        slow, quick = repository_of(subject, log), repository_of(subject, log)
        await slow.change(cls, "1", lambda account: account.deposit(5))
        with raises(ConflictError, "an edit of an old version"):
            async with slow.edit(cls, "1") as account:
                account.withdraw(5)
                await quick.change(cls, "1", lambda other: other.withdraw(4))
        loaded = await slow.load(cls, "1")
        equal(loaded.state.history, [5, -4], "events")


@check("log-expect")
async def who_loses_decides_again(subject: Subject) -> None:
    """All that decide at once succeed in the end, each on what is true by then, and count."""
    cls, gate, loaded = account_of(subject), Gate(), Seen[int]()
    async with subject.open_log() as log:

        async def deposit(amount: int) -> int:
            repository = repository_of(subject, log)
            decided = 0

            async def decide(account: Account) -> int:
                nonlocal decided
                decided += 1
                loaded.add(amount)
                await gate.passing()
                account.deposit(amount)
                return decided

            return await repository.change(cls, "1", decide)

        deciding = asyncio.gather(*map(deposit, range(1, MANY + 1)))
        await loaded.reach(MANY, "loaded")
        gate.open()
        decisions = await within(deciding, "decisions")
        equal(sorted(decisions)[:2], [1, 2], "decisions of the two that were quickest")
        account = (await repository_of(subject, log).load(cls, "1")).state
        equal(sorted(account.history), list(range(1, MANY + 1)), "what counts")


# -- aggregates --------------------------------------------------------------------------------


@check("log-expect", "log-batch")
async def an_aggregate_is_its_events(subject: Subject) -> None:
    """Who loads an aggregate gets what its events add up to, in their order, and nothing else."""
    cls = account_of(subject)
    async with subject.open_log() as log:
        repository = repository_of(subject, log)
        async with repository.edit(cls, "1") as account:
            account.deposit(5)
            account.deposit(7)
            account.withdraw(3)
        await repository.change(cls, "2", lambda account: account.deposit(100))
        loaded = await repository_of(subject, log).load(cls, "1")
        equal(loaded.state, account, "the aggregate that was loaded")
        equal(loaded.state.history, [5, 7, -3], "events in order")
        records = await read(log, pattern=subject.topic("accounts.1"))
        equal([r.envelope.type for r in records], ["Deposited"] * 2 + ["Withdrawn"], "types")
        equal(loaded.position, records[-1].position, "version of the aggregate")


@check("log-expect", "log-batch")
async def an_edit_that_fails_leaves_nothing(subject: Subject) -> None:
    """What was decided before the edit raised, or met a conflict, is not in the log."""
    cls = account_of(subject)
    async with subject.open_log() as log:
        repository = repository_of(subject, log)
        with raises(ValueError, "an edit that fails"):
            async with repository.edit(cls, "1") as account:
                account.deposit(5)
                account.withdraw(6)
        with raises(ConflictError, "an edit of an old version"):
            async with repository.edit(cls, "1") as account:
                account.deposit(5)
                account.withdraw(4)
                await repository.change(cls, "1", lambda other: other.deposit(1))
        equal((await repository.load(cls, "1")).state.history, [1], "events")
        equal(len(await read(log, pattern=subject.topic(">"))), 1, "number of records")


@check("log-expect", "log-survives-process")
async def an_aggregate_outlives_the_log_that_is_closed(subject: Subject) -> None:
    """State and version are the same when the log is opened again, and still compared."""
    cls = account_of(subject)
    async with subject.open_log() as log:
        await repository_of(subject, log).change(cls, "1", lambda account: account.deposit(5))
        before = await repository_of(subject, log).load(cls, "1")
    async with subject.open_log() as log:
        repository = repository_of(subject, log)
        equal(await repository.load(cls, "1"), before, "the aggregate")
        await repository.change(cls, "1", lambda account: account.withdraw(2))
        streams = Streams(log, [Deposited], source=subject.source)
        with raises(ConflictError, "append to the version before"):
            await streams.append(
                subject.topic("accounts.1"), [Deposited(9)], expect=before.position
            )
        equal((await repository.load(cls, "1")).state.history, [5, -2], "events")


# -- events that have changed ------------------------------------------------------------------


@check()
async def old_events_are_lifted(subject: Subject) -> None:
    """An event of an older type is read as the newest; the log keeps it as it was written."""
    topic = subject.topic("a")
    async with subject.open_log() as log:
        for type_, text in (
            ("Moved", b'{"amount":5}'),
            ("Moved.v2", b'{"cents":700}'),
            (event_type(Moved), b'{"cents":9,"currency":"CHF"}'),
        ):
            await log.append([envelope(subject, Raw(text), type=type_)])
        stream = await Streams(log, [Moved], source=subject.source).load(topic)
        expected = (Moved(500, "EUR"), Moved(700, "EUR"), Moved(9, "CHF"))
        equal(stream.events, expected, "events")
        kept = [(r.envelope.type, r.envelope.decode()) for r in await read(log, pattern=topic)]
        equal(kept[0], ("Moved", {"amount": 5}), "the oldest record")


@check()
async def an_unknown_event_is_not_passed_over(subject: Subject) -> None:
    """A stream with an event of no known class, or of a newer version, is not loaded."""
    async with subject.open_log() as log:
        for topic, type_ in (("a", "Merged"), ("b", "Moved.v4"), ("c", "Deposited.v2")):
            await log.append([envelope(subject, Deposited(1), topic)])
            await log.append([envelope(subject, {"amount": 1}, topic, type=type_)])
            streams = Streams(log, [Deposited, Moved], source=subject.source)
            with raises(DecodeError, f"loading a stream with {type_!r}"):
                await streams.load(subject.topic(topic))


# -- snapshots ---------------------------------------------------------------------------------


@check("log-expect")
async def a_snapshot_stands_for_what_came_before_it(subject: Subject) -> None:
    """With a snapshot that fits, loading adds up only what came after it."""
    cls, snapshots = account_of(subject), MemorySnapshots()
    async with subject.open_log() as log:
        repository = repository_of(subject, log, snapshots)
        await repository.change(cls, "1", lambda account: account.deposit(5))
        kept = await _snapshot(subject, snapshots)
        await snapshots.drop()
        await snapshots.save(replace(kept, state=b'{"balance":50,"history":[50]}'))
        bare = repository_of(subject, log)
        await bare.change(cls, "1", lambda account: account.deposit(1))
        equal((await repository.load(cls, "1")).state.history, [50, 1], "with the snapshot")
        equal((await bare.load(cls, "1")).state.history, [5, 1], "without it")


@check("log-expect")
async def a_snapshot_that_does_not_fit_is_dropped(subject: Subject) -> None:
    """A snapshot of other code, another log or another shape is deleted and changes nothing."""
    snapshots = MemorySnapshots()
    async with subject.open_log() as log:
        old, new = account_of(subject, version=1), account_of(subject, version=2)
        repository = repository_of(subject, log, snapshots)
        await repository.change(old, "1", lambda account: account.deposit(5))
        kept = await _snapshot(subject, snapshots)
        false = replace(kept, state=b'{"balance":50,"history":[50]}')
        for cls, wrong in (
            (new, false),
            (old, replace(false, event_id="of-another-log")),
            (old, replace(false, position=kept.position + 1)),
            (old, replace(false, state=b'{"balance":"all"}')),
        ):
            await snapshots.drop()
            await snapshots.save(wrong)
            loaded = await repository.load(cls, "1")
            equal((loaded.state.history, loaded.position), ([5], kept.position), "the aggregate")
            equal(await snapshots.load(kept.topic), None, "the snapshot")


async def _snapshot(subject: Subject, snapshots: MemorySnapshots) -> Snapshot:
    kept = await snapshots.load(subject.topic("accounts.1"))
    if kept is None:
        raise AssertionError("no snapshot was kept")
    return kept


# -- through a bus -----------------------------------------------------------------------------


@of_a_bus("log-expect", "log-batch", survives={"delay"})
async def what_an_aggregate_decides_is_published(subject: Subject) -> None:
    """Subscribers get the events of an edit in order, and nothing of one that failed."""
    cls = account_of(subject)
    async with (
        subject.bus(log=subject.log_url) as bus,
        subject.publisher(log=None, logged=[]) as other,
        other.subscribe(subject.topic("accounts.*")) as messages,
    ):
        repository = Repository(bus)
        async with repository.edit(cls, "1") as account:
            account.deposit(5)
            account.withdraw(1)
        with raises(ConflictError, "an edit of an old version"):
            async with repository.edit(cls, "1") as account:
                account.deposit(100)
                await repository.change(cls, "1", lambda other: other.withdraw(2))
        got = await take(messages, 3)
        equal([m.type for m in got], ["Deposited", "Withdrawn", "Withdrawn"], "types")
        equal([m.data["amount"] for m in got], [5, 1, 2], "amounts")


@of_a_bus("log-expect", survives={"delay", "reorder", "duplicate"})
async def an_event_names_the_message_that_caused_it(subject: Subject) -> None:
    """What an aggregate decides in a handler is caused by the message that is handled."""
    cls, topic, done = account_of(subject), subject.topic("pay"), Seen[str]()
    bus = subject.bus(log=subject.log_url)
    repository = Repository(bus)

    @bus.subscribe(topic)
    async def pay(amount: int, message: Message) -> None:
        await repository.change(cls, message.id, lambda account: account.deposit(amount))
        done.add(message.id)

    async with bus, subject.publisher(log=None, logged=[]) as sender:
        paid = await sender.publish(topic, 5)
        await done.reach(1)
        records = await read(bus.log, pattern=subject.topic(f"accounts.{paid.id}"), limit=1)
        equal([r.envelope.causationid for r in records], [paid.id], "cause")
        equal([r.envelope.correlationid for r in records], [paid.id], "conversation")
