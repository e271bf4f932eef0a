"""What must hold after a run of faults, told from the notes of its programs and the hub's log."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from hms_bus.abc import Selector
from hms_bus.plugins import open_log
from tests.support.fault_programs import END, Load
from tests.support.programs import LOST_WORK

Seen = Sequence[tuple[str, int, str]]
"""What a subscription has handled: source, number and key, in order."""


class Kept(Struct, frozen=True):
    """One record of the log."""

    position: int
    id: str
    source: str
    topic: str
    n: int
    key: str


async def read_log(url: str) -> list[Kept]:
    """Return all records, once the log was verified. Raises `AssertionError` if it is not sound."""
    async with open_log(url) as log:
        found = await log.verify()
        assert found.is_sound, found
        return [
            Kept(
                record.position,
                record.envelope.id,
                record.envelope.source,
                record.envelope.topic,
                record.envelope.decode(Load).n,
                record.envelope.partitionkey or "",
            )
            async for record in log.read(Selector())
        ]


def lines_of(notes: Path) -> Iterator[list[str]]:
    """Yield the words of each line that was written as a whole."""
    *lines, _ = notes.read_text().split("\n")
    return map(str.split, lines)


def check_log(records: Sequence[Kept]) -> None:
    """Each message is there once, and those of each publisher are whole and in order."""
    assert [record.position for record in records] == list(range(1, len(records) + 1))
    assert len({(record.source, record.id) for record in records}) == len(records)
    assert records[-1].topic == END
    for source, numbers in _by_source((each.source, each.n) for each in records[:-1]).items():
        assert numbers == list(range(1, len(numbers) + 1)), f"the log's messages of {source}"


def check_acknowledged(notes: Path, source: str, records: Sequence[Kept]) -> int:
    """All that was acknowledged to a publisher is in the log; return how much that is."""
    there = {(each.position, each.n, each.id) for each in records if each.source == source}
    acknowledged = [line[1:] for line in lines_of(notes) if line[0] == "kept"]
    missing = [
        (position, n, id_)
        for position, n, id_ in acknowledged
        if (int(position), int(n), id_) not in there
    ]
    assert not missing, f"of {source} the log lacks {missing[:5]}, {len(missing)} in all"
    return len(acknowledged)


def seen_by(notes: Path) -> Mapping[str, Seen]:
    """Return what a listener has handled, for each of its subscriptions."""
    seen: dict[str, list[tuple[str, int, str]]] = {}
    for name, *rest in lines_of(notes):
        if rest:
            source, n, key = rest
            seen.setdefault(name, []).append((source, int(n), key))
    return seen


def check_order(name: str, seen: Seen) -> None:
    """What came of each publisher came once and in order; with several lanes, of each key."""
    per_key = name == "keyed"
    numbers = _by_source((f"{source} {key}" if per_key else source, n) for source, n, key in seen)
    for whose, of_one in numbers.items():
        turned = [pair for pair in pairwise(of_one) if pair[0] >= pair[1]]
        assert not turned, f"{name}: {whose}: {turned[:5]}, {len(turned)} in all"


def _check_is_kept(name: str, seen: Seen, records: Sequence[Kept]) -> None:
    """Nobody has seen on a logged topic what the log does not hold."""
    there = {(each.source, each.n, each.key) for each in records}
    assert there.issuperset(seen), f"{name}: {list(set(seen) - there)[:5]}"


def check_followed(followers: Iterable[Path], records: Sequence[Kept]) -> None:
    """Who has followed the log has read each record once, in order, none left out."""
    for notes in followers:
        read = [
            (int(line[1]), line[2], int(line[3])) for line in lines_of(notes) if line[0] == "read"
        ]
        assert read == [(each.position, each.source, each.n) for each in records]


def check_listeners(
    living: Sequence[Path], dead: Sequence[Path], records: Sequence[Kept], *, sound_from: int
) -> None:
    """Check what listeners have handled; those who live, all that came behind `sound_from`."""
    seen = [seen_by(notes) for notes in (*living, *dead)]
    for listener in seen:
        for name, handled in listener.items():
            if name != "shared":  # what waits for a member that dies goes to one that has seen more
                check_order(name, handled)
            if name in {"each", "keyed", "shared"}:
                _check_is_kept(name, handled, records)
    shared = [one for listener in seen for one in listener.get("shared", ())]
    assert len(set(shared)) == len(shared), "two of a group got the same message"
    wanted = {(each.source, each.n, each.key) for each in records if each.position > sound_from}
    for listener in seen[: len(living)]:
        for handled in (listener["each"], listener["keyed"], shared):
            missing = wanted.difference(handled)
            assert not missing, f"{len(missing)} of {len(wanted)} are missing: {[*missing][:5]}"


def check_words(words: str) -> None:
    """No program has lost work, or failed where nobody looked."""
    assert not any(sign in words for sign in (*LOST_WORK, "Traceback")), words


def _by_source(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for source, n in pairs:
        numbers.setdefault(source, []).append(n)
    return numbers
