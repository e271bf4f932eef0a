"""The dead letters of a log: all of them, and those that are still open."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from msgspec import Struct

from hms_bus.abc import DurableInfo, EventLog, Record, Selector
from hms_bus.cli.screen import note
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.log.durable.dead import TYPE, DeadLetter, original_of, read_dead_letter
from hms_bus.logrules import dead_letter_topic


class Letter(Struct, frozen=True, kw_only=True):
    """A dead letter: its own record, what it says, and the original."""

    record: Record
    dead: DeadLetter
    original: Envelope

    @property
    def key(self) -> tuple[str, int]:
        """The durable, and the position of the original."""
        return self.dead.durable, self.dead.position


class Open(Struct, frozen=True, kw_only=True):
    """A record that a durable does not deliver any more; `letter` is `None` if it is gone."""

    durable: str
    position: int
    letter: Letter | None


async def read_letters(log: EventLog, durable: str | None = None) -> AsyncGenerator[Letter]:
    """Yield the letters of a durable, of all without a name, in the order of their positions.

    What stands on their topics and is none is left out, with a note.
    """
    pattern = dead_letter_topic("*" if durable is None else durable)
    selector = Selector(pattern=pattern, types=frozenset({TYPE}))
    async with aclosing(_records(log, selector)) as records:
        async for record in records:
            if letter := to_letter(record):
                yield letter
            else:
                note(f"position {record.position} is no dead letter, although it is on its topic")


async def _records(log: EventLog, selector: Selector) -> AsyncGenerator[Record]:
    async for record in log.read(selector):
        yield record


def to_letter(record: Record) -> Letter | None:
    """Return what a record says as a dead letter, `None` when it is none."""
    envelope = record.envelope
    if envelope.type != TYPE:
        return None
    try:
        dead = read_dead_letter(envelope)
        original = original_of(dead)
    except DecodeError:
        return None
    if envelope.topic != dead_letter_topic(dead.durable):
        return None
    return Letter(record=record, dead=dead, original=original)


async def open_letters(log: EventLog, infos: Iterable[DurableInfo]) -> list[Open]:
    """Return what is dead for these durables, in the order in which it died.

    A record that was redriven and died again is told of once, by its last letter.
    """
    stands = list(infos)
    dead = {info.durable.name: frozenset(info.dead) for info in stands}
    found: dict[tuple[str, int], Letter] = {}
    for name in (name for name, positions in dead.items() if positions):
        async with aclosing(read_letters(log, name)) as letters:
            async for letter in letters:
                if letter.dead.position in dead[name]:
                    found[letter.key] = letter
    all_dead = [(info.durable.name, position) for info in stands for position in info.dead]
    opened = [Open(durable=key[0], position=key[1], letter=found.get(key)) for key in all_dead]
    return sorted(opened, key=lambda each: each.letter.record.position if each.letter else 0)
