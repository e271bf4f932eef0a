"""The watch on the event loop bites: on our code, on our code only, and through a handler."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import hms_bus
from tests.support.blocking import BlockingCall


def sleep_as_if_written_in(folder: Path) -> Callable[[], None]:
    code = compile("def nap():\n    time.sleep(0)", str(folder / "nap.py"), "exec")
    namespace: dict[str, Any] = {"time": time}
    exec(code, namespace)  # noqa: S102 - code with a file name of our choice
    return namespace["nap"]


PACKAGE = Path(hms_bus.__path__[0])
ROOT = Path(__file__).parents[2]

# A test that passes, apart from what the code under test did behind its back.
SWALLOWING_TEST = """
import contextlib
from tests.conftest import blocking_calls
from tests.unit.test_blocking_calls import PACKAGE, sleep_as_if_written_in

async def test_swallows():
    with contextlib.suppress(Exception):
        sleep_as_if_written_in(PACKAGE)()
"""


async def test_a_blocking_call_of_the_package_raises_and_is_recorded(
    blocking_calls: list[BlockingCall],
) -> None:
    nap = sleep_as_if_written_in(PACKAGE)
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        nap()
    [call] = blocking_calls
    blocking_calls.clear()
    assert call.function == "time.sleep"
    assert "nap.py" in call.stack


async def test_a_blocking_call_is_recorded_when_its_error_is_swallowed(
    blocking_calls: list[BlockingCall],
) -> None:
    with contextlib.suppress(BlockingError):
        sleep_as_if_written_in(PACKAGE)()
    assert len(blocking_calls) == 1
    blocking_calls.clear()


async def test_a_blocking_call_of_other_code_is_its_own_affair(tmp_path: Path) -> None:
    sleep_as_if_written_in(tmp_path)()


def test_the_package_may_block_where_no_loop_runs() -> None:
    sleep_as_if_written_in(PACKAGE)()


def test_a_test_fails_for_a_blocking_call_that_it_does_not_see(tmp_path: Path) -> None:
    test = tmp_path / "test_swallows.py"
    test.write_text(SWALLOWING_TEST)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--config-file", ROOT / "pyproject.toml", test],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "hms_bus blocked the event loop" in run.stdout
