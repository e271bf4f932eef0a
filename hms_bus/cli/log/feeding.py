"""Reading files of events while an event loop runs."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from itertools import islice
from typing import IO

from hms_bus.log.tools.forms import Form, read_documents

_AT_ONCE = 500
_AHEAD = 4


async def feed_documents(form: Form, source: IO[bytes]) -> AsyncGenerator[list[bytes]]:
    """Yield the events of `source`, those of a while together; raises what reading them raises.

    A daemon thread reads, as in `hms_bus.cli.lines`: Ctrl-C does not wait for a pipe.
    """
    loop = asyncio.get_running_loop()
    batches: asyncio.Queue[list[bytes] | Exception] = asyncio.Queue()
    ahead = threading.Semaphore(_AHEAD)

    def read() -> None:
        batch: list[bytes] | Exception = [b"-"]
        documents = None
        while batch and not isinstance(batch, Exception):
            ahead.acquire()
            try:
                documents = documents or read_documents(form, source)
                batch = list(islice(documents, _AT_ONCE))
            except Exception as error:  # noqa: BLE001 - raised where the events are awaited
                batch = error
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(batches.put_nowait, batch)

    threading.Thread(target=read, name="hms-bus import", daemon=True).start()
    while batch := await batches.get():
        if isinstance(batch, Exception):
            raise batch
        ahead.release()
        yield batch
