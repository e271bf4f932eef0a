"""Which letters of a log are dead letters, and which of them are open."""

from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from hms_bus import new_envelope
from hms_bus.abc import ConsumingLog, Record, Selector
from hms_bus.cli.dlq.letters import Open, open_letters, read_letters, to_letter
from hms_bus.plugins import open_log
from tests.support.dead_letters import BILLING, consuming, fill, settle


@pytest.fixture
async def log() -> AsyncGenerator[ConsumingLog]:
    async with open_log("memory:letters") as opened:
        await fill(consuming(opened))
        yield consuming(opened)


async def shown(log: ConsumingLog) -> list[tuple[int | None, int]]:
    """Positions of the open letters and of their originals."""
    opened = await open_letters(log, await log.durables())
    return [(one.letter and one.letter.record.position, one.position) for one in opened]


async def record_at(log: ConsumingLog, position: int) -> Record:
    [record] = [one async for one in log.read(Selector(first=position, last=position))]
    return record


async def test_letters_are_told_in_the_order_in_which_they_died(log: ConsumingLog) -> None:
    assert await shown(log) == [(7, 2), (8, 3)]
    await log.redrive("billing", [2])
    assert await shown(log) == [(8, 3)]
    async with log.consume(BILLING) as consumer:
        [again] = await consumer.fetch(1)
        await settle(consumer, again, "term")
    assert await shown(log) == [(8, 3), (9, 2)]
    assert [one.record.position async for one in read_letters(log)] == [7, 8, 9]
    assert [one.record.position async for one in read_letters(log, "other")] == []


async def test_a_letter_holds_the_original(log: ConsumingLog) -> None:
    letter = to_letter(await record_at(log, 7))
    assert letter is not None
    assert letter.key == ("billing", 2)
    original = (await record_at(log, 2)).envelope
    assert (letter.original.id, letter.original.topic) == (original.id, original.topic)
    assert letter.original.decode() == original.decode()


async def test_what_is_dead_and_has_no_letter_is_told_first(log: ConsumingLog) -> None:
    infos = [replace(info, dead=(1, *info.dead)) for info in await log.durables()]
    opened = await open_letters(log, infos)
    assert opened[0] == Open(durable="billing", position=1, letter=None)
    assert [one.position for one in opened] == [1, 2, 3]


async def test_a_letter_on_another_topic_or_of_another_type_is_none(log: ConsumingLog) -> None:
    record = await record_at(log, 7)
    envelope = record.envelope
    for changed in (
        replace(envelope, topic="$dlq.other"),
        replace(envelope, type="other"),
        new_envelope("$dlq.billing", {"durable": "billing"}, source="/x", type=envelope.type),
        new_envelope("$dlq.billing", source="/x", type=envelope.type),
    ):
        assert to_letter(replace(record, envelope=changed)) is None


async def test_what_is_no_letter_is_noted(
    log: ConsumingLog, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = (await record_at(log, 7)).envelope
    await log.append([replace(dead, id="x", data=b"?", datacontenttype="text/plain")])
    assert await shown(log) == [(7, 2), (8, 3)]
    assert capsys.readouterr().err.startswith("position 9 is no dead letter")
