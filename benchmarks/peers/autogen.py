"""autogen-core's `SingleThreadedAgentRuntime`, in the environment of requirements/autogen.txt."""
# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false
# pyright: reportUntypedFunctionDecorator=false
# ... since autogen-core is not installed where the types are checked.

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

from autogen_core import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TypeSubscription,
    event,
    rpc,
)
from opentelemetry.trace import NoOpTracerProvider
from pydantic import BaseModel

from benchmarks.tally import Tally
from benchmarks.worker import Run, serve


class Order(BaseModel):
    """The fields of `benchmarks.orders.Order`. It takes dataclasses too, but those are slower."""

    number: int
    customer: str
    item: str
    quantity: int
    note: str


class Quote(BaseModel):
    """The answer to a request about an order."""

    number: int
    price: int


ORDER = Order(
    number=4711,
    customer="c-20391",
    item="espresso cups, white",
    quantity=12,
    note="please leave it at the back door, Jan.",
)
QUOTE = Quote(number=4711, price=3600)


class Listener(RoutedAgent):
    """Handles orders by counting them."""

    def __init__(self, tally: Tally) -> None:
        super().__init__("counts orders")
        self._tally = tally

    @event
    async def handle(self, message: Order, ctx: MessageContext) -> None:
        """Count."""
        self._tally.add()


class Seller(RoutedAgent):
    """Answers orders with a quote."""

    @rpc
    async def quote(self, message: Order, ctx: MessageContext) -> Quote:
        """Answer."""
        return QUOTE


@asynccontextmanager
async def publish(*, subscribers: int) -> AsyncGenerator[Run]:
    """Publish to agents of as many types as there are subscribers, until all have handled it."""
    runtime = SingleThreadedAgentRuntime(tracer_provider=NoOpTracerProvider())
    tally = Tally()
    for number in range(subscribers):
        name = f"listener_{number}"
        await Listener.register(runtime, name, lambda: Listener(tally))
        await runtime.add_subscription(TypeSubscription(topic_type="default", agent_type=name))
    runtime.start()
    topic = DefaultTopicId()

    async def run(operations: int) -> float:
        tally.expect(operations * subscribers)
        started = time.perf_counter()
        for _ in range(operations):
            await runtime.publish_message(ORDER, topic)
        await tally.complete()
        return time.perf_counter() - started

    yield run
    await runtime.stop_when_idle()


@asynccontextmanager
async def request(*, in_flight: int) -> AsyncGenerator[Run]:
    """Send messages and await the answers, `in_flight` at a time."""
    runtime = SingleThreadedAgentRuntime(tracer_provider=NoOpTracerProvider())
    await Seller.register(runtime, "seller", lambda: Seller("answers orders"))
    runtime.start()
    seller = AgentId("seller", "default")

    async def ask(count: int) -> None:
        for _ in range(count):
            answer = await runtime.send_message(ORDER, seller)
            assert type(answer) is Quote

    async def run(operations: int) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(ask(operations // in_flight) for _ in range(in_flight)))
        return time.perf_counter() - started

    yield run
    await runtime.stop_when_idle()


if __name__ == "__main__":
    serve(
        "autogen-core",
        version("autogen-core"),
        {"publish": publish, "request": request},
    )
