"""An agent of hms_bus in a process of its own, which does what a test tells it to.

    python -m tests.support.bus_agent URL CODEC LOG          LOG is a URL, or empty

A line of JSON on stdin is a command: `[number, method, arguments]`; `cancel` takes the number of
another one. A line on stdout answers one (`[number, "done", result]`, or `failed` or `cancelled`),
or tells what happened (`["heard", pattern, envelope]`, `["noted", text]`). When stdin is closed, it
ends at once.

It serves, below the name of its codec:

| topic | does |
|---|---|
| `add` | adds two numbers |
| `relay` | asks on the topic that it is told, and answers with what comes |
| `refuse`, `fall` | raises a status, an exception |
| `wait` | notes `waiting`, waits for ever, notes `cancelled` |
| `count` | yields the numbers up to the one that it is told, notes `left` when it is left early |
| `stumble` | yields one number, then raises a status |
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hms_bus import Bus, BusError, Message, StatusError, plugins
from hms_bus.envelope import Envelope

JSON = plugins.get_codec("json")


def say(*line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def to_dict(envelope: Envelope) -> dict[str, Any]:
    """Return the envelope as the JSON format has it."""
    return json.loads(JSON.encode(envelope))


def serve_answers(bus: Bus, prefix: str) -> None:
    """Serve what answers once."""

    @bus.serve(f"{prefix}.add")
    async def _(numbers: list[int]) -> int:
        return sum(numbers)

    @bus.serve(f"{prefix}.relay")
    async def _(topic: str, msg: Message) -> Any:
        say("heard", f"{prefix}.relay", to_dict(msg.envelope))
        return await bus.request(topic, [1, 2], timeout=30)

    @bus.serve(f"{prefix}.refuse")
    async def _() -> None:
        details = {"article": "sofa"}
        raise StatusError("NOT_FOUND", "there is no sofa", details=details, retryable=True)

    @bus.serve(f"{prefix}.fall")
    async def _() -> None:
        raise LookupError("it fell")

    @bus.serve(f"{prefix}.wait")
    async def _() -> None:
        say("noted", "waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("noted", "cancelled")
            raise


def serve_streams(bus: Bus, prefix: str) -> None:
    """Serve what answers with a stream."""

    @bus.serve(f"{prefix}.count")
    async def _(up_to: int) -> AsyncIterator[int]:
        is_complete = False
        try:
            for number in range(up_to):
                yield number
            is_complete = True
        finally:
            if not is_complete:
                say("noted", "left")

    @bus.serve(f"{prefix}.stumble")
    async def _() -> AsyncIterator[int]:
        yield 0
        raise StatusError("DATA_LOSS", "the rest is gone")


class Commands:
    """What a test can tell the agent to do."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._tasks: dict[Any, asyncio.Task[None]] = {}
        self._listening: set[asyncio.Task[None]] = set()

    def take(self, line: str) -> None:
        """Begin one command."""
        number, method, arguments = json.loads(line)
        if method == "cancel":
            self._tasks[arguments["number"]].cancel()
            return
        doing = self._answer(number, getattr(self, method)(**arguments))
        task = self._tasks[number] = asyncio.create_task(doing)
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _answer(self, number: int, doing: Awaitable[Any]) -> None:
        try:
            say(number, "done", await doing)
        except asyncio.CancelledError:
            say(number, "cancelled", None)
        except BusError as error:
            facts = {"type": type(error).__name__, "code": error.code, "message": error.message}
            facts |= {"retryable": error.retryable, "details": getattr(error, "details", {})}
            say(number, "failed", facts)

    async def publish(self, topic: str, data: Any, **options: Any) -> dict[str, Any]:
        receipt = await self._bus.publish(topic, data, **options)
        return {"id": receipt.id, "position": receipt.position}

    async def publish_all(self, topic: str, count: int) -> None:
        for n in range(count):
            await self._bus.publish(topic, n)

    async def forward(self, envelope: dict[str, Any]) -> None:
        await self._bus.forward(JSON.decode(json.dumps(envelope).encode()))

    async def request(self, topic: str, data: Any, timeout: str = "30s") -> Any:
        return await self._bus.request(topic, data, timeout=timeout)

    async def stream(self, topic: str, data: Any) -> list[Any]:
        async with self._bus.request_stream(topic, data, idle_timeout="30s") as items:
            return [item async for item in items]

    async def listen(self, pattern: str, group: str | None = None) -> None:
        """Return when the subscription is in force; from then on say what it hears."""
        ready = asyncio.Event()
        listening = asyncio.create_task(self._listen(pattern, group, ready.set))
        self._listening.add(listening)
        await ready.wait()

    async def _listen(self, pattern: str, group: str | None, ready: Callable[[], None]) -> None:
        async with self._bus.subscribe(pattern, group=group) as messages:
            ready()
            async for message in messages:
                say("heard", pattern, to_dict(message.envelope))

    async def replay(self, pattern: str) -> list[Any]:
        return [[m.position, to_dict(m.envelope)] async for m in self._bus.replay(pattern)]


async def main(url: str, codec: str, log: str) -> None:
    """Do what stdin says, until it is closed."""
    bus = Bus(url, codec=codec, log=log or None, source=f"/agents/{codec}")
    serve_answers(bus, codec)
    serve_streams(bus, codec)
    async with bus:
        commands = Commands(bus)
        say("noted", "ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            commands.take(line)
        os._exit(0)  # the test has ended, whatever is under way


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
