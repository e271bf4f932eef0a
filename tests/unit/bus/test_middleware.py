"""Functions around handlers and publishers: order, retry, timeout."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hms_bus import Bus, Envelope, Message, RemoteError, StatusError, retry, timeout
from hms_bus.abc import Receipt
from hms_bus.bus.middleware import Handler, Middleware, Publish, compose
from hms_bus.errors import (
    ConfigError,
    DecodeError,
    EncodeError,
    NoRespondersError,
    StateError,
    UnsupportedError,
)
from tests.support.events import event


def naming(name: str, log: list[str]) -> Middleware:
    def middleware(handler: Handler) -> Handler:
        log.append(f"wrap {name}")

        async def call(message: Message) -> Any:
            log.append(f"{name} in")
            result = await handler(message)
            log.append(f"{name} out")
            return result

        return call

    return middleware


def test_the_first_becomes_the_outermost() -> None:
    chain = compose([lambda f: f"a({f})", lambda f: f"b({f})"], "x")
    assert chain == "a(b(x))"
    assert compose([], "x") == "x"


async def test_the_bus_wraps_around_the_subscription_in_the_order_of_adding() -> None:
    log: list[str] = []
    bus = Bus()
    bus.middleware(naming("one", log))
    bus.middleware(naming("two", log))

    @bus.subscribe("a", middleware=[naming("three", log), naming("four", log)])
    async def take(data: str) -> None:
        log.append(data)

    async with bus:
        await bus.publish("a", "handled")
    assert log[:4] == ["wrap four", "wrap three", "wrap two", "wrap one"]
    assert log[4:] == [
        *("one in", "two in", "three in", "four in", "handled"),
        *("four out", "three out", "two out", "one out"),
    ]


async def test_middleware_may_answer_change_and_stop() -> None:
    bus = Bus()

    def gate(handler: Handler) -> Handler:
        async def call(message: Message) -> Any:
            if message.data == "secret":
                return "not for you"
            return f"<{await handler(message)}>"

        return call

    @bus.serve("echo", middleware=[gate])
    async def echo(data: str) -> str:
        return data

    async with bus:
        assert await bus.request("echo", "hello") == "<hello>"
        assert await bus.request("echo", "secret") == "not for you"


async def test_what_middleware_raises_is_the_handlers_error() -> None:
    bus = Bus()
    seen: list[BaseException] = []

    @bus.on_error
    def note(error: BaseException, _: Message) -> None:
        seen.append(error)

    def broken(_: Handler) -> Handler:
        async def call(_: Message) -> Any:
            raise ValueError("in middleware")

        return call

    @bus.subscribe("a", middleware=[broken])
    async def take(data: str) -> None: ...

    async with bus:
        await bus.publish("a", "x")
    assert [str(error) for error in seen] == ["in middleware"]


async def test_handlers_that_are_open_stay_as_they_are() -> None:
    log: list[str] = []
    bus = Bus()

    @bus.subscribe("a")
    async def take() -> None:
        log.append("handled")

    async with bus:
        bus.middleware(naming("late", log))
        await bus.publish("a")
    assert log == ["handled"]
    async with bus:
        await bus.publish("a")
    assert log == ["handled", "wrap late", "late in", "handled", "late out"]


# -- publishers ------------------------------------------------------------------------------------


def stamping(name: str, log: list[str]) -> Callable[[Publish], Publish]:
    def middleware(publish: Publish) -> Publish:
        log.append(f"wrap {name}")

        async def send(envelope: Envelope) -> Receipt:
            log.append(f"{name} {envelope.topic}")
            return await publish(envelope.replace(subject=f"{envelope.subject or ''}{name}"))

        return send

    return middleware


async def test_publishers_are_wrapped_once_for_all_ways_to_publish() -> None:
    log: list[str] = []
    subjects: list[str | None] = []
    bus = Bus(log="memory:")
    bus.publish_middleware(stamping("1", log))
    bus.publish_middleware(stamping("2", log))

    @bus.subscribe("a")
    async def take(envelope: Envelope) -> None:
        subjects.append(envelope.subject)

    @bus.serve("ask")
    async def answer(envelope: Envelope) -> str | None:
        return envelope.subject

    async with bus:
        await bus.publish("a")
        await bus.publish("a", priority=4)
        await bus.publish_many([("a", 1), ("a", 2)])
        await bus.forward(event("a"))
        assert await bus.request("ask") == "12"
        assert [reply.value for reply in await bus.request_many("ask", count=1)] == ["12"]
        bus.emit("a")
    assert subjects == ["12"] * 6
    assert [line for line in log if line.startswith("wrap")] == ["wrap 2", "wrap 1"]


async def test_a_wrapper_that_comes_while_the_bus_is_open_counts_at_once() -> None:
    log: list[str] = []
    bus = Bus()
    async with bus:
        await bus.publish("a")
        bus.publish_middleware(stamping("x", log))
        await bus.publish("a")
        bus.emit("a")
    assert log == ["wrap x", "x a", "x a"]


async def test_a_publisher_may_be_stopped_and_another_message_sent() -> None:
    got: list[str] = []
    bus = Bus()

    @bus.publish_middleware
    def audit(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            if envelope.topic == "secret":
                return Receipt(envelope.id)
            if envelope.topic != "audit":
                await bus.publish("audit", envelope.topic)
            return await publish(envelope)

        return send

    @bus.subscribe(">")
    async def take(msg: Message) -> None:
        got.append(f"{msg.topic} {msg.data}")

    async with bus:
        await bus.publish("a", "x")
        await bus.publish("secret", "x")
    assert got == ["audit a", "a x"]


async def test_expect_on_a_topic_without_a_log_is_refused_behind_middleware_too() -> None:
    bus = Bus()
    async with bus:
        with pytest.raises(UnsupportedError):
            await bus.publish("a", expect="none")
        bus.publish_middleware(lambda publish: publish)
        with pytest.raises(UnsupportedError):
            await bus.publish("a", expect="none")
        with pytest.raises(UnsupportedError):
            await bus.publish_many([("a", 1)], expect=3)


async def test_expect_reaches_the_log_behind_middleware() -> None:
    bus = Bus(log="memory:")
    bus.publish_middleware(lambda publish: publish)
    async with bus:
        first = await bus.publish("a", expect="none")
        assert first.position == 1
        second, third = await bus.publish_many([("a", 1), ("a", 2)], expect=1)
        assert (second.position, third.position) == (2, 3)


# -- retry -----------------------------------------------------------------------------------------


def failing(*errors: BaseException) -> tuple[Handler, list[Message]]:
    """A handler that raises each of `errors` once and then returns how often it was called."""
    left, calls = list(errors), list[Message]()

    async def handler(message: Message) -> int:
        calls.append(message)
        if left:
            raise left.pop(0)
        return len(calls)

    return handler, calls


MESSAGE = Message(event("a"))


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of `retry`, none of which are waited for."""
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr("hms_bus.bus.middleware.asyncio.sleep", nap)
    return naps


async def test_retry_calls_again_until_it_works(naps: list[float]) -> None:
    handler, calls = failing(OSError(), ValueError())
    assert await retry(3, backoff_s=1, jitter=0)(handler)(MESSAGE) == 3
    assert calls == [MESSAGE] * 3
    assert naps == [1, 2]


async def test_retry_gives_up_with_the_last_error(naps: list[float]) -> None:
    last = ValueError("last")
    handler, calls = failing(OSError(), last)
    with pytest.raises(ValueError, match="last") as caught:
        await retry(2)(handler)(MESSAGE)
    assert caught.value is last
    assert (len(calls), len(naps)) == (2, 1)


async def test_retry_waits_longer_each_time_up_to_a_bound(naps: list[float]) -> None:
    handler, _ = failing(*[OSError() for _ in range(5)])
    await retry(6, backoff_s=1, factor=3, max_backoff_s=10, jitter=0)(handler)(MESSAGE)
    assert naps == [1, 3, 9, 10, 10]


async def test_retry_spreads_its_waits(naps: list[float]) -> None:
    handler, _ = failing(*[OSError() for _ in range(50)])
    await retry(51, backoff_s=1, factor=1, jitter=0.5)(handler)(MESSAGE)
    assert all(0.5 <= nap <= 1.5 for nap in naps)
    assert len(set(naps)) > 1


@pytest.mark.parametrize(
    "error",
    [
        DecodeError("why", reason="payload"),
        EncodeError("why"),
        StateError("why"),
        StatusError("NOT_FOUND", "why"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_retry_does_not_repeat_what_cannot_succeed(
    naps: list[float], error: BaseException
) -> None:
    handler, calls = failing(error)
    with pytest.raises(type(error)):
        await retry(3)(handler)(MESSAGE)
    assert (len(calls), naps) == (1, [])


@pytest.mark.parametrize(
    "error", [StatusError("UNAVAILABLE", "why"), NoRespondersError("a"), TimeoutError()]
)
@pytest.mark.usefixtures("naps")
async def test_retry_repeats_what_may_succeed_later(error: BaseException) -> None:
    handler, _ = failing(error)
    assert await retry(2)(handler)(MESSAGE) == 2


@pytest.mark.usefixtures("naps")
async def test_retry_repeats_only_what_it_is_told_to() -> None:
    handler, calls = failing(OSError(), ValueError())
    with pytest.raises(ValueError):  # noqa: PT011 - any
        await retry(5, on=OSError)(handler)(MESSAGE)
    assert len(calls) == 2


def test_no_attempt_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 attempt"):
        retry(0)


async def test_later_messages_keep_their_order_behind_a_retry() -> None:
    bus = Bus()
    got: list[int] = []
    failures = [OSError()]

    @bus.subscribe("a", middleware=[retry(2, backoff_s=0)])
    async def take(n: int) -> None:
        if failures:
            raise failures.pop()
        got.append(n)

    async with bus:
        for n in range(3):
            await bus.publish("a", n)
    assert got == [0, 1, 2]


# -- timeout ---------------------------------------------------------------------------------------


async def test_timeout_cancels_a_handler_that_takes_too_long() -> None:
    bus = Bus()
    cancelled = asyncio.Event()

    @bus.serve("slow", middleware=[timeout(0.01)])
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("slow")
        await cancelled.wait()
    assert (caught.value.code, caught.value.message) == ("UNKNOWN", "TimeoutError")


async def test_timeout_leaves_a_quick_handler_alone() -> None:
    async def quick(message: Message) -> str:
        return message.topic

    wrapped: Callable[[Message], Awaitable[Any]] = timeout(30)(quick)
    assert await wrapped(MESSAGE) == "a"


@pytest.mark.parametrize("wrong", [retry, [5], [retry(), None]])
def test_what_wraps_no_handler_is_refused_where_it_is_given(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="middleware"):
        Bus().subscribe("a", middleware=wrong)
    with pytest.raises(ConfigError, match="middleware"):
        Bus().serve("a", middleware=wrong)


def test_a_timeout_is_a_duration() -> None:
    assert callable(timeout("2s"))
    for wrong in (0, -1, "soon"):
        with pytest.raises(ConfigError):
            timeout(wrong)
