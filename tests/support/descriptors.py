"""The open files of this process."""

from pathlib import Path


def open_descriptors() -> int:
    """Return how many there are."""
    return len(list(Path("/dev/fd").iterdir()))
