"""How to test an agent: the agent, and its tests as they would stand in a test file.

`hms_bus.testing.bus` makes a bus that behaves like one between processes: every message passes
through a codec, so a payload that only works as an object fails here and not in production. Run the
tests with `pytest` and its plug-in pytest-asyncio, or, as here, by running this file.

Prints:
    test_an_order_over_the_limit_is_reviewed passed
    test_a_small_order_is_not passed
    test_the_limit_is_answered passed
    test_the_handler_is_a_plain_function passed
"""
# ruff: noqa: S101 - tests assert

import asyncio

from msgspec import Struct

from hms_bus import Bus, testing


class Order(Struct):
    """An order that was placed."""

    id: int
    amount: int


class Reviewer:
    """The agent: has large orders reviewed, and tells what it counts as large."""

    def __init__(self, bus: Bus, limit: int) -> None:
        self._bus = bus
        self._limit = limit
        bus.subscribe("orders.created")(self.look_at)
        bus.serve("reviewer.limit")(self.tell_limit)

    async def look_at(self, order: Order) -> None:
        """Ask for a review of a large order."""
        if order.amount > self._limit:
            await self._bus.publish(f"reviews.wanted.{order.id}", order)

    async def tell_limit(self) -> int:
        """Answer what is large."""
        return self._limit


async def test_an_order_over_the_limit_is_reviewed() -> None:
    """Wait for the event, never for a time."""
    async with testing.bus() as bus, bus.subscribe("reviews.wanted.{id}") as wanted:
        Reviewer(bus, limit=100)
        await bus.publish("orders.created", Order(id=7, amount=120))
        review = await anext(wanted)
        assert review.captures["id"] == "7"
        assert review.decode(Order) == Order(id=7, amount=120)


async def test_a_small_order_is_not() -> None:
    """Leaving the scope drains: what has not happened then, does not happen."""
    wanted: list[Order] = []
    async with testing.bus() as bus:
        Reviewer(bus, limit=100)

        @bus.subscribe("reviews.>")
        async def note(order: Order) -> None:
            wanted.append(order)

        await bus.publish("orders.created", {"id": 8, "amount": 80})
    assert wanted == []


async def test_the_limit_is_answered() -> None:
    """Ask the agent as others do."""
    async with testing.bus() as bus:
        Reviewer(bus, limit=100)
        assert await bus.request("reviewer.limit", returns=int) == 100


async def test_the_handler_is_a_plain_function() -> None:
    """Call it: a decorator or `subscribe(…)(…)` returns the function as it was."""
    assert await Reviewer(testing.bus(), limit=5).tell_limit() == 5


async def main() -> None:
    """Run the tests, as pytest would."""
    for test in (
        test_an_order_over_the_limit_is_reviewed,
        test_a_small_order_is_not,
        test_the_limit_is_answered,
        test_the_handler_is_a_plain_function,
    ):
        await test()
        print(test.__name__, "passed")


if __name__ == "__main__":
    asyncio.run(main())
