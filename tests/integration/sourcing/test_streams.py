"""Streams with expected versions, on every kind of log, and the aggregates that live in them."""

import asyncio
from pathlib import Path

import pytest

from hms_bus import Bus, ConflictError, Message, Selector
from hms_bus.errors import ConfigError, DecodeError, ProjectionError, TopicError
from hms_bus.log.tools import redact_log
from hms_bus.plugins import open_log
from hms_bus.sourcing import Elsewhere, Projection, Repository, Streams, decide_again
from tests.support.sourced import Account, Deposited, Opened, OverdrawnError, Withdrawn

EVENTS = [Opened, Deposited, Withdrawn]


async def test_a_stream_is_what_was_appended_to_its_topic(bus: Bus) -> None:
    streams = Streams(bus, EVENTS)
    empty = await streams.load("accounts.1")
    assert (empty.position, empty.events) == (0, ())
    first = await streams.append("accounts.1", [Opened("ann"), Deposited(5)], expect=0)
    await streams.append("accounts.2", [Opened("bob")], expect=0)
    last = await streams.append("accounts.1", [Withdrawn(2)], expect=first)
    stream = await streams.load("accounts.1")
    assert stream.events == (Opened("ann"), Deposited(5), Withdrawn(2))
    assert [record.position for record in stream.records] == [first - 1, first, last]
    assert stream.position == last
    assert (await streams.load("accounts.1", first=last)).events == (Withdrawn(2),)


@pytest.mark.parametrize("wrong", [0, 1, 3])
async def test_an_append_to_another_version_changes_nothing(bus: Bus, wrong: int) -> None:
    streams = Streams(bus, EVENTS)
    last = await streams.append("accounts.1", [Opened("ann"), Deposited(5)], expect=0)
    with pytest.raises(ConflictError) as caught:
        await streams.append("accounts.1", [Withdrawn(1), Withdrawn(2)], expect=wrong)
    assert (caught.value.expected, caught.value.actual) == (wrong, last)
    assert (await streams.load("accounts.1")).position == last


async def test_other_streams_do_not_conflict(bus: Bus) -> None:
    streams = Streams(bus, EVENTS)
    first = await streams.append("accounts.1", [Opened("ann")], expect=0)
    await streams.append("accounts.2", [Opened("bob")], expect=0)
    assert await streams.append("accounts.1", [Deposited(1)], expect=first) > first


async def test_appending_nothing_expects_nothing(bus: Bus) -> None:
    assert await Streams(bus, EVENTS).append("accounts.1", [], expect=7) == 7
    assert (await bus.log.head()).position == 0


async def test_of_many_who_decide_at_once_each_decides_on_what_is_true(bus: Bus) -> None:
    repository = Repository(bus)
    async with repository.edit(Account, "1") as account:
        account.deposit(10)

    async def pay_out() -> int:
        return await repository.change(Account, "1", lambda account: account.withdraw(3))

    results = await asyncio.gather(*(pay_out() for _ in range(5)), return_exceptions=True)
    assert sorted(result for result in results if isinstance(result, int)) == [1, 4, 7]
    assert sum(isinstance(result, OverdrawnError) for result in results) == 2
    assert (await repository.load(Account, "1")).state.balance == 1


async def test_deciding_again_ends_after_so_many_attempts() -> None:
    tried: list[int] = []

    async def lose() -> None:
        tried.append(1)
        raise ConflictError(topic="accounts.1", expected=0, actual=len(tried))

    with pytest.raises(ConflictError) as caught:
        await decide_again(lose, attempts=3)
    assert (len(tried), caught.value.actual) == (3, 3)


async def test_what_is_edited_is_published_as_neighbours_caused_by_what_is_handled(
    bus: Bus,
) -> None:
    repository = Repository(bus)
    seen: list[Message] = []
    done = asyncio.Event()

    @bus.subscribe("accounts.*")
    async def watch(message: Message) -> None:
        seen.append(message)
        if len(seen) == 2:
            done.set()

    @bus.subscribe("orders.paid")
    async def pay(amount: int) -> None:
        async with repository.edit(Account, "1") as account:
            account.open("ann")
            account.deposit(amount)

    order = await bus.publish("orders.paid", 5)
    await done.wait()
    assert [message.type for message in seen] == ["Opened", "Deposited"]
    assert {message.envelope.causationid for message in seen} == {order.id}
    assert {message.envelope.source for message in seen} == {"/agents/bank"}


async def test_an_edit_that_raises_appends_nothing(bus: Bus) -> None:
    repository = Repository(bus)

    async def overdraw() -> None:
        async with repository.edit(Account, "1") as account:
            account.deposit(1)
            account.withdraw(2)

    with pytest.raises(OverdrawnError):
        await overdraw()
    assert (await repository.load(Account, "1")).position == 0


async def test_an_edit_conflicts_with_what_was_appended_meanwhile(bus: Bus) -> None:
    repository = Repository(bus)

    async def overtake() -> None:
        async with repository.edit(Account, "1") as slow:
            async with repository.edit(Account, "1") as fast:
                fast.deposit(1)
            slow.deposit(2)

    with pytest.raises(ConflictError):
        await overtake()
    assert (await repository.load(Account, "1")).state.balance == 1


async def test_an_edit_succeeds_although_a_subscriber_refuses_its_events(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    @bus.subscribe("accounts.*", max_queue=1, overflow="error")
    async def slow(event: Deposited) -> None:
        await release.wait()

    await bus.publish("other.1", 1)
    streams, position = Streams(bus, EVENTS), 0
    for number in range(4):
        events = [Opened("ann"), Deposited(1), Deposited(1)]
        position = await streams.append("accounts.1", events, expect=position)
        assert position == 1 + 3 * (number + 1)
    async with Repository(bus).edit(Account, "1") as account:
        account.withdraw(8)
    assert "accounts.1" in caplog.text
    assert (await Repository(bus).load(Account, "1")).position == position + 1
    release.set()


async def test_a_redacted_event_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with Bus("direct://", log=f"sqlite:{path}") as bus:
        await Streams(bus, EVENTS).append("accounts.1", [Opened("ann"), Deposited(5)], expect=0)
    await asyncio.to_thread(redact_log, path, Selector(), positions=[2], by="/test")
    projection: Projection[None] = Projection("any")

    @projection.on(Deposited)
    def deposited(event: Deposited, into: None) -> None: ...

    async with Bus("direct://", log=f"sqlite:{path}") as bus:
        with pytest.raises(DecodeError, match=r"at position 2: .* redacted .* Vault") as caught:
            await Repository(bus).load(Account, "1")
        assert (caught.value.topic, caught.value.type) == ("accounts.1", "Deposited")
        with pytest.raises(ProjectionError, match=r"position 2 .* redacted"):
            await projection.run(bus.log, Elsewhere(None))


async def test_an_aggregate_refuses_events_that_its_code_does_not_know(bus: Bus) -> None:
    await bus.publish("accounts.1", {"amount": 1}, type="Deposited.v2")
    with pytest.raises(DecodeError, match="newer release") as caught:
        await Repository(bus).load(Account, "1")
    assert caught.value.type == "Deposited.v2"


async def test_events_of_other_classes_are_not_appended(bus: Bus) -> None:
    with pytest.raises(ConfigError, match="Withdrawn"):
        await Streams(bus, [Deposited]).append("accounts.1", [Withdrawn(1)], expect=0)
    with pytest.raises(TopicError):
        await Streams(bus, [Deposited]).load("accounts.*")


async def test_a_bare_log_needs_to_know_who_appends() -> None:
    async with open_log("memory:") as log:
        with pytest.raises(ConfigError, match="source"):
            Streams(log, EVENTS)
        repository = Repository(log, source="/agents/import")
        async with repository.edit(Account, "1") as account:
            account.deposit(5)
        [record] = (await Streams(log, EVENTS, source="/x").load("accounts.1")).records
        assert record.envelope.source == "/agents/import"
        with pytest.raises(ConflictError):
            await Streams(log, EVENTS, source="/x").append("accounts.1", [Opened("a")], expect=0)
