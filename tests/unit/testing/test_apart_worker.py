"""The process of the publishers: what goes there and comes back, and how it ends."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hms_bus.abc import Selector
from hms_bus.attributes import new_envelope
from hms_bus.bus import Bus, Handler, Message, Publish
from hms_bus.errors import (
    ConfigError,
    ConflictError,
    EncodeError,
    NoRespondersError,
    StateError,
    TopicError,
    UnsupportedError,
    UsageError,
)
from hms_bus.plugins import get_codec
from hms_bus.testing.conformance import Case, Check, Subject, Worker, apart, calls, plan, run

Function = Callable[[Subject], Awaitable[None]]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def case_of(function: Function, log: str | None = None) -> Case:
    # A bus in the worker hears itself on any transport.
    check = Check(
        name="made_here",
        statement="Made here.",
        part="transport",
        needs=frozenset(),
        survives=frozenset(),
        function=function,
    )
    return Case(check=check, url="direct://{name}?codec=json", codec="json", log=log, apart=True)


async def prove(function: Function, worker: Worker, log: str | None = None, **how: Any) -> None:
    assert await case_of(function, log).prove(worker=worker, **how) == "passed"


async def test_a_publisher_lives_in_the_other_process(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        bus = subject.publisher(source=subject.source)
        assert not bus.is_open
        async with bus, bus.subscribe("{kind}.said") as heard:
            assert bus.is_open
            assert bus.source == bus.config.source == subject.source
            receipt = await bus.publish("a.said", {"n": [1, None]}, subject="x", ttl="1h")
            await bus.publish_many([("b.said", b"\x00"), ("c.said", None)])
            bus.emit("d.said")
            await bus.forward(new_envelope("e.said", 5, id="e", source="/elsewhere"))
            messages = [await anext(heard) for _ in range(5)]
        first = messages[0]
        assert (first.id, first.source, first.topic) == (receipt.id, subject.source, "a.said")
        assert (first.data, first.envelope.subject) == ({"n": [1, None]}, "x")
        assert first.envelope.expires_ns
        assert [message.captures["kind"] for message in messages] == list("abcde")
        assert [message.data for message in messages[1:]] == [b"\x00", None, None, 5]
        assert (messages[4].id, messages[4].envelope.hops) == ("e", 1)

    opened = worker.opened
    await prove(check, worker)
    assert worker.opened == opened + 1


async def test_errors_come_back_as_they_are_and_say_where_they_come_from(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        async with subject.publisher() as bus:
            first = await bus.publish("account", 1)
            with pytest.raises(ConflictError) as caught:
                await bus.publish("account", 2, expect="none")
            facts = caught.value.topic, caught.value.expected, caught.value.actual
            assert facts == ("account", 0, first.position)
            [note] = caught.value.__notes__
            assert note.startswith("In the process of the publisher:\nTraceback")
            assert "hms_bus/bus/bus.py" in note
            assert note.endswith(str(caught.value))
            with pytest.raises(TopicError):
                await bus.publish("a..b", 1)
            with pytest.raises(NoRespondersError):
                await bus.request("nobody")
            with pytest.raises(NoRespondersError):
                async with bus.request_stream("nobody") as items:
                    await anext(items)
            with pytest.raises(TopicError):
                async with bus.subscribe("a..b"):
                    pass
            with pytest.raises(TypeError, match="unexpected keyword"):
                async with bus.subscribe("a", colour="red"):  # pyright: ignore[reportCallIssue]
                    pass

    await prove(check, worker, "memory:{name}")


async def test_the_log_is_there_too(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        async with subject.publisher() as bus:
            receipts = [await bus.publish("orders.eu", number) for number in range(5)]
            assert [receipt.position for receipt in receipts] == [1, 2, 3, 4, 5]
            [late, *_] = [message async for message in bus.replay("orders.{region}", after=3)]
            assert (late.position, late.data, late.captures) == (4, 3, {"region": "eu"})
            assert late.recorded is not None
            following = bus.replay(follow=True, limit=7)
            assert [(await anext(following)).data for _ in range(5)] == [0, 1, 2, 3, 4]
            await bus.log.append([new_envelope("a", n, source="/x", id=f"{n}") for n in (5, 6)])
            assert [message.data async for message in following] == [5, 6]
            records = [r.position async for r in bus.log.read(Selector(first=6), follow=False)]
            assert records == [6, 7]
            head = await bus.log.head()
            assert (head.position, (await bus.log.verify(expected=head)).is_sound) == (7, True)
            assert "log-expect" in bus.log.capabilities
            for pattern in ("a..b", "a.*.>.b"):
                with pytest.raises(TopicError):
                    await anext(aiter(bus.log.read(Selector(pattern=pattern))))
            left_early = bus.replay()
            await anext(left_early)
        with pytest.raises(StateError):
            _ = bus.log

    await prove(check, worker, "memory:{name}")


async def test_a_bus_without_a_log_has_none_there(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        async with subject.publisher() as bus:
            with pytest.raises(UnsupportedError, match="a log"):
                _ = bus.log
            with pytest.raises(UnsupportedError):
                await anext(bus.replay())

    await prove(check, worker)


async def test_a_bus_is_opened_again_and_refuses_everything_in_between(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        bus = subject.publisher()
        for _ in range(2):
            with pytest.raises(StateError):
                await bus.publish("a", 1)
            with pytest.raises(StateError):
                bus.emit("a", 1)
            with pytest.raises(StateError):
                async with bus.subscribe("a"):
                    pass
            async with bus:
                with pytest.raises(StateError, match="open already"):
                    await bus.__aenter__()
                assert (await bus.publish("a", 1)).id

    await prove(check, worker)


async def test_what_is_cancelled_here_is_cancelled_there(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        async with subject.publisher() as bus, bus.subscribe("a") as messages:
            waiting = asyncio.create_task(anext(messages))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting, 0.01)
            # Had it gone on waiting there, it would take what comes.
            await bus.publish("a", "for who waits now")
            assert (await anext(messages)).data == "for who waits now"

    await prove(check, worker)


async def test_what_an_emit_could_not_do_is_told_in_the_end(worker: Worker) -> None:
    async def check(subject: Subject) -> None:
        for error, kind in ((None, TopicError), (ZeroDivisionError(), ZeroDivisionError)):
            with pytest.raises(kind):
                await emit_and_leave(subject.publisher(), error)

    async def emit_and_leave(bus: Bus, error: Exception | None) -> None:
        async with bus:
            bus.emit("a..b", 1)
            await bus.publish("a", 1)
            if error is not None:
                raise error

    await prove(check, worker)


def serve(bus: Bus) -> None:
    @bus.serve("ask")
    async def answer(number: int) -> int:
        return number + 1


def handle(bus: Bus) -> None:
    @bus.subscribe("tell")
    async def take(number: int) -> None: ...


def wrap(bus: Bus) -> None:
    @bus.middleware
    def around(handler: Handler) -> Handler:
        return handler


def change(bus: Bus) -> None:
    @bus.publish_middleware
    def around(publish: Publish) -> Publish:
        return publish


def watch(bus: Bus) -> None:
    @bus.on_error
    def note(error: BaseException, message: Message) -> None: ...


@pytest.mark.parametrize("declare", [serve, handle, wrap, change, watch])
async def test_a_bus_with_code_stays(declare: Callable[[Bus], None], worker: Worker) -> None:
    async def stay(subject: Subject) -> None:
        bus = subject.publisher()
        declare(bus)
        async with bus, bus.subscribe("heard") as heard:
            await bus.publish("heard", 1)
            assert (await anext(heard)).data == 1
            assert bus.stats().published == 1

    async def move(subject: Subject) -> None:
        async with subject.publisher() as bus:
            with pytest.raises(UsageError, match="code cannot be sent"):
                declare(bus)

    opened = worker.opened
    await prove(stay, worker)
    assert worker.opened == opened
    await prove(move, worker)
    assert worker.opened == opened + 1


async def test_what_cannot_be_sent_says_so(worker: Worker) -> None:
    class Local(dict[str, int]):
        pass

    async def check(subject: Subject) -> None:
        async with subject.publisher() as bus:
            with pytest.raises(TypeError, match=r"cannot be sent to another process: .*Local"):
                await bus.publish("a", Local())
            with pytest.raises(UnsupportedError, match="stats"):
                bus.stats()
            with pytest.raises(EncodeError):
                await bus.publish("a", object())
            assert (await bus.publish("a", 1)).id

    await prove(check, worker)


async def test_what_a_check_leaves_open_is_closed(worker: Worker, tmp_path: Path) -> None:
    async def leave(subject: Subject) -> None:
        bus = subject.publisher()
        await bus.__aenter__()
        await bus.publish("a", 1)
        await anext(bus.replay())
        await bus.subscribe("a").__aenter__()

    async def use(subject: Subject) -> None:
        async with subject.publisher() as bus:  # a log has one writer
            assert (await bus.publish("a", 2)).position == 2

    for check in (leave, use):
        await prove(check, worker, f"sqlite:{tmp_path}/left.db")


async def test_a_check_that_fails_leaves_no_task_and_its_own_error(worker: Worker) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    before = asyncio.all_tasks()
    pending: list[asyncio.Task[Any]] = []

    async def fail(subject: Subject) -> None:
        async with subject.publisher() as bus, bus.subscribe("a") as messages:
            pending.append(asyncio.create_task(anext(messages)))
            await bus.publish("b", 1)
            raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await case_of(fail).prove(worker=worker)
    await asyncio.gather(*pending, return_exceptions=True)
    assert asyncio.all_tasks() == before
    gc.collect()
    assert told == []


async def test_a_process_that_dies_fails_its_check_and_is_replaced() -> None:
    async def die(subject: Subject) -> None:
        async with subject.publisher() as bus:
            os.kill(worker.pid or 0, signal.SIGKILL)
            await bus.publish("a", 1)

    async def live(subject: Subject) -> None:
        async with subject.publisher() as bus:
            assert (await bus.publish("a", 1)).id

    async with Worker() as worker:
        assert worker.pid is None
        await prove(live, worker)
        died = worker.pid
        with pytest.raises(AssertionError, match=r"has ended with signal 9 \(Killed"):
            await case_of(die).prove(worker=worker)
        await prove(live, worker)
        assert worker.pid != died


async def test_a_process_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(subject: Subject) -> None:
        raise NotImplementedError("it does not come to this")

    monkeypatch.setattr(apart, "_PROGRAM", "hms_bus.no_such_program")
    with pytest.raises(AssertionError, match="has ended with status 1: its stderr may say why"):
        await case_of(use).prove()


async def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(subject: Subject) -> None:
        async with subject.publisher() as bus:
            os.kill(worker.pid or 0, signal.SIGSTOP)
            await bus.publish("a", 1)

    monkeypatch.setattr(apart, "_GRACE_S", 0.05)
    monkeypatch.setattr(apart, "_CANCEL_S", 0.05)
    async with Worker() as worker:
        with pytest.raises(AssertionError, match="publisher did not answer any more"):
            await case_of(hang).prove(worker=worker, patience_s=0.02)
        assert worker.pid is None


async def test_a_case_that_is_cancelled_leaves_a_worker_that_works() -> None:
    began = asyncio.Event()

    async def wait(subject: Subject) -> None:
        async with subject.publisher() as bus, bus.subscribe("a") as messages:
            began.set()
            await anext(messages)

    async def live(subject: Subject) -> None:
        async with subject.publisher() as bus:
            assert (await bus.publish("a", 1)).id

    async with Worker() as worker:
        for cancellations in (1, 5):
            began.clear()
            proving = asyncio.create_task(case_of(wait).prove(worker=worker))
            await began.wait()
            for _ in range(cancellations):
                proving.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await proving
            await prove(live, worker)


async def test_a_worker_serves_one_case_at_a_time(worker: Worker) -> None:
    async def nest(subject: Subject) -> None:
        with pytest.raises(StateError, match="one case at a time"):
            await case_of(nest).prove(worker=worker)

    await prove(nest, worker)


async def test_a_case_that_is_given_no_worker_has_its_own() -> None:
    async def look(subject: Subject) -> None:
        async with (
            subject.publisher() as far,
            subject.bus() as near,
            near.subscribe("a") as messages,
        ):
            await far.publish("a", "there")
            await near.publish("a", "here")
            assert (await anext(messages)).data == "here", "they share no direct:// address"

    assert await case_of(look).prove() == "passed"


PARENT = """
import asyncio, os
from hms_bus.testing.conformance import Worker

async def main():
    async with Worker().line(60):
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def test_the_process_ends_when_its_parent_was_killed() -> None:
    # The worker has the same stderr: it is read to its end when both have gone.
    done = subprocess.run(
        [sys.executable, "-c", PARENT], stderr=subprocess.PIPE, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == b""


@pytest.mark.parametrize("url", ["direct://", "direct://x?codec=json", "faulty:direct://x?drop=1"])
async def test_what_stays_in_one_process_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="stays within one process"):
        plan(url, apart=True)
    with pytest.raises(ConfigError, match="stays within one process"):
        await run(url, apart=True)


def test_only_checks_of_buses_are_planned_apart() -> None:
    cases = plan("elsewhere://x", codecs=["json"], apart=True)
    assert {case.check.part for case in cases if case.apart} == {"transport", "logged", "unlogged"}
    assert {case.check.part for case in cases if not case.apart} == {"log", "codec"}
    together = {str(case) for case in plan("elsewhere://x", codecs=["json"])}
    assert not together & {str(case) for case in cases if case.apart}


def test_messages_are_sent_whole() -> None:
    codec = get_codec("json")
    envelope = codec.decode(codec.encode(new_envelope("a.b", {"n": 1}, source="/x")))
    message = Message(
        envelope, captures={"x": "a"}, reply_to="inbox", position=7, recorded_ns=1_000
    )
    for read_before in (False, True):
        assert not read_before or message.data == {"n": 1}
        copy: Message = calls.loads(calls.dumps(message))
        assert copy.data == {"n": 1}
        assert (copy.captures, copy.reply_to) == ({"x": "a"}, "inbox")
        assert (copy.position, copy.recorded_ns, copy.id) == (7, 1_000, message.id)


class Stubborn(Exception):  # noqa: N818 - it stands for those of others
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_be_sent_is_told_by_its_text() -> None:
    for error in (Stubborn(1, 2), ValueError(nullcontext(lambda: None))):
        copy: BaseException = calls.loads(calls.dump_error(error))
        assert type(copy) is RuntimeError
        assert str(copy) == f"{type(error).__name__}: {error}"
        assert copy.__notes__[0].endswith(str(error))
