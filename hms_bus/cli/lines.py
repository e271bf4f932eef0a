"""Reading lines of stdin or a file while an event loop runs."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 4


async def read_lines(descriptor: int) -> AsyncGenerator[list[bytes]]:
    """Yield the lines of a file descriptor, those that are there together, without newlines.

    A daemon thread reads: it may wait for ever for a terminal or a pipe, and neither Ctrl-C nor the
    end of the program waits for it. A last line needs no newline. Raises `OSError`.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    ahead = threading.Semaphore(_CHUNKS_AHEAD)

    def read() -> None:
        chunk: bytes | OSError = b"-"
        while chunk and not isinstance(chunk, OSError):
            ahead.acquire()
            try:
                chunk = os.read(descriptor, _CHUNK_BYTES)
            except OSError as error:
                chunk = error
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)

    threading.Thread(target=read, name="hms-bus stdin", daemon=True).start()
    rest = b""
    while chunk := await chunks.get():
        if isinstance(chunk, OSError):
            raise chunk
        ahead.release()
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]
