"""Which record of a run breaks an invariant first, and the fewest others that it needs to do so."""

import inspect
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from hms_bus.abc import Record
from hms_bus.bus.message import Message
from hms_bus.errors import UsageError
from hms_bus.replay.causality import Causality

Invariant = Callable[[Sequence[Message]], object]
"""What must hold after every record.

It is called with the messages of a part of the run, in recorded order, as often as it takes, and
builds what it knows from them anew each time. It is broken when it raises `AssertionError` or
returns what is false, except `None`: a function that only asserts returns that.
"""

Checked = Callable[[int], None]
"""Told after each call of the invariant how many there were."""


class Break(Struct, frozen=True, kw_only=True):
    """The first record that breaks an invariant: its index, from 0, and what the check said."""

    index: int
    reason: str


class Checking:
    """An invariant applied to the messages of a run; counts how often.

    Raises `UsageError` when the invariant is asynchronous, or fails with anything but
    `AssertionError` on a run up to some record.
    """

    def __init__(
        self, records: Iterable[Record], invariant: Invariant, checked: Checked | None = None
    ) -> None:
        self.messages = [
            Message(r.envelope, position=r.position, recorded_ns=r.recorded_ns) for r in records
        ]
        self._invariant = invariant
        self._checked = checked
        self.count = 0

    def first_break(self, *, monotonic: bool = True) -> Break | None:
        """Return the first record after which the invariant does not hold, `None` without one.

        Takes log2(n) calls, which finds the first one only if what is broken stays broken; what is
        whole again at the end is not found. Not `monotonic`, it is called after each record.
        """
        if self._breaks_at(0) is not None:
            raise UsageError(
                f"{self._name} does not hold before the first record: it must hold for no messages"
            )
        if not monotonic:
            return next(filter(None, map(self._breaks_at, range(1, len(self.messages) + 1))), None)
        low, high = 0, len(self.messages)
        found = self._breaks_at(high)
        while found is not None and high - low > 1:
            middle = (low + high) // 2
            if (earlier := self._breaks_at(middle)) is not None:
                high, found = middle, earlier
            else:
                low = middle
        return found

    def smallest_slice(self, broken: Break) -> list[int]:
        """Return the indices of the fewest records that `broken` needs to be the one that breaks.

        Each record stands there with its causes, as far as they are in the run, in recorded order.
        No record can be taken out with its effects so that the last one still breaks the invariant,
        which held before it. That is a local minimum (delta debugging), not always the smallest.
        """
        prefix = self.messages[: broken.index + 1]
        causality = Causality([message.envelope for message in prefix])
        needed = frozenset(causality.chain(broken.index))
        if self._still_breaks(needed, broken.index):
            return sorted(needed)
        kept = frozenset(range(len(prefix)))
        while True:
            smaller = self._reduce(kept, needed, causality, broken.index)
            if smaller == kept:
                return sorted(kept)
            kept = smaller

    def _reduce(
        self, kept: frozenset[int], needed: frozenset[int], causality: Causality, last: int
    ) -> frozenset[int]:
        """Take out what can be missed: whole trees first, then what hangs deeper in them."""
        depth = 0
        while True:
            level = _at_depth(causality, kept, depth)
            if not level:
                return kept
            units = [index for index in level if index not in needed]
            kept = self._thin_out(kept, units, causality, last)
            depth += 1

    def _thin_out(
        self, kept: frozenset[int], units: list[int], causality: Causality, last: int
    ) -> frozenset[int]:
        """Take out what units can be missed, each with its effects: all, halves, …, single."""
        size = len(units)
        while size:
            rest: list[int] = []
            for start in range(0, len(units), size):
                chunk = units[start : start + size]
                fewer = kept - _with_effects(causality, chunk)
                if last in fewer and self._still_breaks(fewer, last):
                    kept = fewer
                else:
                    rest += chunk
            units = rest
            size //= 2
        return kept

    def _still_breaks(self, indices: frozenset[int], last: int) -> bool:
        """Whether the slice is broken by its last record: a slice that cannot be judged is not."""
        chosen = [self.messages[index] for index in sorted(indices)]
        try:
            return (
                chosen[-1] is self.messages[last]
                and self._judge(chosen) is not None
                and self._judge(chosen[:-1]) is None
            )
        except UsageError:
            return False

    def _breaks_at(self, count: int) -> Break | None:
        reason = self._judge(self.messages[:count])
        return None if reason is None else Break(index=count - 1, reason=reason)

    def _judge(self, messages: Sequence[Message]) -> str | None:
        """Return why the invariant does not hold for the messages, `None` when it does."""
        self.count += 1
        if self._checked is not None:
            self._checked(self.count)
        try:
            result = self._invariant(messages)
        except AssertionError as error:
            return str(error) or "AssertionError"
        except Exception as error:
            raise UsageError(
                f"{self._name} failed with {type(error).__name__}: {error}, for the first "
                f"{len(messages)} records: an invariant returns, or raises AssertionError"
            ) from error
        if inspect.isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            raise UsageError(f"{self._name} is asynchronous: an invariant is a plain function")
        return f"it returned {result!r}" if result is not None and not result else None

    @property
    def _name(self) -> str:
        return getattr(self._invariant, "__qualname__", repr(self._invariant))


def _at_depth(causality: Causality, kept: frozenset[int], depth: int) -> list[int]:
    level = [index for index in causality.roots() if index in kept]
    for _ in range(depth):
        level = [effect for index in level for effect in causality.effects(index) if effect in kept]
    return level


def _with_effects(causality: Causality, indices: Iterable[int]) -> set[int]:
    return {effect for index in indices for effect, _ in causality.descend(index)}
