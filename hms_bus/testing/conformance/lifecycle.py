"""Checks: opening, failing, draining and closing."""

import asyncio

from msgspec import Struct

from hms_bus.abc import Receipt
from hms_bus.bus import Handler, Message, Publish
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, StateError
from hms_bus.testing.conformance.probes import (
    Gate,
    Seen,
    equal,
    eventually,
    raises,
    take,
    that,
    within,
)
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


class Job(Struct):
    """Something to do."""

    number: int


@check(survives={"delay"})
async def closing_finishes_what_was_accepted(subject: Subject) -> None:
    """A bus that is closed handles every message that it has accepted before."""
    topic, listener, gate, seen = subject.topic("work"), subject.bus(), Gate(), Seen[int]()

    @listener.subscribe(topic)
    async def handle(number: int) -> None:
        await gate.passing()
        await asyncio.sleep(0)
        seen.add(number)

    async with subject.publisher() as sender:
        async with listener:
            await sender.publish_many([(topic, number) for number in range(20)])
            accepted = listener.stats
            await eventually(lambda: accepted().subscriptions[0].queued == 19, "20 accepted")
            await gate.entered()
            gate.open()
        equal(seen.items, list(range(20)), "what was handled when the bus was closed")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def closing_sends_the_last_answers(subject: Subject) -> None:
    """A request that is being handled when its server closes is answered."""
    server, gate = subject.bus(), Gate()

    @server.serve(subject.topic("ask"))
    async def answer() -> str:
        await gate.passing()
        await asyncio.sleep(0.01)
        return "in time"

    async with subject.publisher() as caller:
        async with server:
            asking = asyncio.create_task(caller.request(subject.topic("ask")))
            await gate.entered()
            gate.open()
        equal(await within(asking, "the answer"), "in time", "answer")


@check(survives={"delay"})
async def closing_sends_what_was_emitted(subject: Subject) -> None:
    """What was emitted before the bus was closed is delivered."""
    topic = subject.topic("emitted")
    async with subject.bus() as listener, listener.subscribe(topic) as messages:
        async with subject.publisher() as sender:
            for number in range(40):
                sender.emit(topic, number)
        equal([m.data for m in await take(messages, 40)], list(range(40)), "what arrived")


@check(survives={"delay"})
async def a_failing_handler_ends_nothing(subject: Subject) -> None:
    """After an exception the handler gets the next message, and others were never concerned."""
    topic, listener = subject.topic("work"), subject.bus()
    survived, other = Seen[int](), Seen[int]()
    errors = Seen[tuple[str, str]]()

    @listener.subscribe(topic)
    async def fail_on_odd(number: int) -> None:
        if number % 2:
            raise ValueError(f"odd {number}")
        survived.add(number)

    @listener.subscribe(topic)
    async def handle(number: int) -> None:
        other.add(number)

    @listener.on_error
    async def note(error: BaseException, message: Message) -> None:
        errors.add((str(error), message.topic))

    async with listener, subject.publisher() as sender:
        for number in range(10):
            await sender.publish(topic, number)
        equal(await survived.reach(5), [0, 2, 4, 6, 8], "what the failing handler handled")
        equal(await other.reach(10), list(range(10)), "what the other handled")
        expected = [(f"odd {number}", topic) for number in (1, 3, 5, 7, 9)]
        equal(sorted(await errors.reach(5)), expected, "what on_error was told")


@check(survives={"delay"})
async def a_payload_that_does_not_fit_is_reported(subject: Subject) -> None:
    """It reaches on_error as DecodeError with topic, type and field; the next one is handled."""
    topic, listener = subject.topic("work"), subject.bus()
    errors, handled = Seen[BaseException](), Seen[int]()

    @listener.subscribe(topic)
    async def handle(job: Job) -> None:
        handled.add(job.number)

    @listener.on_error
    def note(error: BaseException, _: Message) -> None:
        errors.add(error)

    async with listener, subject.publisher() as sender:
        await sender.publish(topic, {"number": "seven"}, type="Wrong")
        await sender.publish(topic, Job(8))
        equal(await handled.reach(1), [8], "what was handled")
        [error] = await errors.reach(1)
    that(isinstance(error, DecodeError), f"on_error was told {error!r}")
    if isinstance(error, DecodeError):
        facts = (error.topic, error.type, error.field)
        equal(facts, (topic, "Wrong", "$.number"), "topic, type and field")


@check()
async def a_closed_bus_refuses_everything(subject: Subject) -> None:
    """Before it is opened and after it is closed, every use of a bus raises StateError."""
    bus, topic = subject.publisher(), subject.topic("late")
    for _ in range(2):
        with raises(StateError, "publish"):
            await bus.publish(topic, 1)
        with raises(StateError, "publish_many"):
            await bus.publish_many([(topic, 1)])
        with raises(StateError, "emit"):
            bus.emit(topic, 1)
        with raises(StateError, "request"):
            await bus.request(topic, 1)
        with raises(StateError, "subscribe"):
            async with bus.subscribe(topic):
                pass
        async with bus:
            await bus.publish(topic, 1)


@check(survives={"delay", "duplicate", "reorder"})
async def a_bus_can_be_opened_again(subject: Subject) -> None:
    """A bus that was closed can be opened again, with the handlers that it had."""
    topic, listener, seen = subject.topic("again"), subject.bus(), Seen[int]()

    @listener.subscribe(topic)
    async def handle(number: int) -> None:
        seen.add(number)

    async with subject.publisher() as sender:
        for opening in range(3):
            async with listener:
                await sender.publish(topic, opening)
                await eventually(lambda wanted=opening: wanted in seen.items, "handled")


@check(survives={"delay", "duplicate", "reorder"})
async def one_bus_closing_concerns_no_other(subject: Subject) -> None:
    """While buses come and go at an address, those that stay go on."""
    topic = subject.topic("news")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        async with subject.bus() as passing, passing.subscribe(topic):
            pass
        await sender.publish(topic, "still here")
        equal((await take(messages, 1))[0].data, "still here", "payload")


@check(survives={"delay", "duplicate", "reorder"})
async def handlers_may_be_added_to_an_open_bus(subject: Subject) -> None:
    """A handler that is declared while the bus is open gets what that bus publishes afterwards."""
    topic, seen = subject.topic("added"), Seen[int]()
    # A handler cannot be sent to another process, so this one publishes and is no `publisher`.
    async with subject.bus(log=subject.log_url) as bus:

        @bus.subscribe(topic)
        async def handle(number: int) -> None:
            seen.add(number)

        await bus.publish(topic, 7)
        equal((await seen.reach(1))[0], 7, "what was handled")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def middleware_stands_around_handlers(subject: Subject) -> None:
    """The first middleware is the outermost, and what it returns is the answer."""
    server = subject.bus()

    def naming(name: str) -> None:
        @server.middleware
        def around(handler: Handler) -> Handler:
            async def call(message: Message) -> str:
                return f"{name}({await handler(message)})"

            return call

    naming("outer")
    naming("inner")

    @server.serve(subject.topic("ask"))
    async def answer() -> str:
        return "answer"

    async with server, subject.publisher() as caller:
        equal(await caller.request(subject.topic("ask")), "outer(inner(answer))", "answer")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def publish_middleware_stands_around_all_that_is_sent(subject: Subject) -> None:
    """A publisher's middleware may change each event and request before it is sent."""
    topic, server, caller = subject.topic("ask"), subject.bus(), subject.publisher()

    @server.serve(topic)
    async def answer(message: Message) -> str | None:
        return message.envelope.subject

    @caller.publish_middleware
    def around(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            return await publish(envelope.replace(subject=f"{envelope.subject}, changed"))

        return send

    async with server, caller, server.subscribe(topic) as messages:
        equal(await caller.request(topic, subject="request"), "request, changed", "of a request")
        await caller.publish(topic, subject="event")
        await eventually(lambda: server.stats().handled > 1, "the event was handled")
        subjects = {m.envelope.subject for m in await take(messages, 2)}
        that(subjects <= {"request, changed", "event, changed"}, f"subjects are {subjects}")


@check("private")
async def a_private_address_is_shared_with_nobody(subject: Subject) -> None:
    """What is published at an address that is private to its bus reaches no other bus."""
    topic = subject.topic("private")
    async with (
        subject.bus(url=subject.given_url) as stranger,
        subject.bus(url=subject.given_url) as bus,
        stranger.subscribe(topic) as overheard,
        bus.subscribe(topic) as messages,
    ):
        await bus.publish(topic, "secret")
        await take(messages, 1)
        await stranger.publish(topic, "own")
        equal((await take(overheard, 1))[0].data, "own", "what the other bus got first")
