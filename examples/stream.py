"""An answer that comes in pieces, with flow control; the reader leaves, and the writer stops.

The agent writes a story word by word, as a language model would. The reader allows four words under
way, so the writer is never far ahead, and is cancelled as soon as the reader has read enough.

Prints:
    once upon a time
    UNAVAILABLE: the writer has no ideas (may be tried again: True)
    the writer stopped after ... words, no further ahead than it may be: True
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import cycle

from hms_bus import Bus, RemoteError, StatusError

CREDIT = 4

logging.getLogger("hms_bus").setLevel(logging.CRITICAL)  # this program prints for itself

bus = Bus("direct://")
written: list[str] = []


@bus.serve("stories.write")
async def write(beginning: str) -> AsyncIterator[str]:
    """Yield words for ever; what must be tidied up at the end belongs into `finally`."""
    if not beginning:
        raise StatusError("UNAVAILABLE", "the writer has no ideas")
    try:
        for word in cycle(beginning.split()):
            written.append(word)
            yield word
    finally:
        written.append("(stopped)")


async def main() -> None:
    """Read four words and leave; then ask for a story that fails."""
    async with bus:
        opening = "once upon a time there was"
        async with bus.request_stream(
            "stories.write", opening, returns=str, credit=CREDIT, idle_timeout="1s"
        ) as words:
            print(" ".join([await anext(words) for _ in range(4)]))
        try:
            async with bus.request_stream("stories.write", "", returns=str) as words:
                print([word async for word in words])
        except RemoteError as error:
            print(f"{error.code}: {error.message} (may be tried again: {error.retryable})")
    *words_written, last = written
    is_bounded = last == "(stopped)" and len(words_written) <= 4 + 2 * CREDIT
    count = len(words_written)
    print(f"the writer stopped after {count} words, no further ahead than it may be: {is_bounded}")


if __name__ == "__main__":
    asyncio.run(main())
