"""Which event of one run is which of another: by cause, then by sender, topic and order.

What has the same id is the same event. Else two events are the same when their causes are, and they
come from the same agent (`without_instance`) on the same topic, in the same order; roots have no
cause that must be the same. Where an output is missing or new, those around it are told apart by
their content: the most equal ones that are in the same order stay together, and what differs
between two of them is taken in order.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence

from hms_bus.envelope import Envelope
from hms_bus.replay.causality import Causality
from hms_bus.replay.instances import without_instance

Content = Callable[[Envelope], Hashable]
"""What of an event is compared, as something that is equal only when nothing differs."""

Same = Callable[[Envelope, Envelope], bool]
"""Whether two events do not differ; as `Content` says, but faster."""

NOBODY = -1


class Alignment:
    """Which events belong together: indices, and `NOBODY` for those that have no counterpart.

    `places` has, for a pair whose content is equal and whose place among its siblings is not, both
    places, from 1; the key is the left index. `is_by_cause_id` says that both runs name causes
    that are not there by the same ids: both had the same input.
    """

    def __init__(self, left: Sequence[Envelope], right: Sequence[Envelope]) -> None:
        self.left = Causality(left)
        self.right = Causality(right)
        self.to_right = [NOBODY] * len(left)
        self.to_left = [NOBODY] * len(right)
        self.places: dict[int, tuple[int, int]] = {}
        self.is_by_cause_id = False

    def pair(self, left: int, right: int) -> None:
        """Let two events be the same."""
        self.to_right[left] = right
        self.to_left[right] = left


def align(
    left: Sequence[Envelope], right: Sequence[Envelope], *, content: Content, same: Same
) -> Alignment:
    """Find the events of `left` in `right`. Takes O(n log n).

    `content` is asked only where order alone does not tell.
    """
    alignment = Alignment(left, right)
    _Aligner(alignment, content, same).run()
    return alignment


class _Aligner:
    def __init__(self, alignment: Alignment, content: Content, same: Same) -> None:
        self._found = alignment
        self._content = content
        self._same = same
        self._ahead: deque[tuple[int, int]] = deque()

    def run(self) -> None:
        self._pair_ids()
        self._pair_effects_of_absent_causes()
        self._pair_roots()
        self._pair_all_effects()
        self._pair_moved()

    def _pair(self, left: int, right: int) -> None:
        self._found.pair(left, right)
        self._ahead.append((left, right))

    def _pair_ids(self) -> None:
        found = self._found
        free: defaultdict[str, deque[int]] = defaultdict(deque)
        for index, event in enumerate(found.right.events):
            free[event.id].append(index)
        for index, event in enumerate(found.left.events):
            if free.get(event.id):
                self._pair(index, free[event.id].popleft())

    def _pair_effects_of_absent_causes(self) -> None:
        """Pair what names the same cause, where a side does not have that itself."""
        left, right = self._found.left, self._found.right
        absent = [
            cause
            for cause in left.cause_ids()
            if right.effects_of(cause) and (left.find(cause) is None or right.find(cause) is None)
        ]
        for cause in absent:
            self._pair_siblings(left.effects_of(cause), right.effects_of(cause))
        self._found.is_by_cause_id = bool(absent)

    def _pair_roots(self) -> None:
        left, right = self._found.left, self._found.right
        self._pair_siblings(*(_roots(side, is_caused=False) for side in (left, right)))
        if not self._found.is_by_cause_id:
            self._pair_siblings(*(_roots(side, is_caused=True) for side in (left, right)))

    def _pair_all_effects(self) -> None:
        while self._ahead:
            left, right = self._ahead.popleft()
            self._pair_siblings(self._found.left.effects(left), self._found.right.effects(right))

    def _pair_siblings(self, lefts: Sequence[int], rights: Sequence[int]) -> None:
        if not lefts or not rights:
            return
        for mine, theirs in self._grouped(lefts, rights, _topic_key):
            self._pair_in_order(mine, theirs)
        for mine, theirs in self._grouped(lefts, rights, _type_key):
            self._pair_renamed(mine, theirs)

    def _grouped(
        self, lefts: Sequence[int], rights: Sequence[int], key: Callable[[Envelope], Hashable]
    ) -> list[tuple[list[int], list[int]]]:
        """Return those without a counterpart that have the same key, where both sides have some."""
        mine = _by_key(self._free_left(lefts), self._found.left.events, key)
        theirs = _by_key(self._free_right(rights), self._found.right.events, key)
        return [(group, theirs[name]) for name, group in mine.items() if name in theirs]

    def _free_left(self, indices: Iterable[int]) -> list[int]:
        return [index for index in indices if self._found.to_right[index] == NOBODY]

    def _free_right(self, indices: Iterable[int]) -> list[int]:
        return [index for index in indices if self._found.to_left[index] == NOBODY]

    def _pair_in_order(self, lefts: list[int], rights: list[int]) -> None:
        """Pair the outputs of one cause, one agent, one topic."""
        mine, theirs = self._found.left.events, self._found.right.events
        if len(lefts) == len(rights) and (
            len(lefts) == 1
            or all(self._same(mine[a], theirs[b]) for a, b in zip(lefts, rights, strict=True))
        ):
            for a, b in zip(lefts, rights, strict=True):
                self._pair(a, b)
            return
        self._pair_around_equal_ones(lefts, rights)

    def _pair_around_equal_ones(self, lefts: list[int], rights: list[int]) -> None:
        equal = _equal_places(
            [self._content(self._found.left.events[index]) for index in lefts],
            [self._content(self._found.right.events[index]) for index in rights],
        )
        kept = _longest_in_order(equal)
        for a, b in equal:
            self._pair(lefts[a], rights[b])
            if (a, b) not in kept:
                self._found.places[lefts[a]] = (a + 1, b + 1)
        start_a = start_b = 0
        for a, b in (*sorted(kept), (len(lefts), len(rights))):
            free_a = self._free_left(lefts[start_a:a])
            free_b = self._free_right(rights[start_b:b])
            for changed in zip(free_a, free_b, strict=False):
                self._pair(*changed)
            start_a, start_b = a + 1, b + 1

    def _pair_renamed(self, lefts: list[int], rights: list[int]) -> None:
        """Pair the outputs of one cause, one agent and one type that went to another topic."""
        mine, theirs = self._found.left.events, self._found.right.events
        for a, b in zip(lefts, rights, strict=False):
            if mine[a].topic != theirs[b].topic:
                self._pair(a, b)

    def _pair_moved(self) -> None:
        """Pair what is left and equal in content, although its cause is another one.

        A race does that: whichever of two messages came last causes the summary.
        """
        free: defaultdict[Hashable, deque[int]] = defaultdict(deque)
        theirs, mine = self._found.right.events, self._found.left.events
        lefts = self._free_left(range(len(mine)))
        if not lefts:
            return
        for index in self._free_right(range(len(theirs))):
            free[self._moved_key(theirs[index])].append(index)
        for index in lefts:
            if self._found.to_right[index] != NOBODY:
                continue
            others = free.get(self._moved_key(mine[index]))
            while others:
                other = others.popleft()
                if self._found.to_left[other] == NOBODY:
                    self._pair(index, other)
                    self._pair_all_effects()
                    break

    def _moved_key(self, event: Envelope) -> Hashable:
        return (*_topic_key(event), self._content(event))


def _roots(causality: Causality, *, is_caused: bool) -> list[int]:
    """Return the roots that have no cause at all, or those whose cause is not there."""
    return [
        index
        for index in causality.roots()
        if (causality.events[index].causationid is not None) is is_caused
    ]


def _topic_key(event: Envelope) -> tuple[str, str]:
    return without_instance(event.source), event.topic


def _type_key(event: Envelope) -> tuple[str, str]:
    return without_instance(event.source), event.type


def _by_key(
    indices: list[int], events: Sequence[Envelope], key: Callable[[Envelope], Hashable]
) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for index in indices:
        groups.setdefault(key(events[index]), []).append(index)
    return groups


def _equal_places(left: list[Hashable], right: list[Hashable]) -> list[tuple[int, int]]:
    """Pair equal items, each once, in the order of `right`.

    Those at both ends go together, so that what was put in or left out of a sequence that repeats
    itself does not shift the rest.
    """
    head = 0
    while head < min(len(left), len(right)) and left[head] == right[head]:
        head += 1
    tail = 0
    while tail < min(len(left), len(right)) - head and left[-1 - tail] == right[-1 - tail]:
        tail += 1
    free: defaultdict[Hashable, deque[int]] = defaultdict(deque)
    for place in range(head, len(left) - tail):
        free[left[place]].append(place)
    middle = [
        (free[right[place]].popleft(), place)
        for place in range(head, len(right) - tail)
        if free.get(right[place])
    ]
    ends = [(len(left) - tail + i, len(right) - tail + i) for i in range(tail)]
    return [*((place, place) for place in range(head)), *middle, *ends]


def _longest_in_order(pairs: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return the most pairs whose left places increase as their right ones do (patience sort)."""
    tops: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, (place, _) in enumerate(pairs):
        pile = bisect_left(tops, place)
        before.append(ends[pile - 1] if pile else NOBODY)
        if pile == len(tops):
            tops.append(place)
            ends.append(number)
        else:
            tops[pile], ends[pile] = place, number
    kept: set[tuple[int, int]] = set()
    number = ends[-1] if ends else NOBODY
    while number != NOBODY:
        kept.add(pairs[number])
        number = before[number]
    return kept
