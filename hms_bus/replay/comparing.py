"""What differs between two runs, or between what agents said and what they say now."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct
from msgspec.structs import replace

from hms_bus import payload
from hms_bus.envelope import Envelope
from hms_bus.replay.aligning import NOBODY, Alignment, align
from hms_bus.replay.paths import Ignored, parse_ignored
from hms_bus.replay.values import Change, changes_between, fingerprint, is_same_text, value_of
from hms_bus.topics import parse_pattern

_ATTRIBUTES = ("topic", "type", "subject", "partitionkey", "datacontenttype")

Kind = Literal["missing", "extra", "changed"]


class Divergence(Struct, frozen=True, kw_only=True):
    """One event that differs: only on the left (`missing`), only on the right (`extra`), on both.

    `left` and `right` are indices, from 0, into what was compared. `follows` is the number of the
    divergence from which this one follows, the uppermost of its chain of causes; `None` when
    nothing that caused it differs.
    """

    kind: Kind
    left: int | None = None
    right: int | None = None
    changes: tuple[Change, ...] = ()
    follows: int | None = None


class Comparison(Struct, frozen=True, kw_only=True):
    """What `compare` found: the `divergences` in recorded order, and how many events are `same`.

    What is extra stands behind the event before it that has a counterpart, and behind what is
    missing there. With `is_rerun` the right side was said in a rerun: each agent was given what is
    recorded, so no divergence follows from another.
    """

    left: Sequence[Envelope]
    right: Sequence[Envelope]
    divergences: tuple[Divergence, ...]
    same: int
    is_rerun: bool = False

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not self.divergences

    @property
    def first(self) -> Divergence | None:
        """The first divergence."""
        return self.divergences[0] if self.divergences else None

    @property
    def following(self) -> tuple[Divergence, ...]:
        """What differs and was caused by the first divergence, directly or through others.

        What an agent said after it got an answer follows from the answer, too.
        """
        return tuple(found for found in self.divergences if found.follows == 0)

    @property
    def independent(self) -> tuple[Divergence, ...]:
        """What differs and was not caused by the first divergence."""
        return tuple(found for found in self.divergences[1:] if found.follows != 0)

    def count(self, kind: Kind) -> int:
        """Return how many divergences are of this kind."""
        return sum(found.kind == kind for found in self.divergences)

    def event(self, divergence: Divergence) -> Envelope:
        """Return the event that differs, as it was on the left where it was there."""
        if divergence.left is not None:
            return self.left[divergence.left]
        assert divergence.right is not None  # noqa: S101 - one of both is set
        return self.right[divergence.right]

    def only(self, pattern: str) -> "Comparison":
        """Return what differs on topics that match, as if the others had not been compared.

        What followed from a divergence that is left out follows from none. Raises `TopicError`.
        """
        matches = parse_pattern(pattern).matches
        numbers: dict[int | None, int] = {}
        for number, found in enumerate(self.divergences):
            if any(matches(event.topic) for event in self._both(found)):
                numbers[number] = len(numbers)
        kept = (found for number, found in enumerate(self.divergences) if number in numbers)
        differing = {found.left for found in self.divergences}
        return replace(
            self,
            divergences=tuple(replace(found, follows=numbers.get(found.follows)) for found in kept),
            same=sum(
                index not in differing and matches(event.topic)
                for index, event in enumerate(self.left)
            ),
        )

    def _both(self, found: Divergence) -> Iterator[Envelope]:
        if found.left is not None:
            yield self.left[found.left]
        if found.right is not None:
            yield self.right[found.right]


def compare(
    left: Sequence[Envelope],
    right: Sequence[Envelope],
    *,
    ignore: Sequence[str] = (),
    is_rerun: bool = False,
) -> Comparison:
    """Compare what was said in two runs, each in recorded order.

    `is_rerun`: the second is a rerun of the first, see `Comparison`.

    Events are aligned by their causes, not by time (`hms_bus.replay.aligning`). Compared are topic,
    type, subject, partition key, media type, cause, the order among the outputs of one cause, and
    the payload by value; never id, time, trace or hops. `ignore` takes what
    `hms_bus.replay.paths` reads: `$.ts`, `$.items[*].ts`, `$..ts`, `subject`.

    Takes O(n log n). Raises `UsageError` for a path that is none.
    """
    return _Comparing(left, right, parse_ignored(ignore)).result(is_rerun=is_rerun)


class _Comparing:
    def __init__(
        self, left: Sequence[Envelope], right: Sequence[Envelope], ignored: Ignored
    ) -> None:
        self._left = left
        self._right = right
        self._ignored = ignored
        self._attributes = [name for name in _ATTRIBUTES if name not in ignored.facets]
        self._found = align(left, right, content=self._content, same=self._is_same)

    def result(self, *, is_rerun: bool) -> Comparison:
        placed = [*self._on_the_left(), *self._on_the_right()]
        placed.sort(key=lambda pair: pair[0])
        divergences = [divergence for _, divergence in placed]
        return Comparison(
            left=self._left,
            right=self._right,
            divergences=tuple(divergences if is_rerun else _linked(divergences, self._found)),
            same=len(self._left) - sum(found.left is not None for found in divergences),
            is_rerun=is_rerun,
        )

    def _on_the_left(self) -> Iterator[tuple[tuple[int, int], Divergence]]:
        for index, other in enumerate(self._found.to_right):
            if other == NOBODY:
                yield (index, -1), Divergence(kind="missing", left=index)
            elif changes := tuple(self._changes(index, other)):
                yield (
                    (index, -1),
                    Divergence(kind="changed", left=index, right=other, changes=changes),
                )

    def _on_the_right(self) -> Iterator[tuple[tuple[int, int], Divergence]]:
        behind = self._ends_of_gaps()
        place = behind[0]
        for index, other in enumerate(self._found.to_left):
            if other == NOBODY:
                yield (place, index), Divergence(kind="extra", right=index)
            else:
                place = behind[other + 1]

    def _ends_of_gaps(self) -> list[int]:
        """Return, for each left index, the last one before the next that has a counterpart."""
        ends = [len(self._left) - 1] * (len(self._left) + 1)
        for index in range(len(self._left) - 1, -1, -1):
            is_missing = self._found.to_right[index] == NOBODY
            ends[index] = ends[index + 1] if is_missing else index - 1
        return ends

    def _content(self, event: Envelope) -> Hashable:
        return *self._values(event), fingerprint(value_of(event), self._ignored.routes)

    def _values(self, event: Envelope) -> tuple[Any, ...]:
        return tuple(_attribute(event, name) for name in self._attributes)

    def _is_same(self, left: Envelope, right: Envelope) -> bool:
        if self._values(left) != self._values(right):
            return False
        return is_same_text(left, right) or self._content(left) == self._content(right)

    def _changes(self, left: int, right: int) -> Iterator[Change]:
        mine, theirs = self._left[left], self._right[right]
        for name in self._attributes:
            values = _attribute(mine, name), _attribute(theirs, name)
            if values[0] != values[1]:
                yield _change(name, *values)
        if not is_same_text(mine, theirs):
            yield from changes_between(value_of(mine), value_of(theirs), self._ignored.routes)
        facets = self._ignored.facets
        if "causationid" not in facets and not self._has_same_cause(left, right):
            yield _change("causationid", mine.causationid, theirs.causationid)
        if "order" not in facets and left in self._found.places:
            yield _change("order", *self._found.places[left])

    def _has_same_cause(self, left: int, right: int) -> bool:
        if self._left[left].causationid == self._right[right].causationid:
            return True
        mine, theirs = self._found.left.cause(left), self._found.right.cause(right)
        if mine is None or theirs is None:
            # Two roots that were aligned as such, whatever caused them outside.
            return mine is theirs and not self._found.is_by_cause_id
        return self._found.to_right[mine] == theirs


def _attribute(event: Envelope, name: str) -> Any:
    value = getattr(event, name)
    if value is None and name == "datacontenttype" and event.data is not UNSET:
        # JSON needs no media type (spec/envelope.md, "Equality").
        return None if payload.is_octets(event.data) else payload.JSON
    return value


def _change(name: str, left: Any, right: Any) -> Change:
    return Change(
        path=name, left=UNSET if left is None else left, right=UNSET if right is None else right
    )


def _linked(divergences: list[Divergence], found: Alignment) -> Iterator[Divergence]:
    """Yield the divergences, each with the one that it follows from."""
    lefts = {d.left: number for number, d in enumerate(divergences) if d.left is not None}
    rights = {d.right: number for number, d in enumerate(divergences) if d.right is not None}
    seen: set[tuple[int, int]] = set()
    origins: dict[int, int] = {}
    for number, divergence in enumerate(divergences):
        start = _pair_of(divergence.left, divergence.right)
        if start in seen:
            continue
        for left, right in _descend(start, found, seen):
            for follower in (lefts.get(left), rights.get(right)):
                if follower is not None and follower != number:
                    origins[follower] = number
    for number, divergence in enumerate(divergences):
        yield replace(divergence, follows=origins.get(number))


def _pair_of(left: int | None, right: int | None) -> tuple[int, int]:
    return NOBODY if left is None else left, NOBODY if right is None else right


def _descend(
    start: tuple[int, int], found: Alignment, seen: set[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield `start` and what it caused on either side, as pairs, as far as they were not `seen`."""
    ahead = [start]
    while ahead:
        pair = ahead.pop()
        if pair in seen:
            continue
        seen.add(pair)
        yield pair
        left, right = pair
        if left != NOBODY:
            ahead += ((effect, found.to_right[effect]) for effect in found.left.consequences(left))
        if right != NOBODY:
            ahead += ((found.to_left[effect], effect) for effect in found.right.consequences(right))
