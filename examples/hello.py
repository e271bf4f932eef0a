"""Three things that a bus does: carry an event, keep it, and answer a question.

Prints:
    eu: order 7 over 120
    reply: 2 orders may wait
    in the log: orders.eu.created
    in the log: orders.us.created
"""

import asyncio

from msgspec import Struct

from hms_bus import Bus


class Order(Struct):
    """An order that was placed."""

    id: int
    amount: int


bus = Bus("direct://", log="memory:")


@bus.subscribe("orders.{region}.created")
async def audit(order: Order, region: str) -> None:
    """React to an order; `region` is what the pattern captured from the topic."""
    if order.amount > 100:
        print(f"{region}: order {order.id} over {order.amount}")


@bus.serve("orders.waiting")
async def waiting(limit: int) -> str:
    """Answer a request."""
    return f"{limit} orders may wait"


async def main() -> None:
    """Publish two orders, ask a question and read the log."""
    async with bus:
        await bus.publish("orders.eu.created", Order(id=7, amount=120))
        await bus.publish("orders.us.created", Order(id=8, amount=80))
        print("reply:", await bus.request("orders.waiting", 2, returns=str, timeout=2))
        async for message in bus.replay("orders.*.created"):
            print("in the log:", message.topic)


if __name__ == "__main__":
    asyncio.run(main())
