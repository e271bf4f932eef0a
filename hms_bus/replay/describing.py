"""A comparison in words: lines that a person reads in a terminal, a test report or a pipe."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from msgspec import UNSET

from hms_bus import payload
from hms_bus.envelope import Envelope
from hms_bus.replay.comparing import Comparison, Divergence, Kind
from hms_bus.replay.values import Change, value_of

MARKS: dict[Kind, str] = {"missing": "-", "extra": "+", "changed": "~"}
"""How the line of a divergence begins."""

Place = Callable[[int], int]
"""What a person calls the event with this index: its position."""

_WIDTH = 72
_BEFORE = 24
_CHANGES = 12


def describe(
    comparison: Comparison,
    *,
    names: tuple[str, str] = ("A", "B"),
    places: tuple[Place | None, Place | None] = (None, None),
    limit: int | None = 20,
) -> str:
    """Return the comparison as text.

    `names` are those of both sides, `places` tell the positions of their events (`None`: they are
    counted from 1), `limit` is how many divergences each of the parts may list, `None`: all.
    """
    return "\n".join(_Description(comparison, names, places, limit).lines())


def amount(number: int, noun: str) -> str:
    """Return `1 event`, `2 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def summary(comparison: Comparison) -> str:
    """Return how many events are the same, and how many are not, in a line."""
    counts = (f"{comparison.count(kind)} {kind}" for kind in ("changed", "missing", "extra"))
    return f"{', '.join(counts)}; {comparison.same} the same"


class _Description:
    def __init__(
        self,
        comparison: Comparison,
        names: tuple[str, str],
        places: tuple[Place | None, Place | None],
        limit: int | None,
    ) -> None:
        self._comparison = comparison
        self._names = names
        self._places = [place or _count_from_one for place in places]
        self._limit = limit

    def lines(self) -> Iterator[str]:
        comparison = self._comparison
        if comparison.first is None:
            verb = "is" if comparison.same == 1 else "are"
            yield f"no difference: {amount(comparison.same, 'event')} {verb} the same"
            return
        yield "first difference:"
        yield from self._divergence(comparison.first)
        yield from self._part("what follows from it", comparison.following)
        rest = "more differences" if comparison.is_rerun else "independent of it"
        yield from self._part(rest, comparison.independent)
        yield summary(comparison)

    def _part(self, title: str, found: tuple[Divergence, ...]) -> Iterator[str]:
        if not found:
            return
        yield f"{title} ({len(found)}):"
        for divergence in islice(found, self._limit):
            yield from self._divergence(divergence)
        if self._limit is not None and len(found) > self._limit:
            yield f"… and {len(found) - self._limit} more"

    def _divergence(self, found: Divergence) -> Iterator[str]:
        event = self._comparison.event(found)
        yield f"{MARKS[found.kind]} {self._where(found)}: {_heading(event)}"
        if found.kind != "changed":
            if event.data is not UNSET:
                yield f"    $: {preview(value_of(event))}"
            return
        yield from (f"    {line}" for line in _changes(found.changes))

    def _where(self, found: Divergence) -> str:
        sides = zip(self._names, self._places, (found.left, found.right), strict=True)
        told = [f"{name} {place(at)}" for name, place, at in sides if at is not None]
        if found.kind == "changed":
            return " ~ ".join(told)
        return f"{'only in' if found.kind == 'extra' else 'missing, was'} {told[0]}"


def _count_from_one(index: int) -> int:
    return index + 1


def _heading(event: Envelope) -> str:
    kind = "" if event.type == event.topic else f" {event.type}"
    return f"{event.topic}{kind} by {event.source}"


def _changes(changes: Iterable[Change]) -> Iterator[str]:
    listed = tuple(changes)
    for change in listed[:_CHANGES]:
        left, right = _excerpts(change.left, change.right)
        yield f"{change.path}: {left} -> {right}"
    if len(listed) > _CHANGES:
        yield f"… and {amount(len(listed) - _CHANGES, 'change')} more"


def _excerpts(left: Any, right: Any) -> tuple[str, str]:
    """Return both values on a line each; of long texts the part where they begin to differ."""
    start = 0
    if isinstance(left, str) and isinstance(right, str) and max(len(left), len(right)) > _WIDTH:
        shorter = min(len(left), len(right))
        same = next((i for i in range(shorter) if left[i] != right[i]), shorter)
        start = max(0, same - _BEFORE)
        left, right = left[start:], right[start:]
    return tuple(("…" if start else "") + preview(value) for value in (left, right))  # pyright: ignore[reportReturnType]


def preview(value: Any) -> str:
    """Return a value as JSON on one line that is safe for a terminal, cut where it is long."""
    if value is UNSET:
        return "absent"
    if isinstance(value, bytes):
        more = "…" if len(value) > _WIDTH // 4 else ""
        return f"<{len(value)} bytes: {value[: _WIDTH // 4].hex()}{more}>"
    text = payload.to_json(value).decode()
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
