"""A request and the errors that may answer it, each with its facts.

Prints:
    3 lamps reserved, 2 left
    FAILED_PRECONDITION: 2 lamps are left
      details {'left': 2}, worth a retry: False
    INVALID_ARGUMENT: Expected `int` >= 1 (topic ...
    NOT_FOUND: there is no sofa
    nobody serves 'prices.get': is the agent that does started, and connected?
    no answer on 'stock.count' within 0.05 s
"""

import asyncio
import logging
from typing import Annotated

from msgspec import Meta, Struct

from hms_bus import Bus, RemoteError, StatusError
from hms_bus.errors import DeadlineExceededError, NoRespondersError

logging.getLogger("hms_bus").setLevel(logging.CRITICAL)  # this program prints for itself


class Reserve(Struct):
    """A request to put some pieces aside."""

    article: str
    pieces: Annotated[int, Meta(ge=1)]


class Reserved(Struct):
    """What was put aside, and what is left."""

    pieces: int
    left: int


bus = Bus("direct://", source="/agents/stock")
stock = {"lamp": 5}


@bus.serve("stock.reserve")
async def reserve(wish: Reserve) -> Reserved:
    """Answer with a value, or with a status of our own choice."""
    left = stock.get(wish.article)
    if left is None:
        raise StatusError("NOT_FOUND", f"there is no {wish.article}")
    if left < wish.pieces:
        raise StatusError(
            "FAILED_PRECONDITION", f"{left} {wish.article}s are left", details={"left": left}
        )
    stock[wish.article] -= wish.pieces
    return Reserved(pieces=wish.pieces, left=stock[wish.article])


@bus.serve("stock.count")
async def count() -> int:
    """Count by hand, which takes longer than anybody waits; it is cancelled then."""
    await asyncio.sleep(60)
    return sum(stock.values())


async def try_to_reserve(article: str, pieces: int) -> None:
    """Ask, and tell what came of it."""
    wish = {"article": article, "pieces": pieces}
    try:
        done = await bus.request("stock.reserve", wish, returns=Reserved, timeout="1s")
    except RemoteError as error:
        print(f"{error.code}: {error.message}")
        if error.code == "FAILED_PRECONDITION":
            print(f"  details {error.details}, worth a retry: {error.retryable}")
    else:
        print(f"{done.pieces} {article}s reserved, {done.left} left")


async def main() -> None:
    """Ask for what there is, what there is not, and what makes no sense."""
    async with bus:
        await try_to_reserve("lamp", 3)
        await try_to_reserve("lamp", 3)
        await try_to_reserve("lamp", 0)
        await try_to_reserve("sofa", 1)
        try:
            await bus.request("prices.get", "lamp")
        except NoRespondersError as error:
            print(error)
        try:
            await bus.request("stock.count", timeout="50ms")
        except DeadlineExceededError as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
