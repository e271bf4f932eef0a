"""Checks: subscribers that compete for messages."""

from hms_bus.bus import Bus
from hms_bus.testing.conformance.probes import Gate, Seen, equal, eventually, payloads, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


def _join(bus: Bus, pattern: str, group: str, seen: Seen[tuple[str, int]], member: str) -> None:
    @bus.subscribe(pattern, group=group)
    async def handle(number: int) -> None:
        seen.add((member, number))


@check("groups", survives={"delay"})
async def one_member_of_a_group_gets_each_message(subject: Subject) -> None:
    """Of the members of a group, on whatever bus, exactly one gets each message."""
    topic, seen = subject.topic("work"), Seen[tuple[str, int]]()
    one, two = subject.bus(), subject.bus()
    for bus, member in ((one, "a"), (one, "b"), (two, "c")):
        _join(bus, topic, "workers", seen, member)
    async with one, two, subject.publisher() as sender:
        await sender.publish_many([(topic, number) for number in range(60)])
        await seen.reach(60)
    equal(sorted(number for _, number in seen.items), list(range(60)), "what was handled")


@check("groups", survives={"delay"})
async def each_group_gets_each_message(subject: Subject) -> None:
    """Two groups and a subscriber in no group each get every message."""
    topic, seen, free = subject.topic("work"), Seen[tuple[str, int]](), Seen[int]()
    listener = subject.bus()
    _join(listener, topic, "one", seen, "one")
    _join(listener, topic, "one", seen, "one")
    _join(listener, topic, "two", seen, "two")

    @listener.subscribe(topic)
    async def handle(number: int) -> None:
        free.add(number)

    async with listener, subject.publisher() as sender:
        await sender.publish_many([(topic, number) for number in range(20)])
        await seen.reach(40)
        equal(await free.reach(20), list(range(20)), "in no group")
    for group in ("one", "two"):
        handled = sorted(number for name, number in seen.items if name == group)
        equal(handled, list(range(20)), f"group {group}")


@check("groups", survives={"delay"})
async def groups_of_one_name_on_two_patterns_are_two(subject: Subject) -> None:
    """A group belongs to its pattern: the same name on another pattern is another group."""
    seen, listener = Seen[tuple[str, int]](), subject.bus()
    _join(listener, subject.topic("a.b"), "workers", seen, "literal")
    _join(listener, subject.topic("a.*"), "workers", seen, "star")
    async with listener, subject.publisher() as sender:
        await sender.publish(subject.topic("a.b"), 1)
        equal(sorted(await seen.reach(2)), [("literal", 1), ("star", 1)], "who got it")


@check("groups", survives={"delay"})
async def captures_make_no_other_group(subject: Subject) -> None:
    """Patterns that differ in the names of their captures only are the same pattern."""
    seen, listener = Seen[str](), subject.bus()

    @listener.subscribe(subject.topic("{region}.new"), group="workers")
    async def one(region: str) -> None:
        seen.add(region)

    @listener.subscribe(subject.topic("{place}.new"), group="workers")
    async def two(place: str) -> None:
        seen.add(place)

    async with listener, subject.publisher() as sender:
        for number in range(20):
            await sender.publish(subject.topic(f"r{number}.new"))
        await seen.reach(20)
    equal(sorted(seen.items), sorted(f"r{number}" for number in range(20)), "what was handled")


@check("groups", "group-balance", survives={"delay"})
async def an_idle_member_gets_the_next_message(subject: Subject) -> None:
    """While one member is busy, the messages go to one that is not."""
    topic, seen, gate = subject.topic("work"), Seen[tuple[str, int]](), Gate()
    buses, said = {"a": subject.bus(), "b": subject.bus()}, subject.topic("said")

    def join(member: str) -> None:
        @buses[member].subscribe(topic, group="workers")
        async def handle(number: int) -> None:
            seen.add((member, number))
            if number == 0:
                await gate.passing()

    for member in buses:
        join(member)
    async with (
        buses["a"],
        buses["b"],
        subject.publisher() as sender,
        sender.subscribe(said) as heard,
    ):
        await sender.publish(topic, 0)
        [(busy, _)] = await seen.reach(1)
        idle = "b" if busy == "a" else "a"
        for number in range(1, 10):
            await sender.publish(topic, number)
            await seen.reach(number + 1, f"message {number} went to the busy member")
            await _idleness_is_known(buses[idle], said)
            await take(heard, 1)
        equal({member for member, _ in seen.items[1:]}, {idle}, "who got the others")
        gate.open()


async def _idleness_is_known(member: Bus, topic: str) -> None:
    """Publish behind what the member says about its load, on the same line.

    Who gets the message knows that the member is idle: between processes that takes a while.
    """

    def load() -> int:
        [handler] = member.stats().subscriptions
        return handler.queued + handler.in_progress

    await eventually(lambda: not load(), "the member is idle")
    await member.publish(topic)


@check("groups", "group-balance", survives={"delay", "duplicate", "reorder"})
async def idle_members_take_turns(subject: Subject) -> None:
    """Every member of a group has its share of the work."""
    topic, seen = subject.topic("work"), Seen[tuple[str, int]]()
    buses = [subject.bus() for _ in range(3)]
    for index, bus in enumerate(buses):
        _join(bus, topic, "workers", seen, f"m{index}")
    async with buses[0], buses[1], buses[2], subject.publisher() as sender:
        for number in range(30):
            await sender.publish(topic, number)
        await seen.reach(30)
    members = [member for member, _ in seen.items]
    for member in ("m0", "m1", "m2"):
        share = members.count(member)
        that(share >= 5, f"{member} got {share} of 30 messages")


@check("groups", survives={"delay"})
async def a_member_that_leaves_is_left_out(subject: Subject) -> None:
    """When a member has left, the others get everything."""
    topic = subject.topic("work")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic, group="workers") as stays,
    ):
        async with listener.subscribe(topic, group="workers"):
            pass
        await sender.publish_many([(topic, number) for number in range(10)])
        equal(payloads(await take(stays, 10)), list(range(10)), "what the one that stays got")


@check("groups", survives={"delay"})
async def a_member_that_leaves_finishes_its_share(subject: Subject) -> None:
    """What a member has accepted it handles before its bus is closed."""
    topic, seen, gate = subject.topic("work"), Seen[int](), Gate()
    leaver = subject.bus()

    @leaver.subscribe(topic, group="workers")
    async def handle(number: int) -> None:
        await gate.passing()
        seen.add(number)

    async with subject.publisher() as sender:
        async with leaver:
            await sender.publish_many([(topic, number) for number in range(10)])
            await gate.entered()
            queued = leaver.stats().subscriptions[0]
            await eventually(lambda: leaver.stats().subscriptions[0].queued == 9, f"{queued}")
            gate.open()
        equal(seen.items, list(range(10)), "what was handled when the bus was closed")
