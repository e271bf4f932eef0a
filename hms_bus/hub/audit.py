"""The hub's record of what it has refused: a line of JSON each, in a file that cannot overflow.

A refusal costs the event loop a few microseconds: a thread of its own writes, rotates, and hands
the same to the logger `hms_bus.hub`. Nothing that happens to the file reaches the hub.
"""

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from hms_bus.hub.refusals import Refusal, Repeats, What, clean
from hms_bus.ids import format_time

logger = logging.getLogger("hms_bus.hub")

MAX_WAITING = 1024
"""Lines that wait for the disk; what comes on top of them is only counted."""

_CLOSE_S = 5.0
"""How long closing waits for a disk that does not answer."""

_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the file. `time` is RFC 3339 in UTC; the rest as in `Refusal`.

    With `repeated` it is no single refusal: there were as many more like that of an earlier line,
    the last of them before `time`. With `what` `lost` it says how many lines before it are missing.
    """

    time: str
    hub: str
    what: What | Literal["lost"]
    reason: str
    client: int | None = None
    name: str | None = None
    pid: int | None = None
    uid: int | None = None
    token: str | None = None
    topic: str | None = None
    repeated: int = 0


class Audit:
    """Writes refusals to the file `path` and to the logger; with `None`, to the logger only.

    `hub` is the hub's name. Refusals that are alike get a line of their own once in `repeat_s`
    seconds. A file that would grow beyond `max_bytes` is renamed first, to `path` and `.1`, in the
    place of the one before.

    Constructing does no I/O. All may be called from any thread.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        hub: str,
        repeat_s: float = 60.0,
        max_bytes: int = 16 * 2**20,
    ) -> None:
        self._hub = clean(hub)
        self._file = None if path is None else AuditFile(Path(path), max_bytes=max_bytes)
        self._repeats = Repeats(repeat_s)
        self._waiting: list[Line] = []
        self._lost = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def refuse(self, refusal: Refusal) -> None:
        """Note a refusal. Waits for no disk, raises nothing; after `close` it does nothing."""
        refusal = refusal.cleaned()
        with self._changed:
            if not self._is_closed and self._repeats.admit(refusal, time.monotonic()):
                self._queue(refusal)
                self._start()
                self._changed.notify()

    def close(self) -> None:
        """Write what waits and what was counted, and end. A second call does nothing.

        Blocks until all is written, for 5 seconds at most: from an event loop, call it in a thread.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_CLOSE_S)
            if thread.is_alive():
                logger.error("the audit file does not take what is written; its end is lost")

    def _queue(self, refusal: Refusal, repeated: int = 0) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
        else:
            now = format_time(time.time_ns())
            line = Line(time=now, hub=self._hub, repeated=repeated, **asdict(refusal))
            self._waiting.append(line)

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="hms-bus hub audit", daemon=True)
            # Where the system has no thread left, the lines wait for the next refusal.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    # -- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        is_last = False
        while not is_last:
            lines, is_last = self._take()
            for line in lines:
                logger.warning("%s", describe(line))
            if self._file is not None:
                self._file.write(lines)
        if self._file is not None:
            self._file.close()

    def _take(self) -> tuple[list[Line], bool]:
        """Wait for lines; return them, and whether they are the last."""
        with self._changed:
            while True:
                now = time.monotonic()
                repeats = self._repeats
                for told in repeats.drain() if self._is_closed else repeats.expire(now):
                    self._queue(*told)
                if self._waiting or self._is_closed:
                    break
                self._changed.wait(repeats.due_in(now))
            lines, self._waiting = self._waiting, []
            if self._lost:
                lines.append(_lost(self._hub, self._lost))
                self._lost = 0
            return lines, self._is_closed


def describe(line: Line) -> str:
    """Return `line` as people read it, on one line whatever clients have called themselves."""
    if line.what == "lost":
        return f"hub {line.hub!r}: {line.reason}"
    names = ("client", "name", "pid", "uid", "token", "topic")
    facts = ((name, getattr(line, name)) for name in names)
    who = ", ".join(f"{name} {value!r}" for name, value in facts if value is not None)
    more = f" {line.repeated} more times" if line.repeated else ""
    return f"hub {line.hub!r} refused{more} ({line.what}; {who}): {line.reason!r}"


def _lost(hub: str, number: int) -> Line:
    now = format_time(time.time_ns())
    return Line(time=now, hub=hub, what="lost", reason=f"{number} lines are missing here")


class AuditFile:
    """A file of lines, for its user only (0600), that are appended and never changed.

    Raises nothing. While the file cannot be written, lines are lost; the log says why, once, and
    the next line in the file how many. It must be a regular file, and no symbolic link: the hub is
    not to be led to another one. If it is renamed or deleted, a new one is begun.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor: int | None = None
        self._size = 0
        self._lost = 0
        self._is_torn = False
        """Whether the file ends within a line."""

    def write(self, lines: Iterable[Line]) -> None:
        """Append `lines`, as far as it is possible."""
        self._let_go_of_another_name()
        for line in lines:
            try:
                if self._lost:
                    self._append(_lost(line.hub, self._lost))
                    self._lost = 0
                self._append(line)
            except OSError as error:
                if not self._lost:
                    logger.error("cannot write the audit file %s: %s", self._path, error.strerror)  # noqa: TRY400 - where it was raised says nothing more
                self._lost += 1

    def close(self) -> None:
        """Close the file; writing opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                os.close(descriptor)

    def _append(self, line: Line) -> None:
        document = msgspec.json.encode(line) + b"\n"
        descriptor = self._open() if self._descriptor is None else self._descriptor
        if self._size and self._size + len(document) > self._max_bytes:
            descriptor = self._rotate()
        if self._is_torn:
            document = b"\n" + document
        written = 0
        try:
            while written < len(document):
                written += os.write(descriptor, document[written:])
        finally:
            self._size += written
            if written:
                self._is_torn = written < len(document)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | _NO_LINK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            if found.st_mode & _OF_OTHERS and hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)
            self._size = found.st_size
            self._is_torn = _ends_within_a_line(descriptor, found.st_size)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return descriptor

    def _rotate(self) -> int:
        self.close()
        self._path.replace(f"{self._path}.1")
        return self._open()

    def _let_go_of_another_name(self) -> None:
        """Close the file if it is not the one that bears the name any more."""
        if self._descriptor is None:
            return
        try:
            is_same = os.path.samestat(os.fstat(self._descriptor), self._path.lstat())
        except OSError:
            is_same = False
        if not is_same:
            self.close()


def _ends_within_a_line(descriptor: int, size: int) -> bool:
    """Whether a hub that was killed has left half a line."""
    if not size:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"
