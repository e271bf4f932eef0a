"""The real `hms-bus` at a terminal of its own, at which a test types and reads."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Generator

from tests.support.command_line import PROGRAM, CommandLine

_PATIENCE_S = 30


@contextlib.contextmanager
def at_terminal(cli: CommandLine, *args: str) -> Generator["Terminal"]:
    """Start the program at a pseudo-terminal, by which it can be interrupted; killed at the end."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *args],
        cwd=cli.folder,
        env=cli.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            os.close(ours)


class Terminal:
    """A program at its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self._process = process
        self._descriptor = descriptor
        self._shown = b""
        self._seen = 0

    def wait_for(self, text: str) -> None:
        """Wait until `text` is shown, behind what was waited for before."""
        while (found := self._shown.find(text.encode(), self._seen)) < 0:
            assert self._read(), f"{text!r} was never shown: {self._shown!r}"
        self._seen = found + len(text)

    def press(self, keys: bytes) -> None:
        """Type what a keyboard would send; Ctrl-C is the octet 3."""
        os.write(self._descriptor, keys)

    def end(self, *, status: int) -> str:
        """Wait until the program has ended, with `status`; all that was shown."""
        while self._read():
            pass
        assert self._process.wait(_PATIENCE_S) == status, self._shown
        return self._shown.decode().replace("\r\n", "\n")

    def _read(self) -> bool:
        """Read what comes next, False at the end."""
        readable, _, _ = select.select([self._descriptor], [], [], _PATIENCE_S)
        assert readable, f"nothing more is shown: {self._shown!r}"
        try:
            chunk = os.read(self._descriptor, 65536)
        except OSError:  # how Linux reports that the other end was closed
            return False
        self._shown += chunk
        return bool(chunk)
