"""Checks: which topics a pattern selects (spec/topics.md), and what is no topic at all."""

from hms_bus.errors import TopicError
from hms_bus.testing.conformance.probes import Seen, equal, raises, take
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


async def _select(subject: Subject, pattern: str, *, others: list[str], own: list[str]) -> None:
    """Publish on `others`, then on `own`: a subscription to `pattern` gets exactly `own`."""
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(subject.topic(pattern)) as messages,
    ):
        for topic in (*others, *own):
            await sender.publish(subject.topic(topic), topic)
        topics = [message.topic for message in await take(messages, len(own))]
    equal(sorted(topics), sorted(map(subject.topic, own)), f"topics that {pattern!r} selects")


@check(survives={"delay", "reorder"})
async def a_topic_selects_itself_only(subject: Subject) -> None:
    """A pattern without wildcards selects the one topic that it spells, in its case."""
    await _select(subject, "a.b", others=["a", "a.b.c", "a.B", "a.bb", "b.a"], own=["a.b"])


@check(survives={"delay", "reorder"})
async def a_star_stands_for_one_token(subject: Subject) -> None:
    """`*` stands for exactly one token, wherever it stands."""
    await _select(
        subject, "a.*.c", others=["a.c", "a.b.b.c", "a.b", "a.b.c.d"], own=["a.b.c", "a.x.c"]
    )


@check(survives={"delay", "reorder"})
async def a_tail_stands_for_one_token_or_more(subject: Subject) -> None:
    """`>` stands for all that follows, which is at least one token."""
    await _select(subject, "a.>", others=["a", "b.a"], own=["a.b", "a.b.c", "a.b.c.d.e"])


@check(survives={"delay", "reorder"})
async def wildcards_combine(subject: Subject) -> None:
    """`*` and `>` may stand in one pattern."""
    await _select(subject, "*.b.>", others=["a.b", "b", "a.c.b.d"], own=["a.b.c", "x.b.c.d"])


@check(survives={"delay", "reorder"})
async def a_token_may_hold_what_the_grammar_allows(subject: Subject) -> None:
    """Digits, case, and `_ ~ : @ / + = % ! # -` reach the subscriber as they were sent."""
    await _select(subject, "*", others=[], own=["0", "Az_~:@", "/+=%", "!#-", "x" * 100])


@check(survives={"delay", "reorder"})
async def captures_are_handed_to_the_handler(subject: Subject) -> None:
    """A handler's parameter gets the token that `{name}` stands for, in the parameter's type."""
    listener, seen = subject.bus(), Seen[tuple[str, int, int]]()

    @listener.subscribe(subject.topic("orders.{region}.{number}.created"))
    async def handle(total: int, region: str, number: int) -> None:
        seen.add((region, number, total))

    async with listener, subject.publisher() as sender:
        await sender.publish(subject.topic("orders.eu.7.created"), 120)
        equal(await seen.reach(1), [("eu", 7, 120)], "region, number and payload")


@check(survives={"delay"})
async def overlapping_patterns_each_get_the_message(subject: Subject) -> None:
    """Subscriptions whose patterns overlap each get the message, once each."""
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(subject.topic("a.b")) as literal,
        listener.subscribe(subject.topic("a.*")) as star,
        listener.subscribe(subject.topic("a.>")) as tail,
    ):
        await sender.publish(subject.topic("a.b"), 1)
        await sender.publish(subject.topic("a.b"), 2)
        for messages in (literal, star, tail):
            equal([m.data for m in await take(messages, 2)], [1, 2], "payloads")


@check(survives={"delay", "reorder"})
async def system_topics_are_selected_by_name_only(subject: Subject) -> None:
    """A topic that starts with `$` is selected only by a pattern that spells its first token."""
    system, ordinary = f"${subject.name}.a", subject.topic("a")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe("*.a") as star,
        listener.subscribe(f"${subject.name}.*") as literal,
    ):
        await sender.publish(system, 1)
        await sender.publish(ordinary, 2)
        equal([m.topic for m in await take(literal, 1)], [system], "what the literal selects")
        while True:
            [message] = await take(star, 1)
            if subject.name in message.topic:  # on a shared server others are busy, too
                break
        equal(message.topic, ordinary, "what the wildcard selects")


@check()
async def what_is_no_topic_is_refused(subject: Subject) -> None:
    """Publishing on a malformed topic or a pattern, and subscribing to none, raise TopicError."""
    async with subject.publisher() as bus:
        for topic in ("", "a..b", ".a", "a.", "a b", "a.*", "a.>", "a.{b}", "a.$b", "x" * 300):
            with raises(TopicError, f"publish on {topic[:20]!r}"):
                await bus.publish(topic, 1)
        for pattern in ("", "a..b", "a.>.b", "a.x>", "a.{b}.{b}", "a.{1}", "a b"):
            with raises(TopicError, f"subscribe to {pattern!r}"):
                async with bus.subscribe(pattern):
                    pass
