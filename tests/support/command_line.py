"""The real `hms-bus` in processes of its own, on pipes or on a pseudo-terminal."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import relay

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "hms_bus")
_PATIENCE_S = 30


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@dataclass(kw_only=True)
class CommandLine:
    """Runs the program in `folder`, without the settings of whoever runs the tests."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if n in {"PATH", "LANG", "TMPDIR"}}
        return {
            **kept,
            "HOME": str(self.folder),
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "TERM": "xterm-256color",
            "COLUMNS": "200",
            **self.settings,
        }

    def run(self, *args: str, stdin: bytes = b"", fails: int = 0) -> Ended:
        """Run to the end, which must come with the status `fails`."""
        done = subprocess.run(
            [*PROGRAM, *args],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        ended = Ended(status=done.returncode, out=done.stdout, err=done.stderr.decode())
        assert ended.status == fails, ended
        assert "Traceback" not in ended.err, ended.err
        return ended

    def shell(self, script: str) -> Ended:
        """Run a line of bash in which `hms-bus` is the program."""
        function = f'hms-bus() {{ {" ".join(PROGRAM)} "$@"; }}'
        done = subprocess.run(
            ["/bin/bash", "-c", f"{function}\n{script}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        return Ended(status=done.returncode, out=done.stdout, err=done.stderr.decode())

    def on_terminal(self, *args: str) -> str:
        """Return what the program shows on a terminal, stdout and stderr."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*PROGRAM, *args],
            cwd=self.folder,
            env=self.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            shown = b"".join(_until_closed(ours))
            os.close(ours)
            process.wait(_PATIENCE_S)
        return shown.decode().replace("\r\n", "\n")

    def start(
        self, *args: str, ready: str | None = None
    ) -> contextlib.AbstractContextManager["Running"]:
        """Start a process that lasts, once `ready` stood on its stderr; it ends with the scope."""
        return self._start([*PROGRAM, *args], ready)

    def start_python(self, script: str, ready: str) -> contextlib.AbstractContextManager["Running"]:
        """Start a Python program in the same way."""
        return self._start([sys.executable, "-c", script], ready)

    @contextlib.contextmanager
    def _start(self, command: Sequence[str], ready: str | None) -> Generator["Running"]:
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            running = Running(process)
            try:
                if ready is not None:
                    running.await_error_line(ready)
                yield running
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


class Running:
    """A process under way."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._errors: list[str] = []

    def await_error_line(self, text: str) -> None:
        """Wait for a line with `text` on stderr."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line.decode())
            if text in self._errors[-1]:
                return
        raise AssertionError(f"{text!r} never came: {''.join(self._errors)}")

    def read_line(self) -> str:
        """Wait for the next line of stdout."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode()

    def write(self, text: bytes) -> None:
        """Write to stdin, and leave it open."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, as the terminal or an init system would."""
        self._process.send_signal(number)

    def end(self) -> Ended:
        """Wait until it has ended by itself."""
        out, err = self._process.communicate(timeout=_PATIENCE_S)
        errors = "".join(self._errors) + err.decode()
        return Ended(status=self._process.returncode, out=out, err=errors)


def _until_closed(terminal: int) -> Iterator[bytes]:
    # Linux reports the other end's close of a pseudo-terminal as an error, macOS as the end.
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            yield chunk


@contextlib.contextmanager
def relay_hub(folder: Path) -> Generator[str]:
    """Install the transport of `tests.support.relay` in `folder`, run its hub; the URL."""
    relay.install(folder)
    path = folder / "relay.sock"
    started = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(relay.Hub().serve(str(path), started.set, stop))
    )
    thread.start()
    assert started.wait(_PATIENCE_S)
    try:
        yield f"relay://{path}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_PATIENCE_S)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
