"""Streams for writers that ask where they are: a pipe does not know."""

from typing import IO


class Counted:
    """A stream that only goes forwards and knows how far it came."""

    closed = False

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._count = 0

    def write(self, octets: bytes) -> int:
        """Write all of it."""
        self._out.write(octets)
        size = memoryview(octets).nbytes
        self._count += size
        return size

    def tell(self) -> int:
        """Return how much was written."""
        return self._count

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._out.flush()

    def writable(self) -> bool:
        """Say yes."""
        return True

    def readable(self) -> bool:
        """Say no."""
        return False

    def seekable(self) -> bool:
        """Say no."""
        return False

    def close(self) -> None:
        """Leave the stream to whoever has opened it."""
