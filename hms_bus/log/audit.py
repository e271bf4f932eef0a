"""The check of a whole log, fed record by record: chain, positions, times, and look-up columns."""

from typing import NamedTuple, cast

from hms_bus import jsonformat
from hms_bus.abc import Head, Verification
from hms_bus.errors import DecodeError
from hms_bus.log.chain import GENESIS, cut, link


class Kept(NamedTuple):
    """All that a log keeps of one record, as it was read: nothing in it is trusted.

    `topic`, `id` and `source` are what the log finds the record by; `redacted` is the hash of a
    payload that was taken out.
    """

    position: object
    recorded_ns: object
    topic: object
    id: object
    source: object
    hash: object
    redacted: object
    document: object


class Audit:
    """Reads records in the order of positions and remembers the first contradiction."""

    def __init__(self, expected: Head | None = None) -> None:
        self.records = 0
        self.last_on: dict[str, int] = {}
        self._head = Head(position=0, hash=GENESIS, recorded_ns=0)
        self._expected = expected
        self._problem: tuple[str, int | None] | None = None
        self._compare_head()

    @property
    def position(self) -> int:
        """The last position that was read and is sound."""
        return self._head.position

    @property
    def has_problem(self) -> bool:
        """Whether reading on is of no use."""
        return self._problem is not None

    def feed(self, kept: Kept) -> None:
        """Check the next record."""
        self.records += 1
        position = self._head.position + 1
        if problem := self._check(kept, position):
            self.report(problem, position)
            return
        self._head = Head(
            position=position,
            hash=cast("bytes", kept.hash),
            recorded_ns=cast("int", kept.recorded_ns),
        )
        self.last_on[str(kept.topic)] = position
        self._compare_head()

    def report(self, problem: str, position: int | None) -> None:
        """Note a contradiction that was found elsewhere; the first one counts."""
        self._problem = self._problem or (problem, position)

    def conclude(self) -> Verification:
        """Return the result, after the last record."""
        expected = self._expected
        if expected is not None and expected.position > self._head.position:
            lost = expected.position - self._head.position
            self.report(
                f"the log ends at position {self._head.position}, the head that was kept elsewhere "
                f"is at {expected.position}: the last {lost} records are lost",
                self._head.position + 1,
            )
        problem, position = self._problem or (None, None)
        return Verification(
            records=self.records, head=self._head, problem=problem, position=position
        )

    def _compare_head(self) -> None:
        expected, actual = self._expected, self._head
        if (
            expected is not None
            and expected.position == actual.position
            and (expected.hash, expected.recorded_ns) != (actual.hash, actual.recorded_ns)
        ):
            self.report(
                f"the record at position {expected.position} is not the one that the head kept "
                "elsewhere names: the log was rewritten",
                expected.position,
            )

    def _check(self, kept: Kept, position: int) -> str | None:
        """Return what is wrong with the record that should be at `position`."""
        if type(kept.position) is not int or kept.position != position:
            return f"position {position} is missing, {kept.position!r} follows the one before"
        if type(kept.recorded_ns) is not int or not isinstance(kept.document, bytes):
            return "a column holds a value of the wrong type"
        if kept.recorded_ns < self._head.recorded_ns:
            return "its time is before that of the record before it"
        return self._check_hash(kept, kept.recorded_ns, kept.document) or _check_columns(
            kept, kept.document
        )

    def _check_hash(self, kept: Kept, recorded_ns: int, document: bytes) -> str | None:
        redacted = kept.redacted
        if redacted is not None:
            if not isinstance(redacted, bytes) or len(redacted) != len(GENESIS):
                return "the hash of its payload that was taken out is no hash"
            if cut(document) != len(document) - 1:
                return "it holds a payload, and the hash of one that was taken out"
        if not document.endswith(b"}"):
            return "its document is no JSON object"
        expected = link(self._head.hash, self._head.position + 1, recorded_ns, document, redacted)
        if type(kept.hash) is not bytes or kept.hash != expected:
            return "its hash does not follow from its contents and the hash before it"
        return None


def _check_columns(kept: Kept, document: bytes) -> str | None:
    try:
        envelope = jsonformat.decode(document)
    except DecodeError as error:
        return f"its document cannot be read: {error.message}"
    if (envelope.topic, envelope.id, envelope.source) != (kept.topic, kept.id, kept.source):
        return "it is filed under a topic, id or source that is not in its document"
    return None
