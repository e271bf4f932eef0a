"""What holds where a capability is not claimed: who asks for it is told so, at once."""

from hms_bus.errors import BusError, DeadlineExceededError, NoRespondersError, UnsupportedError
from hms_bus.testing.conformance.appending import event
from hms_bus.testing.conformance.probes import equal, follow, raises, read, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import refusal_of


@refusal_of("groups")
async def groups_are_refused(subject: Subject) -> None:
    """Subscribing in a group raises UnsupportedError."""
    async with subject.bus() as bus:
        with raises(UnsupportedError, "subscribe in a group"):
            async with bus.subscribe(subject.topic("a"), group="workers"):
                pass


@refusal_of("no-responders")
async def nobody_serving_is_known_at_the_deadline(subject: Subject) -> None:
    """A request that nobody serves ends at its deadline, or before with NoRespondersError."""
    async with subject.publisher() as caller:
        with raises(BusError, "a request that nobody serves") as caught:
            await caller.request(subject.topic("nobody"), timeout=0.1)
        expected = isinstance(caught.error, DeadlineExceededError | NoRespondersError)
        that(expected, f"it ended with {caught.error!r}")


@refusal_of("no-servers")
async def nobody_serving_may_go_unnoticed(subject: Subject) -> None:
    """A request that is only listened to ends at its deadline, or before with NoRespondersError."""
    topic = subject.topic("overheard")
    async with subject.publisher() as caller, caller.subscribe(topic):
        with raises(BusError, "a request that is only listened to") as caught:
            await caller.request(topic, timeout=0.1)
        expected = isinstance(caught.error, DeadlineExceededError | NoRespondersError)
        that(expected, f"it ended with {caught.error!r}")


@refusal_of("private")
async def an_address_is_shared(subject: Subject) -> None:
    """Two buses at the address hear each other."""
    topic = subject.topic("a")
    async with (
        subject.bus(url=subject.given_url) as listener,
        subject.bus(url=subject.given_url) as sender,
        listener.subscribe(topic) as messages,
    ):
        await sender.publish(topic, "shared")
        equal((await take(messages, 1))[0].data, "shared", "payload")


@refusal_of("log-expect")
async def expecting_is_refused(subject: Subject) -> None:
    """An append with `expect` raises UnsupportedError and appends nothing."""
    async with subject.open_log() as log:
        for expect in ("none", 0, 1):
            with raises(UnsupportedError, f"append with expect={expect!r}"):
                await log.append([event(subject, 1)], expect=expect)
        equal(await read(log, pattern=subject.topic(">")), [], "records")


@refusal_of("log-batch")
async def batches_are_refused(subject: Subject) -> None:
    """An append of two envelopes raises UnsupportedError and appends nothing."""
    async with subject.open_log() as log:
        with raises(UnsupportedError, "append of two envelopes"):
            await log.append([event(subject, 1), event(subject, 2)])
        equal(await read(log, pattern=subject.topic(">")), [], "records")


@refusal_of("log-read-backwards")
async def reading_backwards_is_refused(subject: Subject) -> None:
    """A read with `backwards` raises UnsupportedError."""
    async with subject.open_log() as log:
        with raises(UnsupportedError, "read backwards"):
            await read(log, backwards=True)


@refusal_of("log-read-by-time")
async def reading_by_time_is_refused(subject: Subject) -> None:
    """A read with `since_ns` or `until_ns` raises UnsupportedError."""
    async with subject.open_log() as log:
        for bound in ("since_ns", "until_ns"):
            with raises(UnsupportedError, f"read with {bound}"):
                await read(log, **{bound: 1})


@refusal_of("log-follow")
async def following_is_refused(subject: Subject) -> None:
    """A read with `follow` raises UnsupportedError."""
    async with subject.open_log() as log:
        with raises(UnsupportedError, "read with follow"):
            await follow(log, limit=1)


@refusal_of("log-durable")
async def durables_are_refused(subject: Subject) -> None:
    """Opening a bus with a durable subscription raises UnsupportedError."""
    bus = subject.bus(log=subject.log_url)

    @bus.subscribe(subject.topic("a"), durable=subject.name)
    async def handle() -> None: ...

    with raises(UnsupportedError, "a durable subscription"):
        async with bus:
            pass


@refusal_of("log-verify")
async def verifying_is_refused(subject: Subject) -> None:
    """`verify` raises UnsupportedError."""
    async with subject.open_log() as log:
        with raises(UnsupportedError, "verify"):
            await log.verify()
