"""A relay in a process of its own, that kills itself between the log and the outbox."""

import asyncio
import os
import signal
import sys

from hms_bus import Bus, Envelope, Receipt
from hms_bus.bus.middleware import Publish
from hms_bus.sourcing.sqlite import open_relay


async def main(log_url: str, path: str, count: int) -> None:
    """Publish `count` messages and die with the last one in the log; 0 publishes all."""
    published = 0
    bus = Bus("direct://", log=log_url, source="/relay")

    @bus.publish_middleware
    def die(send: Publish) -> Publish:
        async def sent(envelope: Envelope) -> Receipt:
            nonlocal published
            receipt = await send(envelope)
            published += 1
            if published == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return receipt

        return sent

    async with bus, open_relay(path, bus) as relay:
        await relay.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
