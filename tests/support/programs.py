"""Runs a program as a user would: in a folder of its own, what `make` installed on the path."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hms_bus.ipc.places import RUNTIME_DIR
from tests.support.hub_places import runtime_folder

# asyncio reports these on stderr and the program still ends well; to us each is a bug.
LOST_WORK = ("was never awaited", "was never retrieved", "was destroyed but it is pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a program ended. `status` is None when it was stopped because its time was up."""

    status: int | None
    stdout: str
    stderr: str

    @property
    def succeeded(self) -> bool:
        """It ended by itself with status 0 and lost no task, coroutine or exception on the way."""
        return self.status == 0 and not any(sign in self.stderr for sign in LOST_WORK)

    def __str__(self) -> str:
        status = "no end in time" if self.status is None else f"exit status {self.status}"
        return f"{status}\n--- stdout ---\n{self.stdout}\n--- stderr ---\n{self.stderr}"


def run_program(args: Sequence[str | Path], *, cwd: Path, timeout_s: float = 60) -> Run:
    """Run `args` in `cwd`, for `timeout_s` at most; whatever it left running is killed, hubs too.

    The output goes through files: a pipe would stay open as long as a background process lives.
    """
    with (
        runtime_folder() as runtime,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        process = subprocess.Popen(
            args,
            cwd=cwd,
            env=_environment(home=cwd, runtime=runtime),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        status = _wait(process, timeout_s)
        out.seek(0)
        err.seek(0)
        return Run(status=status, stdout=out.read(), stderr=err.read())


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(*, home: Path, runtime: Path) -> dict[str, str]:
    """No settings of the user's reach the program, neither of hms-bus nor of Python."""
    programs = Path(sys.executable).parent
    return {
        "HOME": str(home),
        RUNTIME_DIR: str(runtime),
        "LANG": "C.UTF-8",
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }
