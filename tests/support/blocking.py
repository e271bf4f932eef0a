"""Finds calls that block the event loop, whoever handles the error that they raise."""

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from blockbuster import BlockingError, blockbuster_ctx


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingCall:
    """A blocking `function` that was called on a running loop, and the stack that led there."""

    function: str
    stack: str

    def __str__(self) -> str:
        return f"{self.function}, called from\n{self.stack}"


@contextmanager
def blocking_calls_of(package: str) -> Generator[list[BlockingCall]]:
    """Collect the calls that block a running loop with `package` anywhere on the stack.

    Such a call raises `blockbuster.BlockingError` instead of blocking. A bus catches what its
    handlers raise, therefore the call is recorded too.
    """
    calls: list[BlockingCall] = []

    class RecordedBlockingError(BlockingError):
        def __init__(self, func: str) -> None:
            super().__init__(func)
            # The last two frames are this one and blockbuster's.
            stack = "".join(traceback.format_list(traceback.extract_stack()[-10:-2]))
            calls.append(BlockingCall(function=func, stack=stack))

    raised = mock.patch("blockbuster.blockbuster.BlockingError", RecordedBlockingError)
    with raised, blockbuster_ctx(package) as blockbuster:
        # Where a log line goes is the user's choice; in a test pytest writes it to the null device.
        for function in ("io.TextIOWrapper.write", "io.BufferedWriter.write"):
            blockbuster.functions[function].can_block_in("logging/__init__.py", "emit")
        # As an import does, it reads the disk once per process.
        for function in blockbuster.functions.values():
            function.can_block_in("hms_bus/plugins.py", "_find_installed")
        yield calls
