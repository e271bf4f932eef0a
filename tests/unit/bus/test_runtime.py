"""An open bus: opening, ending a handler, and what is left behind (nothing)."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from hms_bus import Bus, Message
from hms_bus.bus.subscription import Subscription
from hms_bus.config import BusConfig
from hms_bus.errors import (
    ConfigError,
    DeadlineExceededError,
    NoRespondersError,
    StateError,
    UnsupportedError,
    UsageError,
)
from hms_bus.transports.direct import DirectTransport
from tests.support.events import event
from tests.support.turns import turns

pytestmark = pytest.mark.usefixtures("no_task_is_left")


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
    assert "could not be subscribed and gets nothing" in record.getMessage()


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
            assert isinstance(subscription, Subscription)
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
