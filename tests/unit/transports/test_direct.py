"""The direct transport by itself: who is offered what, and what sharing a name means."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest

from hms_bus import Bus
from hms_bus.abc import Transport
from hms_bus.errors import (
    ConfigError,
    EncodeError,
    NoRespondersError,
    QueueFullError,
    StateError,
    TopicError,
)
from hms_bus.plugins import get_codec, open_transport
from tests.support.events import event
from tests.support.sinks import Taking


def opening(url: str = "direct://") -> AbstractAsyncContextManager[Transport]:
    return open_transport(url, codec=get_codec("json"))


@pytest.fixture
async def transport() -> AsyncGenerator[Transport]:
    async with opening() as transport:
        yield transport


async def test_the_envelope_itself_is_handed_over(transport: Transport) -> None:
    sink = Taking()
    await transport.subscribe("orders.*", sink)
    sent = event("orders.eu", {"n": 1})
    assert transport.publish(sent, reply_to=None) is None
    assert sink.taken[0][0] is sent


async def test_each_sink_gets_each_message_in_the_order_of_publishing(transport: Transport) -> None:
    sinks = [Taking(), Taking()]
    await transport.subscribe("a.>", sinks[0])
    await transport.subscribe("a.*", sinks[1])
    for number in range(5):
        transport.publish(event(f"a.{number}"))
    assert sinks[0].topics == sinks[1].topics == [f"a.{number}" for number in range(5)]


async def test_the_address_wins_over_the_topic(transport: Transport) -> None:
    here, there = Taking(), Taking()
    await transport.subscribe("a", here)
    await transport.subscribe("$inbox.1", there)
    transport.publish(event("a"), to="$inbox.1", reply_to="$inbox.2")
    assert (here.topics, there.taken[0][1]) == ([], "$inbox.2")


async def test_nobody_there_is_no_error_unless_a_reply_is_awaited(transport: Transport) -> None:
    assert transport.publish(event("a")) is None
    with pytest.raises(NoRespondersError) as caught:
        transport.publish(event("a"), reply_to="$inbox.1")
    assert caught.value.topic == "a"


async def test_an_ended_subscription_gets_nothing_and_may_be_ended_again(
    transport: Transport,
) -> None:
    sink, other = Taking(), Taking()
    unsubscribe = await transport.subscribe("a", sink)
    await transport.subscribe("a", other)
    transport.publish(event("a"))
    await unsubscribe()
    await unsubscribe()
    transport.publish(event("a"))
    assert (len(sink.taken), len(other.taken)) == (1, 2)


async def test_one_sink_may_listen_twice_and_hears_twice(transport: Transport) -> None:
    sink = Taking()
    first = await transport.subscribe("a", sink)
    await transport.subscribe("*", sink)
    transport.publish(event("a"))
    assert len(sink.taken) == 2
    await first()
    transport.publish(event("a"))
    assert len(sink.taken) == 3


async def test_a_bad_pattern_is_refused(transport: Transport) -> None:
    with pytest.raises(TopicError):
        await transport.subscribe("a..b", Taking())


# -- groups --------------------------------------------------------------------------------------


async def test_of_a_group_one_gets_each_message_in_turn(transport: Transport) -> None:
    members = [Taking(), Taking(), Taking()]
    for member in members:
        await transport.subscribe("a", member, group="g")
    for _ in range(9):
        transport.publish(event("a"))
    assert [len(member.taken) for member in members] == [3, 3, 3]


async def test_the_idle_member_is_preferred_then_the_one_with_least_to_do(
    transport: Transport,
) -> None:
    busy, busier = Taking(load=2), Taking(load=5)
    for member in (busier, busy):
        await transport.subscribe("a", member, group="g")
    for _ in range(3):
        transport.publish(event("a"))
    assert (len(busy.taken), len(busier.taken)) == (3, 0)
    idle = Taking()
    await transport.subscribe("a", idle, group="g")
    for _ in range(3):
        transport.publish(event("a"))
    assert (len(busy.taken), len(idle.taken)) == (3, 3)


async def test_groups_of_other_names_and_single_sinks_get_their_own(transport: Transport) -> None:
    sinks = {"g": Taking(), "h": Taking(), None: Taking()}
    for group, sink in sinks.items():
        await transport.subscribe("a", sink, group=group)
    transport.publish(event("a"))
    assert [len(sink.taken) for sink in sinks.values()] == [1, 1, 1]


async def test_captures_and_stars_are_one_group(transport: Transport) -> None:
    members = [Taking(), Taking()]
    await transport.subscribe("a.{x}", members[0], group="g")
    await transport.subscribe("a.*", members[1], group="g")
    for _ in range(4):
        transport.publish(event("a.b"))
    assert [len(member.taken) for member in members] == [2, 2]


async def test_the_last_member_takes_its_group_with_it(transport: Transport) -> None:
    ends = [await transport.subscribe("a", Taking(), group="g") for _ in range(2)]
    for end in ends:
        await end()
        await end()
    with pytest.raises(NoRespondersError):
        transport.publish(event("a"), reply_to="$inbox.1")
    again = Taking()
    await transport.subscribe("a", again, group="g")
    transport.publish(event("a"))
    assert len(again.taken) == 1


# -- room ----------------------------------------------------------------------------------------


async def test_publishing_waits_for_every_full_sink(transport: Transport) -> None:
    loop = asyncio.get_running_loop()
    sinks = [Taking(), Taking(), Taking()]
    rooms = [loop.create_future(), loop.create_future()]
    sinks[0].waits_for, sinks[2].waits_for = rooms
    for sink in sinks:
        await transport.subscribe("a", sink)
    room = transport.publish(event("a"))
    assert room is not None
    waiting = asyncio.ensure_future(room)
    rooms[1].set_result(None)
    await asyncio.sleep(0)
    assert not waiting.done()
    rooms[0].set_result(None)
    await waiting
    assert [len(sink.taken) for sink in sinks] == [1, 1, 1]


async def test_giving_up_the_wait_gives_up_every_room(transport: Transport) -> None:
    loop = asyncio.get_running_loop()
    rooms = [loop.create_future(), loop.create_future()]
    for room in rooms:
        sink = Taking()
        sink.waits_for = room
        await transport.subscribe("a", sink)
    wait = transport.publish(event("a"))
    assert wait is not None
    waiting = asyncio.ensure_future(wait)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert [room.cancelled() for room in rooms] == [True, True]


async def test_a_refusal_is_raised_after_all_others_were_asked(transport: Transport) -> None:
    waits, refuses, takes = Taking(), Taking(), Taking()
    refuses.is_full = True
    waits.waits_for = room = asyncio.get_running_loop().create_future()
    for sink in (waits, refuses, takes):
        await transport.subscribe("a", sink)
    with pytest.raises(QueueFullError):
        transport.publish(event("a"))
    assert (len(waits.taken), len(takes.taken)) == (1, 1)
    assert room.cancelled(), "nobody waits for it"


# -- sharing, codecs, life -------------------------------------------------------------------------


async def test_a_name_is_shared_and_no_name_is_private() -> None:
    urls = ["direct://team", "direct://team", "direct://", "direct://"]
    async with AsyncExitStack() as stack:
        transports = [await stack.enter_async_context(opening(url)) for url in urls]
        sinks = [Taking() for _ in transports]
        for transport, sink in zip(transports, sinks, strict=True):
            await transport.subscribe("a", sink)
        transports[0].publish(event("a"))
        transports[2].publish(event("a"))
        assert [len(sink.taken) for sink in sinks] == [1, 1, 1, 0]
        private = ["private" in transport.capabilities for transport in transports]
        assert private == [False, False, True, True]


async def test_the_codec_makes_a_round_trip() -> None:
    async with opening("direct://?codec=json") as transport:
        sink = Taking()
        await transport.subscribe("a", sink)
        sent = event("a", {"n": 1})
        transport.publish(sent)
        [(received, _)] = sink.taken
        assert received is not sent
        assert received.decode() == {"n": 1}
        assert received.replace(data=None) == sent.replace(data=None)


@pytest.mark.parametrize("listens", [True, False])
async def test_the_codec_refuses_what_has_no_form_whoever_listens(*, listens: bool) -> None:
    async with opening("direct://?codec=json") as transport:
        if listens:
            await transport.subscribe("a", Taking())
        with pytest.raises(EncodeError):
            transport.publish(event("a", object()))


@pytest.mark.parametrize(
    "url",
    [
        "direct://?codek=json",
        "direct://?codec=morse",
        "direct://?codec=",
        "direct://?codec",
        "direct://?codec=json&codec=cbor",
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_opened(url: str) -> None:
    with pytest.raises(ConfigError):
        opening(url)
    with pytest.raises(ConfigError):
        Bus(url)


async def test_a_closed_transport_refuses_everything() -> None:
    async with opening() as transport:
        await transport.subscribe("a", Taking())
        transport.publish(event("a"))
    with pytest.raises(StateError):
        transport.publish(event("a"))
    with pytest.raises(StateError):
        await transport.subscribe("a", Taking())


async def _open_and_close(url: str) -> None:
    async with opening(url):
        pass


async def test_a_name_belongs_to_one_event_loop_while_it_is_open() -> None:
    async with opening("direct://crew"):
        with pytest.raises(ConfigError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, _open_and_close("direct://crew"))
        await asyncio.to_thread(asyncio.run, _open_and_close("direct://other crew"))
        await asyncio.to_thread(asyncio.run, _open_and_close("direct://"))
    await asyncio.to_thread(asyncio.run, _open_and_close("direct://crew"))


def test_a_loop_that_died_does_not_keep_its_names() -> None:
    left_open = AsyncExitStack()

    async def open_and_leave() -> None:
        await left_open.enter_async_context(opening("direct://crew"))

    asyncio.run(open_and_leave())
    asyncio.run(_open_and_close("direct://crew"))
    asyncio.run(left_open.aclose())
    asyncio.run(_open_and_close("direct://crew"))


def test_the_other_loops_members_stay_when_a_dead_loop_is_tidied_up() -> None:
    left_open = AsyncExitStack()

    async def open_and_leave() -> None:
        await left_open.enter_async_context(opening("direct://crew"))

    async def live() -> None:
        async with opening("direct://crew") as one:
            await left_open.aclose()
            async with opening("direct://crew") as other:
                sink = Taking()
                await one.subscribe("a", sink)
                other.publish(event("a"))
                assert len(sink.taken) == 1

    asyncio.run(open_and_leave())
    asyncio.run(live())


async def test_a_forked_child_opens_a_name_of_its_own() -> None:
    async with opening("direct://crew"):
        status = await asyncio.to_thread(_in_child, lambda: _open_and_close("direct://crew"))
        assert status == 0


def _in_child(work: Callable[[], Awaitable[None]]) -> int:
    """Run `work` in a forked child and return its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(_as_coroutine(work()))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


async def test_two_buses_on_two_loops_do_not_meet() -> None:
    got: list[str] = []

    async def live(name: str) -> None:
        bus = Bus("direct://")

        @bus.subscribe("a")
        async def take(data: str) -> None:
            got.append(data)

        async with bus:
            await bus.publish("a", name)

    await asyncio.gather(
        *(asyncio.to_thread(asyncio.run, live(name)) for name in ("one", "other")),
        live("here"),
    )
    assert sorted(got) == ["here", "one", "other"]
