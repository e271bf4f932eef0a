"""From opening to closing: what is finished, what is ended, and what is left behind (nothing)."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hms_bus import Bus, Message, RemoteError
from hms_bus.config import BusConfig
from hms_bus.errors import (
    ConfigError,
    DeadlineExceededError,
    NoRespondersError,
    StateError,
    UnsupportedError,
    UsageError,
)
from hms_bus.topics import parse_pattern
from hms_bus.transports.direct import DirectTransport
from tests.support.events import event
from tests.support.turns import turns


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:  # pyright: ignore[reportUnusedFunction]
    before = asyncio.all_tasks()
    yield
    await turns(2)
    left = {task.get_name() for task in asyncio.all_tasks() - before - {asyncio.current_task()}}
    assert left == set()


# -- opening ---------------------------------------------------------------------------------------


async def test_making_a_bus_opens_nothing() -> None:
    bus = Bus("direct://", log="sqlite:/no/such/folder/run.db")
    assert not bus.is_open
    with pytest.raises(StateError):
        _ = bus.log
    with pytest.raises(StateError):
        bus.stats()


async def test_a_bus_is_open_in_its_scope_and_may_be_opened_again() -> None:
    bus, got = Bus(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        got.append(n)

    for n in range(3):
        async with bus as opened:
            assert opened is bus
            assert bus.is_open
            await bus.publish("a", n)
            assert bus.stats().published == 1
        assert not bus.is_open
    assert got == [0, 1, 2]


async def test_one_scope_at_a_time() -> None:
    async with Bus() as bus:
        with pytest.raises(StateError, match="open already"):
            await bus.__aenter__()
        await bus.publish("a")
    async with bus:
        pass


async def test_a_bus_that_is_still_being_closed_is_not_opened_again() -> None:
    bus, gate, got = Bus(), asyncio.Event(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await gate.wait()
        got.append(n)

    async def use(n: int) -> None:
        async with bus:
            await bus.publish("a", n)

    using = asyncio.ensure_future(use(1))
    await turns()
    with pytest.raises(StateError, match="still being closed"):
        await use(2)
    assert not using.done()
    gate.set()
    await using
    await use(3)
    assert got == [1, 3]


async def test_closing_twice_closes_once() -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.subscribe("a")
    async def take() -> None:
        await gate.wait()

    await bus.__aenter__()
    await bus.publish("a")
    closing = asyncio.ensure_future(bus.__aexit__())
    await turns()
    await bus.__aexit__()
    gate.set()
    await closing
    await bus.__aexit__()
    assert not bus.is_open


@pytest.mark.parametrize("also", [{"url": "direct://x"}, {"log": "memory:"}, {"max_hops": 3}])
def test_a_configuration_and_settings_beside_it_contradict_each_other(also: Any) -> None:
    with pytest.raises(ConfigError, match=f"config= and {next(iter(also))}"):
        Bus(config=BusConfig(), **also)


async def test_a_bus_that_could_not_be_opened_is_closed_and_may_try_again(tmp_path: Any) -> None:
    bus = Bus(log=f"sqlite:{tmp_path}/missing/run.db")
    for _ in range(2):
        with pytest.raises(Exception, match="missing"):
            await bus.__aenter__()
        assert not bus.is_open
    (tmp_path / "missing").mkdir()
    async with bus:
        await bus.publish("a")


async def test_without_a_log_there_is_none() -> None:
    async with Bus() as bus:
        with pytest.raises(UnsupportedError):
            _ = bus.log


async def test_what_is_declared_while_the_bus_is_open_hears_the_next_message() -> None:
    bus, got = Bus(), list[str]()

    async def take(msg: Message) -> str:
        got.append(msg.topic)
        return "answer"

    async with bus:
        await bus.publish("a")
        bus.subscribe("a")(take)
        await bus.publish("a")
        bus.serve("b")(take)
        assert await bus.request("b") == "answer"
        bus.subscribe("c")(take)
        bus.emit("c")
        bus.subscribe("d")(take)
        await bus.publish_many([("d", 1)])
        bus.subscribe("e")(take)
        await bus.forward(event("e"))
    assert sorted(got) == ["a", "b", "c", "d", "e"]


async def test_a_publisher_that_gives_up_does_not_take_the_subscription_with_it() -> None:
    bus, got, gate = Bus(), list[int](), asyncio.Event()

    async def take(n: int) -> None:
        got.append(n)

    async with bus:
        _hold_up_subscribing(bus, gate)
        bus.subscribe("a")(take)
        publishing = asyncio.ensure_future(bus.publish("a", 1))
        await turns()
        publishing.cancel()
        await asyncio.wait([publishing])
        gate.set()
        await bus.publish("a", 2)
    assert got == [2]


def _hold_up_subscribing(bus: Bus, gate: asyncio.Event, error: Exception | None = None) -> None:
    """Let every subscription wait for `gate`, and then fail with `error` if there is one."""
    [link] = bus._opened().links
    assert isinstance(link.transport, DirectTransport)
    subscribe = link.transport.subscribe

    async def slow(pattern: str, sink: Any, *, group: str | None = None) -> Any:
        await gate.wait()
        if error is not None:
            raise error
        return await subscribe(pattern, sink, group=group)

    link.transport.subscribe = slow  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_subscription_that_fails_later_is_logged_and_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, gate = Bus(), asyncio.Event()

    async def take() -> None: ...

    async with bus:
        _hold_up_subscribing(bus, gate, UnsupportedError("groups", "this transport"))
        gate.set()
        bus.subscribe("a")(take)
        await bus.publish("a")
        assert bus.stats().subscriptions == []
    [record] = caplog.records
    assert "a subscription could not be opened" in record.getMessage()


async def test_a_subscription_that_fails_at_the_start_fails_the_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = Bus("direct://half")

    @bus.subscribe("a")
    async def take() -> None: ...

    @bus.subscribe("b", group="g")
    async def other() -> None: ...

    subscribe = DirectTransport.subscribe

    async def refusing(self: Any, pattern: str, sink: Any, *, group: str | None = None) -> Any:
        if group is not None:
            raise UnsupportedError("groups", "this transport")
        return await subscribe(self, pattern, sink)

    with monkeypatch.context() as patch:
        patch.setattr(DirectTransport, "subscribe", refusing)
        with pytest.raises(UnsupportedError):
            await bus.__aenter__()
    async with Bus("direct://half") as neighbour:
        with pytest.raises(NoRespondersError):
            await neighbour.request("a")


# -- draining --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["direct://", "direct://drain"])
async def test_leaving_handles_all_that_was_accepted(url: str) -> None:
    bus, got = Bus(url), list[int]()

    @bus.subscribe("a", concurrency=2)
    async def take(n: int) -> None:
        await turns(n % 7)
        got.append(n)

    async with bus:
        for n in range(100):
            bus.emit("a", n)
        assert got == []
    assert sorted(got) == list(range(100))


async def test_leaving_by_an_exception_drains_too() -> None:
    bus, got = Bus(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns()
        got.append(n)

    async def fail() -> None:
        async with bus:
            await bus.publish("a", 1)
            raise ValueError("body")

    with pytest.raises(ValueError, match="body"):
        await fail()
    assert got == [1]


async def test_being_cancelled_drains_too() -> None:
    bus, got, began = Bus(), list[int](), asyncio.Event()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns()
        got.append(n)

    async def live() -> None:
        async with bus:
            for n in range(10):
                await bus.publish("a", n)
            began.set()
            await asyncio.Event().wait()

    living = asyncio.ensure_future(live())
    await began.wait()
    living.cancel()
    await asyncio.wait([living])
    assert living.cancelled()
    assert got == list(range(10))


async def test_what_handlers_start_while_draining_is_finished() -> None:
    bus, got = Bus(), list[str]()

    @bus.serve("square")
    async def square(n: int) -> int:
        await turns(2)
        return n * n

    @bus.subscribe("a")
    async def first(n: int) -> None:
        await turns(2)
        await bus.publish("b", await bus.request("square", n))
        bus.emit("c", n)

    @bus.subscribe("b")
    async def second(n: int) -> None:
        await turns(2)
        got.append(f"b{n}")

    @bus.subscribe("c")
    async def third(n: int) -> None:
        async with bus.request_stream("items", n) as items:
            got.append(f"c{[item async for item in items]}")

    @bus.serve("items")
    async def items(n: int) -> AsyncIterator[int]:
        for item in range(n):
            yield item

    async with bus:
        for n in range(3):
            await bus.publish("a", n)
    assert sorted(got) == ["b0", "b1", "b4", "c[0, 1]", "c[0]", "c[]"]


async def test_on_a_shared_address_handlers_may_still_ask_their_own_services() -> None:
    bus, got = Bus("direct://ask-self"), list[int]()

    @bus.serve("square")
    async def square(n: int) -> int:
        await turns(2)
        return n * n

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns(2)
        got.append(await bus.request("square", n))

    async with bus:
        for n in range(5):
            await bus.publish("a", n)
    assert got == [0, 1, 4, 9, 16]


async def test_a_group_hands_its_work_to_the_members_that_stay() -> None:
    got: dict[str, list[int]] = {"leaves": [], "stays": []}

    def member(name: str) -> Bus:
        bus = Bus("direct://hand-over")

        @bus.subscribe("a", group="g")
        async def take(n: int) -> None:
            await turns(3)
            got[name].append(n)

        return bus

    leaves, stays = member("leaves"), member("stays")
    async with Bus("direct://hand-over") as publisher, stays:
        async with leaves:
            for n in range(10):
                await publisher.publish("a", n)
        finished = list(got["leaves"])
        for n in range(10, 20):
            await publisher.publish("a", n)
    assert got["leaves"] == finished
    assert sorted(got["leaves"] + got["stays"]) == list(range(20))


async def test_giving_up_draining_tells_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    bus, cancelled = Bus(drain_timeout_s=0.01), list[int]()

    @bus.subscribe("a.*", concurrency=2)
    async def stuck(msg: Message) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(msg.data)

    async with bus:
        for n in range(4):
            await bus.publish("a.b", n)
        await turns()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "gave up draining after 0.01 s: 4 messages left on a.* (" in record.getMessage()
    assert cancelled == [0, 1]


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_bus_open() -> None:
    bus, swallowed = Bus(drain_timeout_s=0.01), list[int]()

    @bus.subscribe("a", concurrency=2)
    async def stubborn(n: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append(n)

    async with bus:
        await bus.publish("a", 0)
        await bus.publish("a", 1, partitionkey="k")
        for n in range(2, 5):
            await bus.publish("a", n, partitionkey="k")
        await turns()
    assert sorted(swallowed)[:2] == [0, 1]


async def test_a_call_that_was_cancelled_before_does_not_keep_the_bus_open() -> None:
    bus, began = Bus(drain_timeout_s=0.01), asyncio.Event()

    @bus.serve("slow", concurrency=1)
    async def slow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    async with bus:
        asking = asyncio.ensure_future(bus.request("slow"))
        await began.wait()
        asking.cancel()
        await turns()


async def test_requests_that_cannot_be_answered_any_more_are_answered_so() -> None:
    server, began = Bus("direct://gone", drain_timeout_s=0.01), asyncio.Event()

    @server.serve("slow", concurrency=1)
    async def slow() -> None:
        began.set()
        await asyncio.Event().wait()

    async with Bus("direct://gone") as caller:
        async with server:
            asking = [asyncio.ensure_future(caller.request("slow", timeout=60)) for _ in range(3)]
            await began.wait()
        results = await asyncio.gather(*asking, return_exceptions=True)
        with pytest.raises(NoRespondersError):
            await caller.request("slow")
    assert all(isinstance(result, RemoteError) for result in results)
    assert {result.code for result in results if isinstance(result, RemoteError)} == {"UNAVAILABLE"}


async def test_being_cancelled_while_draining_ends_everything() -> None:
    bus, ended, began = Bus(drain_timeout_s=60), list[str](), asyncio.Event()

    @bus.subscribe("a")
    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")

    async def live() -> None:
        async with bus:
            await bus.publish("a")
            began.set()

    living = asyncio.ensure_future(live())
    await began.wait()
    await turns()
    assert not living.done()
    living.cancel()
    await asyncio.wait([living])
    assert living.cancelled()
    assert ended == ["handler"]
    assert not bus.is_open


async def test_background_work_that_is_stuck_is_ended() -> None:
    bus = Bus(drain_timeout_s=0.01)

    @bus.subscribe("a", max_queue=1)
    async def stuck() -> None:
        await asyncio.Event().wait()

    async with bus:
        for _ in range(5):
            bus.emit("a")


async def test_declaring_while_the_bus_is_draining_does_no_harm() -> None:
    bus = Bus()

    async def late() -> None: ...

    @bus.subscribe("a")
    async def declares() -> None:
        await turns()
        bus.subscribe("late")(late)

    async with bus:
        await bus.publish("a")


async def test_a_shared_log_is_closed_by_the_last_and_may_be_opened_while_it_closes(
    tmp_path: Any,
) -> None:
    url = f"sqlite:{tmp_path}/run.db"
    one, other = Bus(log=url), Bus(log=url)
    async with one, other:
        await one.publish("a", 1)
        await other.publish("a", 2)
        assert (await one.log.head()).position == 2
    for _ in range(5):
        await one.__aenter__()
        closing = asyncio.ensure_future(one.__aexit__(None, None, None))
        await turns(2)
        async with other:
            await other.publish("a")
        await closing


# -- routes ----------------------------------------------------------------------------------------


async def test_routes_send_some_topics_elsewhere() -> None:
    bus = Bus("direct://default", routes={"far.>": "direct://far"})
    heard: list[str] = []
    listeners = {"default": Bus("direct://default"), "far": Bus("direct://far")}
    for name, listener in listeners.items():
        listener.subscribe(">")(_noting(name, heard))
        listener.serve("*.ask")(_noting(name, heard))
    async with bus, listeners["default"], listeners["far"]:
        await bus.publish("near.a")
        await bus.publish("far.a")
        assert await bus.request("near.ask") == "default"
        assert await bus.request("far.ask") == "far"
        bus.emit("far.b")
    assert sorted(heard) == sorted(
        [
            *("default near.a", "far far.a", "far far.b"),
            *("default near.ask", "default near.ask", "far far.ask", "far far.ask"),
        ]
    )


def _noting(name: str, heard: list[str]) -> Callable[..., Any]:
    async def take(msg: Message) -> str:
        heard.append(f"{name} {msg.topic}")
        return name

    return take


async def test_the_first_route_that_matches_wins() -> None:
    bus = Bus("direct://", routes={"a.b.>": "direct://one", "a.>": "direct://two"})
    async with bus:
        router = bus._opened().router
        urls = [router.route(topic).link.url for topic in ("a.b.c", "a.c", "b", "$a.b.c")]
    assert urls == ["direct://one", "direct://two", "direct://", "direct://"]


async def test_two_ways_to_one_transport_deliver_once() -> None:
    url = "direct://same"
    bus, got = Bus(url, routes={"a.>": url, "b.>": "direct://"}), list[str]()

    @bus.subscribe(">")
    async def take(msg: Message) -> None:
        got.append(msg.topic)

    @bus.serve("a.ask", group=None)
    async def answer() -> str:
        return "once"

    async with bus:
        for topic in ("a.1", "b.1", "c"):
            await bus.publish(topic)
        assert len(await bus.request_many("a.ask", timeout=0.02)) == 1
    assert got == ["a.1", "b.1", "c", "a.ask"]


async def test_a_pattern_listens_where_its_topics_may_come_from() -> None:
    routes = {"a.>": "direct://one", "b.*": "direct://two"}
    async with Bus("direct://", routes=routes) as bus:
        listening = {
            pattern: [link.url for link in bus._opened().router.listening(parse_pattern(pattern))]
            for pattern in ("a.x", "a.>", "b.x.y", "*.x", ">", "c", "$a.x")
        }
    assert listening == {
        "a.x": ["direct://one"],
        "a.>": ["direct://one"],
        "b.x.y": ["direct://"],
        "*.x": ["direct://one", "direct://two", "direct://"],
        ">": ["direct://one", "direct://two", "direct://"],
        "c": ["direct://"],
        "$a.x": ["direct://"],
    }


async def test_what_is_logged_follows_its_patterns() -> None:
    bus = Bus(log="memory:", logged=["orders.>", "$audit.*"])

    @bus.serve("orders.ask")
    async def answer() -> int:
        return 1

    async with bus:
        for topic in ("orders.a", "quotes.a", "$audit.a", "$other.a"):
            await bus.publish(topic)
        await bus.request("orders.ask")
        topics = [message.topic async for message in bus.replay()]
        system = [message.topic async for message in bus.replay("$audit.>")]
    assert (topics, system) == (["orders.a", "orders.ask"], ["$audit.a"])


async def test_by_default_all_is_logged_but_the_systems_own() -> None:
    bus = Bus(log="memory:")

    @bus.serve("ask")
    async def answer() -> int:
        return 1

    async with bus:
        await bus.publish("a")
        await bus.publish("$system")
        await bus.request("ask")
        assert (await bus.log.head()).position == 3
        replies = [message.topic async for message in bus.replay("$reply.>")]
    assert replies == ["$reply.ask"]


# -- ending a handler ------------------------------------------------------------------------------


async def test_a_handler_that_is_unsubscribed_finishes_what_it_accepted_and_hears_no_more() -> None:
    bus, gate, got = Bus(), asyncio.Event(), list[int]()

    @bus.subscribe("a")
    @bus.subscribe("b")
    async def take(n: int) -> None:
        await gate.wait()
        got.append(n)

    @bus.subscribe("a")
    async def stay() -> None: ...

    async with bus:
        for n in range(3):
            await bus.publish("a", n)
        ending = asyncio.ensure_future(bus.unsubscribe(take))
        await turns()
        assert not ending.done()
        await bus.publish("a", 3)
        gate.set()
        await ending
        assert got == [0, 1, 2]
        await bus.publish("b", 4)
        [stats] = bus.stats().subscriptions
        assert "stay" in stats.handler
    async with bus:
        await bus.publish("a", 5)
    assert got == [0, 1, 2]


async def test_sessions_that_come_and_go_leave_nothing_behind() -> None:
    bus, answers = Bus(), list[Any]()
    async with bus:
        runtime = bus._opened()
        [link] = runtime.links
        assert isinstance(link.transport, DirectTransport)
        bus.serve("other")(_answer)
        assert await bus.request("other", 1) == 1
        before = len(link.transport._switchboard.index)
        for n in range(50):

            async def answer(n: int) -> int:
                return n

            bus.serve(f"session.{n}")(answer)
            answers.append(await bus.request(f"session.{n}", n))
            await bus.unsubscribe(answer)
            with pytest.raises(NoRespondersError):
                await bus.request(f"session.{n}", n)
        assert len(link.transport._switchboard.index) == before
        assert len(bus.stats().subscriptions) == 1
        assert (len(runtime._servers), len(runtime._handlers)) == (1, 1)
        assert len(runtime._service._calls) == 1
        assert (len(bus._declarations.made), len(bus._declarations._signatures)) == (1, 1)
        assert not runtime.background
    assert answers == list(range(50))


async def _answer(n: int) -> int:
    return n


@pytest.mark.parametrize("is_in_task", [False, True])
async def test_a_handler_may_unsubscribe_itself(*, is_in_task: bool) -> None:
    bus, got = Bus(), list[int]()

    @bus.subscribe("a")
    async def once(n: int) -> None:
        got.append(n)
        if n == 0:
            ending = bus.unsubscribe(once)
            await (asyncio.create_task(ending) if is_in_task else ending)
            got.append(-1)

    async with bus:
        await bus.publish("a", 0)
        await bus.publish("a", 1)
        await turns(20)
        await bus.publish("a", 2)
        assert bus.stats().subscriptions == []
    assert got == [0, -1, 1]


async def test_a_closed_bus_forgets_a_handler_and_an_unknown_one_is_told() -> None:
    bus = Bus()

    @bus.subscribe("a")
    async def take() -> None: ...

    await bus.unsubscribe(take)
    with pytest.raises(UsageError, match="take is no handler of this bus"):
        await bus.unsubscribe(take)
    async with bus:
        assert bus.stats().subscriptions == []
        with pytest.raises(UsageError):
            await bus.unsubscribe(take)


async def test_a_method_is_unsubscribed_of_its_own_object_only() -> None:
    class Agent:
        def __init__(self) -> None:
            self.got: list[int] = []

        async def take(self, n: int) -> None:
            self.got.append(n)

    bus, ann, bob = Bus(), Agent(), Agent()
    for agent in (ann, bob):
        bus.subscribe("a")(agent.take)
    async with bus:
        await bus.unsubscribe(ann.take)
        await bus.publish("a", 1)
    assert (ann.got, bob.got) == ([], [1])


async def test_who_gives_up_waiting_for_a_handler_to_end_does_not_keep_it() -> None:
    bus, gate, got = Bus(), asyncio.Event(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await gate.wait()
        got.append(n)

    async with bus:
        await bus.publish("a", 1)
        ending = asyncio.ensure_future(bus.unsubscribe(take))
        await turns()
        ending.cancel()
        await asyncio.wait([ending])
        await bus.publish("a", 2)
        gate.set()
        await turns(20)
        assert bus.stats().subscriptions == []
    assert got == [1]


@pytest.mark.parametrize("url", ["direct://", "direct://name"])
async def test_a_handler_that_is_unsubscribed_while_the_bus_closes_is_finished(url: str) -> None:
    bus, gate, got = Bus(url), asyncio.Event(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await gate.wait()
        got.append(n)

    async def use() -> None:
        async with bus:
            for n in range(3):
                await bus.publish("a", n)

    using = asyncio.ensure_future(use())
    await turns(10)
    ending = asyncio.ensure_future(bus.unsubscribe(take))
    await turns()
    gate.set()
    await asyncio.gather(using, ending)
    assert got == [0, 1, 2]


# -- hops ------------------------------------------------------------------------------------------


async def test_agents_that_answer_each_other_for_ever_are_stopped() -> None:
    bus, hops, errors = Bus(max_hops=10), list[int](), list[BaseException]()
    bus.on_error(lambda error, _: errors.append(error))

    @bus.subscribe("ping")
    async def ping(msg: Message) -> None:
        hops.append(msg.envelope.hops or 0)
        await bus.publish("pong")

    @bus.subscribe("pong")
    async def pong(msg: Message) -> None:
        hops.append(msg.envelope.hops or 0)
        bus.emit("ping")

    async with bus:
        await bus.publish("ping")
    assert hops == list(range(11))
    assert [type(error).__name__ for error in errors] == ["HopLimitError"]


# -- memory ----------------------------------------------------------------------------------------


async def test_a_hundred_thousand_messages_leave_nothing_behind() -> None:
    bus, handled = Bus(), 0

    @bus.subscribe("a.*", concurrency=2)
    async def take() -> None:
        nonlocal handled
        handled += 1

    @bus.serve("echo")
    async def echo(n: int) -> int:
        return n

    async with bus:
        runtime = bus._opened()
        [link] = runtime.links
        await bus.request("echo", 1)
        before = asyncio.all_tasks()
        for n in range(50_000):
            await bus.publish("a.b", n, **({"partitionkey": str(n % 7)} if n % 2 else {}))
        for n in range(50_000):
            bus.emit("a.b", n)
            if n % 500 == 0:
                await turns(1)
        for _ in range(200):
            await asyncio.gather(*(bus.request("echo", n) for n in range(10)))
        await turns(50)
        assert len(asyncio.all_tasks() - before) <= 11
        assert len(runtime.background) == 0
        assert link.inbox.waiting == {}
        assert not any(runtime._service._calls.values())
        assert len(runtime.deadlines) <= 2048
        for subscription in runtime._subscriptions:
            assert subscription.load == 0
            assert subscription._keyed is None or subscription._keyed.waiting() == []
            assert subscription.mailbox.publishers == []
    assert handled == 100_000


async def test_streams_that_come_and_go_leave_nothing_behind() -> None:
    async with Bus() as bus:
        runtime = bus._opened()
        [link] = runtime.links
        assert isinstance(link.transport, DirectTransport)
        before = len(link.transport._switchboard.index)
        for _ in range(100):
            async with bus.subscribe("a"), bus.subscribe("a", group="g"):
                await bus.publish("a")
        assert len(link.transport._switchboard.index) == before
        assert runtime._streams == {}


async def test_a_closed_bus_can_be_forgotten() -> None:
    bus = Bus("direct://forget", log="memory:")

    @bus.subscribe("a")
    async def take() -> None: ...

    @bus.serve("b")
    async def answer() -> None: ...

    async with bus:
        await bus.publish("a")
        await bus.request("b")
        with pytest.raises(DeadlineExceededError):
            await bus.request("b", timeout=0)
        runtime = weakref.ref(bus._opened())
    await turns()
    gc.collect()
    assert runtime() is None


async def test_caches_of_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hms_bus.bus.routing.MAX_CACHED_TOPICS", 10)
    monkeypatch.setattr("hms_bus.bus.runtime.MAX_CACHED_TOPICS", 10)
    monkeypatch.setattr("hms_bus.bus.replying.MAX_CACHED_TOPICS", 10)
    bus = Bus()

    @bus.serve("ask.*")
    async def answer() -> None: ...

    async with bus:
        for n in range(100):
            await bus.publish(f"a.{n}")
            await bus.request(f"ask.{n}")
        runtime = bus._opened()
        assert len(runtime.routes) <= 10
        assert len(runtime.quick) <= 10
        assert len(runtime._replies._known) <= 10


# -- one process, several loops --------------------------------------------------------------------


async def test_a_name_in_use_on_another_loop_is_refused_when_the_bus_opens() -> None:
    async def open_it() -> None:
        async with Bus("direct://one-loop"):
            pass

    async with Bus("direct://one-loop"):
        with pytest.raises(ConfigError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, open_it())


# -- what comes while the bus is being left ------------------------------------------------------


@pytest.mark.parametrize("url", ["direct://", "direct://leaving"])
async def test_nothing_new_is_taken_in_while_the_bus_is_drained(url: str) -> None:
    """What is accepted is handled, therefore what would not be handled is not accepted."""
    bus, gate, handled, accepted = Bus(url), asyncio.Event(), list[int](), list[int]()

    @bus.subscribe("a", max_queue=10_000)
    async def take(n: int) -> None:
        await gate.wait()
        handled.append(n)

    async def produce() -> None:
        n = 0
        while True:
            await bus.publish("a", n)
            accepted.append(n)
            n += 1
            await asyncio.sleep(0)

    async with bus:
        producing = asyncio.ensure_future(produce())
        await turns(20)
        asyncio.get_running_loop().call_later(0.01, gate.set)
    with pytest.raises(StateError, match="being closed"):
        await producing
    assert accepted
    assert handled == accepted


async def test_every_way_to_send_is_closed_while_the_bus_is_drained() -> None:
    bus, gate, refused = Bus(), asyncio.Event(), list[int]()

    @bus.subscribe("a")
    async def take() -> None:
        await gate.wait()

    async def try_everything() -> None:
        await turns()
        for send in (
            lambda: bus.publish("a"),
            lambda: bus.publish("a", priority=3),
            lambda: bus.publish_many([("a", 1)]),
            lambda: bus.forward(event("a")),
            lambda: bus.request("a"),
            lambda: bus.request_many("a"),
        ):
            with pytest.raises(StateError, match="being closed"):
                await send()
            refused.append(1)
        with pytest.raises(StateError, match="being closed"):
            bus.emit("a")
        with pytest.raises(StateError, match="being closed"):
            bus.request_stream("a")
        assert bus.stats().published == 1
        gate.set()

    async with bus:
        await bus.publish("a")
        trying = asyncio.ensure_future(try_everything())
    await trying
    assert len(refused) == 6
