"""Which cores the processes of a contender may use."""

import os
from collections.abc import Generator
from contextlib import contextmanager

ONE_CORE = 1


@contextmanager
def pinned(cores: int | None) -> Generator[None]:
    """Let the processes that are started in this scope, and theirs, share the first `cores` cores.

    `None` leaves them all; so does a system without `sched_setaffinity`, such as macOS.
    """
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(ours)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
