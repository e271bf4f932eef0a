"""What all tools share: how they tell how far they are, and how they are stopped."""

from collections.abc import Callable

Report = Callable[[int, int | None], None]
"""Told now and then how much is done, and of how much in all (`None`: not known).

What it raises ends the work, which then leaves nothing behind.
"""

REPORT_EACH = 1000


def silent(done: int, total: int | None) -> None:
    """Report nothing."""
    del done, total
