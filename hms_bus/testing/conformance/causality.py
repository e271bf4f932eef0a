"""Checks: what a handler sends says what caused it, without the handler's help."""

import asyncio

from hms_bus.bus import Message
from hms_bus.errors import BusError, HopLimitError
from hms_bus.testing.conformance.probes import Seen, equal, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


@check(survives={"delay", "reorder", "duplicate"})
async def the_first_message_begins_a_conversation(subject: Subject) -> None:
    """A message that nothing caused has no causationid; its own id is its correlationid."""
    topic = subject.topic("first")
    async with subject.publisher() as bus, bus.subscribe(topic) as messages:
        await bus.publish(topic, 1)
        [message] = await take(messages, 1)
    equal(message.envelope.causationid, None, "causationid")
    equal(message.envelope.correlationid, message.id, "correlationid")


@check(survives={"delay", "reorder", "duplicate"})
async def what_a_handler_publishes_names_its_cause(subject: Subject) -> None:
    """A handler's message has the handled one as causationid, its correlationid, one more hop."""
    cause, effect = await _cause_and_effect(subject, in_task=False)
    equal(effect.envelope.causationid, cause.id, "causationid")
    equal(effect.envelope.correlationid, "conversation", "correlationid")
    equal(effect.envelope.hops, 1, "hops")


@check(survives={"delay", "reorder", "duplicate"})
async def what_a_task_of_a_handler_publishes_names_its_cause(subject: Subject) -> None:
    """The same holds in a task that the handler created and that outlives it."""
    cause, effect = await _cause_and_effect(subject, in_task=True)
    equal(effect.envelope.causationid, cause.id, "causationid")
    equal(effect.envelope.correlationid, "conversation", "correlationid")


@check(survives={"delay", "reorder", "duplicate"})
async def the_trace_is_carried_along(subject: Subject) -> None:
    """A handler's message carries the trace of the one that it handles."""
    cause, effect = await _cause_and_effect(subject, in_task=False)
    equal(effect.envelope.traceparent, cause.envelope.traceparent, "traceparent")
    equal(effect.envelope.tracestate, "vendor=1", "tracestate")


async def _cause_and_effect(subject: Subject, *, in_task: bool) -> tuple[Message, Message]:
    """Return a message, and the one that its handler published."""
    agent, tasks = subject.bus(), list[asyncio.Task[object]]()

    @agent.subscribe(subject.topic("cause"))
    async def handle() -> None:
        publishing = agent.publish(subject.topic("effect"), 2)
        if in_task:
            tasks.append(asyncio.create_task(publishing))
        else:
            await publishing

    async with (
        agent,
        subject.publisher() as sender,
        agent.subscribe(subject.topic("cause")) as causes,
        agent.subscribe(subject.topic("effect")) as effects,
    ):
        await sender.publish(
            subject.topic("cause"),
            1,
            correlationid="conversation",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            tracestate="vendor=1",
        )
        [cause], [effect] = await take(causes, 1), await take(effects, 1)
        await asyncio.gather(*tasks)
        return cause, effect


@check(survives={"delay"})
async def conversations_do_not_mix(subject: Subject) -> None:
    """Messages that are handled at once keep their conversations apart."""
    agent, both_here = subject.bus(), asyncio.Barrier(2)

    @agent.subscribe(subject.topic("ask"), concurrency=2)
    async def handle(message: Message) -> None:
        await both_here.wait()
        await agent.publish(subject.topic("tell"), message.id)
        await both_here.wait()

    async with (
        agent,
        subject.publisher() as sender,
        agent.subscribe(subject.topic("tell")) as told,
    ):
        await sender.publish(subject.topic("ask"), 1, correlationid="one")
        await sender.publish(subject.topic("ask"), 2, correlationid="two")
        effects = await take(told, 2)
    for effect in effects:
        equal(effect.envelope.causationid, effect.data, "causationid")
    equal({effect.envelope.correlationid for effect in effects}, {"one", "two"}, "correlationids")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_request_of_a_handler_names_its_cause(subject: Subject) -> None:
    """A request that a handler makes belongs to the conversation of what it handles."""
    agent, server = subject.bus(), subject.bus()

    @server.serve(subject.topic("question"))
    async def answer(message: Message) -> list[str | None]:
        return [message.envelope.causationid, message.envelope.correlationid]

    @agent.subscribe(subject.topic("cause"))
    async def handle() -> None:
        found = await agent.request(subject.topic("question"), returns=list[str])
        await agent.publish(subject.topic("effect"), found)

    async with (
        server,
        agent,
        subject.publisher() as sender,
        agent.subscribe(subject.topic("effect")) as effects,
    ):
        receipt = await sender.publish(subject.topic("cause"), correlationid="conversation")
        [effect] = await take(effects, 1)
    equal(effect.data, [receipt.id, "conversation"], "causationid and correlationid")


@check(survives={"delay", "reorder"})
async def a_loop_of_messages_ends_at_the_hop_limit(subject: Subject) -> None:
    """Agents that answer each other without end are stopped by HopLimitError at `max_hops`."""
    agent, seen, errors = subject.bus(max_hops=5), Seen[int](), Seen[BaseException]()

    @agent.subscribe(subject.topic("ping"))
    async def pong(message: Message) -> None:
        seen.add(message.envelope.hops or 0)
        await agent.publish(subject.topic("ping"))

    @agent.on_error
    async def note(error: BaseException, _: Message) -> None:
        errors.add(error)

    async with agent, subject.publisher() as sender:
        await sender.publish(subject.topic("ping"))
        [error] = await errors.reach(1, "the loop did not end")
    that(isinstance(error, HopLimitError), f"the loop ended with {error!r}")
    that(isinstance(error, BusError) and error.code == "ABORTED", f"the code is {error!r}")
    equal(seen.items, [0, 1, 2, 3, 4, 5], "hops of the messages that were handled")
