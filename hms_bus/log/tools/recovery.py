"""Saving what can be proven of a damaged log into a new one (spec/log.md, "Recovery")."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from hms_bus import jsonformat
from hms_bus.abc import Head
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, LogError, LogLockedError
from hms_bus.filelock import is_held, read_holder
from hms_bus.log.chain import GENESIS, cut, link
from hms_bus.log.failures import open_failed
from hms_bus.log.file import find_file
from hms_bus.log.lock import lock_path
from hms_bus.log.settings import Settings
from hms_bus.log.tools.pages import Found
from hms_bus.log.tools.remains import Ends, Remains, Row, Standing, open_remains
from hms_bus.log.tools.rows import RowWriter, check_free, new_log
from hms_bus.log.tools.steps import Report, silent
from hms_bus.log.tools.stored import Stored

TOPIC = "$log.recovered"
_NAMED_RANGES = 1000
_MAX_POSSIBLE = 4


class Loss(Struct, frozen=True, kw_only=True):
    """Positions `first` to `last` of the damaged log that are not in the new one, and why."""

    first: int
    last: int
    why: str


class Recovered(Struct, frozen=True, kw_only=True):
    """What was saved of a log.

    `saved` records are in the new log, of which `unproven` come right behind a loss: nothing is
    left that their hash could be checked with. `losses` are all that is known to be missing,
    `doubts` say why more may be missing, or other records be there than were. `is_same` says that
    positions and chain are those of the damaged log, as nothing is lost before its last record.
    """

    saved: int
    unproven: int
    losses: tuple[Loss, ...]
    doubts: tuple[str, ...]
    is_same: bool
    head: Head

    @property
    def lost(self) -> int:
        """How many records were not saved, as far as it is known."""
        return sum(loss.last - loss.first + 1 for loss in self.losses)

    @property
    def is_complete(self) -> bool:
        """Whether all was saved, as far as what is left can show."""
        return not self.losses and not self.doubts


def recover_log(
    path: Path,
    target: Path,
    *,
    by: str,
    expected: Head | None = None,
    report: Report = silent,
) -> Recovered:
    """Save every record of the damaged log `path` that can be read and proven into a new log.

    The file and the WAL beside it are only read, page by page, without SQLite. A record whose
    contents contradict its hash is not saved. When anything was lost, or may have been, the new log
    ends with a record that says what. `expected` is a head that was kept: what is missing up to it
    counts as lost. `report` is told pages. Blocks. Raises `UsageError` when `target` exists,
    `LogLockedError` while a writer has the log, `LogError`, also when the file holds no record.
    """
    real = find_file(Settings(path=path, is_read_only=True))
    check_free(target)
    try:
        if is_held(lock_path(real)):
            raise LogLockedError(path=str(real), holder=read_holder(lock_path(real)) or "another")
        with open_remains(real) as remains, new_log(target, like=[real]) as writer:
            return _recover(real, remains, writer, by=by, expected=expected, report=report)
    except (sqlite3.Error, OSError) as error:
        raise open_failed(error, real) from error


def _recover(
    path: Path,
    remains: Remains,
    writer: RowWriter,
    *,
    by: str,
    expected: Head | None,
    report: Report,
) -> Recovered:
    rows, ends = remains.rows(report)
    sorter = _Sorter(writer, expected, ends, is_wal_damaged=remains.is_wal_damaged)
    for rivals in rows:
        sorter.take(rivals)
    seen = sorter.position
    sorter.conclude()
    if not seen and not (sorter.losses and remains.is_marked):
        raise LogError(
            f"no record of hms-bus was found in {path}, so that no log was made: give the name of "
            "a log, or restore a copy if this was one",
            path=str(path),
        )
    doubts = [*_doubts(remains, sorter.position, is_end_known=ends.anywhere >= seen)]
    doubts += _uncommitted(sorter)
    if sorter.is_rewritten and expected is not None:
        doubts.append(
            f"the record at position {expected.position} is not the one that the kept head names: "
            "the log was rewritten"
        )
    if sorter.losses or doubts:
        writer.note(TOPIC, _data(sorter, doubts), by=by)
    return Recovered(
        saved=sorter.saved,
        unproven=sorter.unproven,
        losses=tuple(sorter.losses),
        doubts=tuple(doubts),
        is_same=sorter.is_same,
        head=writer.head,
    )


def _doubts(remains: Remains, last: int, *, is_end_known: bool) -> Iterator[str]:
    """Say why records behind `last` may be missing without a trace."""
    if end := remains.missing_end():
        yield f"{end}: records behind position {last} are probably missing, how many is unknown"
    elif not is_end_known:
        yield (
            "nothing that is left says where the log ended: records behind position "
            f"{last} may be missing, how many is unknown"
        )
    if remains.unreadable:
        yield (
            f"the disk has failed to give {remains.unreadable} pages: records on them are missing, "
            f"behind position {last} nobody knows how many"
        )


def _uncommitted(sorter: "_Sorter") -> Iterator[str]:
    """Say what commits that SQLite passes over have to do with it."""
    if first := sorter.perhaps_uncommitted:
        yield (
            f"from position {first} on all is known only from a part of the WAL that SQLite passes "
            "over: it may never have been committed, lost or not"
        )
    if refused := sorter.refused:
        yield (
            f"a part of the WAL that SQLite passes over has positions up to {refused.last} that "
            f"nothing shows to follow position {refused.first - 1}: they were not saved, as they "
            "were probably never committed"
        )


def _data(sorter: "_Sorter", doubts: list[str]) -> dict[str, Any]:
    losses = sorter.losses[:_NAMED_RANGES]
    return {
        "saved": sorter.saved,
        "unproven": sorter.unproven,
        "lost": [{"first": loss.first, "last": loss.last, "why": loss.why} for loss in losses],
        "more": len(sorter.losses) - len(losses),
        "doubts": doubts,
    }


class _Sorter:
    """Decides on the rows of each position, in their order: into the new log, or a loss.

    `is_rewritten` says that a record is not the one that the head that was kept names.
    `perhaps_uncommitted` is the first position, behind a loss or lost at the end, that only commits
    have that SQLite passes over, 0 if there is none; `refused` are those of such commits that are
    neither saved nor lost, as they do not go on from what is saved.
    """

    def __init__(
        self, writer: RowWriter, expected: Head | None, ends: Ends, *, is_wal_damaged: bool
    ) -> None:
        self.position = 0
        self.saved = 0
        self.unproven = 0
        self.losses: list[Loss] = []
        self.is_same = True
        self.is_rewritten = False
        self.perhaps_uncommitted = 0
        self.refused: Loss | None = None
        self._is_behind_loss = False
        self._is_firm = True
        self._is_wal_damaged = is_wal_damaged
        self._writer = writer
        self._expected = expected
        self._ends = ends
        self._gone = "no page holds it any more" + (", and the WAL is damaged" * is_wal_damaged)
        self._previous: tuple[bytes, ...] = (GENESIS,)

    def take(self, rivals: Sequence[Row]) -> None:
        """Take all rows of the next position of which there is any, the best first."""
        position = rivals[0].found.position
        if self.refused or self._is_of_another_chain(rivals):
            self._refuse(position)
            return
        if position != self.position + 1:
            self._lose(self.position + 1, position - 1, self._gone)
            self._previous = ()
        self.position = position
        verdicts = [self._judge(row.found) for row in rivals]
        proven = [verdict for verdict in verdicts if isinstance(verdict, Stored)]
        if not proven:
            self._lose(position, position, str(verdicts[0]))
            possible = dict.fromkeys(h for row in rivals for h in self._possible_hashes(row.found))
            self._previous = tuple(possible)[:_MAX_POSSIBLE]
            self._is_firm = False
            return
        # Of two with one hash one was redacted: what was taken out does not come back.
        same = [one for one in proven if one.hash == proven[0].hash]
        stored = min(same, key=lambda one: one.payload_hash is None)
        if rivals[0].standing is Standing.IN_FORCE:
            self._is_behind_loss = False
        elif self._is_behind_loss:
            self.perhaps_uncommitted = self.perhaps_uncommitted or position
        self.is_rewritten |= self._contradicts(stored)
        if self._writer.find(stored.source, stored.id) is not None:
            self._lose(position, position, "its source and id stand at an earlier position, too")
        else:
            self.unproven += not self._previous
            self.is_same &= not self.losses
            self.saved += 1
            self._writer.add(stored)
        self._previous = (stored.hash,)
        self._is_firm = True

    def conclude(self) -> None:
        """Count what is missing behind the last one, up to where the log is said to end."""
        is_all_in_force = self.refused or not self._is_wal_damaged
        last = self._ends.in_force if is_all_in_force else self._ends.anywhere
        if last > self.position:
            if last > self._ends.in_force:
                self.perhaps_uncommitted = self.perhaps_uncommitted or self.position + 1
            self._lose(self.position + 1, last, self._gone)
            self.position = last
        if self._ends.anywhere > self.position:
            self._refuse(self._ends.anywhere)
        if self._expected is not None and self._expected.position > self.position:
            why = "the log ends before the head that was kept"
            self._lose(self.position + 1, self._expected.position, why)
            self.position = self._expected.position

    def _is_of_another_chain(self, rivals: Sequence[Row]) -> bool:
        """Whether rows behind all that is in force do not go on from what is saved.

        A commit that was never whole, overwritten by the next ones, leaves such rows. Where damage
        may have broken the chain, or a head was kept that lies behind, they are none of these.
        """
        position = rivals[0].found.position
        known = 0 if self._expected is None else self._expected.position
        if position <= max(known, self._ends.in_force):
            return False
        if position != self.position + 1:
            return not self._is_wal_damaged
        if not self._is_firm or any(isinstance(self._judge(row.found), Stored) for row in rivals):
            return False
        return any(row.standing is not Standing.DAMAGED for row in rivals)

    def _refuse(self, last: int) -> None:
        last = max(last, self.refused.last if self.refused else 0)
        self.refused = Loss(first=self.position + 1, last=last, why="not in force")

    def _contradicts(self, stored: Stored) -> bool:
        expected = self._expected
        return (
            expected is not None
            and expected.position == stored.position
            and (expected.hash, expected.recorded_ns) != (stored.hash, stored.recorded_ns)
        )

    def _possible_hashes(self, found: Found) -> Sequence[bytes]:
        """What the next record may follow: the hash that stands there, or the right one."""
        if found.document is None:
            return (found.hash,)
        computed = (
            link(p, found.position, found.recorded_ns, found.document, found.payload_hash)
            for p in self._previous
        )
        return (found.hash, *computed)

    def _judge(self, found: Found) -> Stored | str:
        """Return the record, or why it is none."""
        document = found.document
        if document is None:
            return "the pages that hold its end are damaged or lost"
        if not document.endswith(b"}"):
            return "its document is no JSON object"
        if found.payload_hash is not None and cut(document) != len(document) - 1:
            return "it holds a payload, and the hash of one that was taken out"
        if self._previous and not self._follows(found, document):
            return "its contents contradict its hash"
        try:
            envelope = jsonformat.decode(document)
        except DecodeError as error:
            return f"its document cannot be read: {error.message}"
        return _stored(found, envelope, document)

    def _follows(self, found: Found, document: bytes) -> bool:
        return any(
            found.hash
            == link(previous, found.position, found.recorded_ns, document, found.payload_hash)
            for previous in self._previous
        )

    def _lose(self, first: int, last: int, why: str) -> None:
        self._is_behind_loss = True
        before = self.losses[-1] if self.losses else None
        if before is not None and before.last == first - 1 and before.why == why:
            self.losses[-1] = Loss(first=before.first, last=last, why=why)
        else:
            self.losses.append(Loss(first=first, last=last, why=why))


def _stored(found: Found, envelope: Envelope, document: bytes) -> Stored | str:
    if envelope.id.encode() != found.id or not envelope.topic:
        return "it is filed under an id that is not in its document"
    return Stored(
        found.position,
        found.recorded_ns,
        envelope.topic,
        envelope.source,
        envelope.id,
        found.hash,
        found.payload_hash,
        document,
    )
