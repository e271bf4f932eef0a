"""What a record that cannot be read means for what was asked for."""

from hms_bus.abc import Selector
from hms_bus.errors import LogCorruptError


def is_asked_for(error: LogCorruptError, selector: Selector) -> bool:
    """Whether what cannot be read is selected, or may be: it is not where it lies behind the end.

    More is read than is played: what was answered or said to the last messages stands behind them.
    """
    return selector.last is None or error.position is None or error.position <= selector.last


def left_out(error: LogCorruptError) -> str:
    """Return what is told of a selected record that cannot be read."""
    return f"{error}; what lies behind it was left out"
