"""Whether output is coloured; apart, because every start of the program asks."""

import os
from typing import IO, Any


def wants_colour() -> bool:
    """Whether the user wants colours where they can be shown (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_coloured(stream: IO[Any]) -> bool:
    """Whether what is written to `stream` is to be coloured."""
    return stream.isatty() and wants_colour()
