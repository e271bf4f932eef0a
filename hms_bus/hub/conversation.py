"""What a client says, frame by frame, and what comes of it (spec/ipc.md)."""

from collections.abc import Callable

from hms_bus.errors import FrameError, TopicError
from hms_bus.hub.desk import Desk
from hms_bus.hub.durables import Durables
from hms_bus.hub.peer import Peer
from hms_bus.hub.questions import Questions
from hms_bus.hub.subscriptions import Subscription, Wait
from hms_bus.ipc import frames, session
from hms_bus.ipc.durables import Consume
from hms_bus.ipc.failures import read_failure, to_failure
from hms_bus.ipc.session import Failure, Hello, Offer, Subscribe, agree
from hms_bus.topics import parse_pattern

_PING_BYTES = 9


class Conversation:
    """Takes the frames of all clients: `greet` the first one, `take` those after the WELCOME."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._durables = Durables(desk)
        self._questions = Questions(desk, self._durables)
        self._handlers: dict[int, Callable[[Peer, bytes], None]] = {
            frames.CALL: self._publish_and_answer,
            frames.CREDIT: self._credit,
            frames.APPEND: self._append,
            frames.VERDICT: self._verdict,
            frames.FORGET: self._forget,
            frames.SUBSCRIBE: self._subscribe,
            frames.UNSUBSCRIBE: self._unsubscribe,
            frames.READ: self._read,
            frames.STOP: self._stop,
            frames.MORE: self._more,
            frames.CONSUME: self._consume,
            frames.FETCH: self._durables.fetch,
            frames.SETTLE: self._durables.settle,
            frames.RELEASE: self._durables.release,
            frames.ASK: self._ask,
            frames.PING: self._ping,
            frames.PONG: self._pong,
            frames.BYE: self._bye,
            frames.ERROR: self._error,
        }

    def greet(self, peer: Peer, content: bytes) -> None:
        """Take the first frame of a client."""
        if content[0] != frames.HELLO:
            raise FrameError("the first frame of a client is a HELLO", reason="no-hello")
        # First alone: of another version nothing else need be as we know it.
        offered = session.from_json(content[1:], Offer).protocol
        if agree(*offered) is None:
            self.desk.refuse_version(peer, offered)
            return
        peer.handle = self._wait_for_welcome
        self.desk.greet(peer, session.from_json(content[1:], Hello), self.take)

    def _wait_for_welcome(self, peer: Peer, content: bytes) -> None:
        del peer
        raise FrameError(
            f"a frame of kind 0x{content[0]:02x} came before the WELCOME", reason="no-hello"
        )

    def take(self, peer: Peer, content: bytes) -> None:
        """Take a frame of a client that was welcomed. Raises `FrameError`."""
        kind = content[0]
        if kind == frames.PUBLISH:
            peer.switchboard.publish(peer, content, 1, None)
            return
        handle = self._handlers.get(kind)
        if handle is not None:
            handle(peer, content)
        elif kind < frames.OPTIONAL:
            raise FrameError(f"a client sends no frames of the kind 0x{kind:02x}")

    def _publish_and_answer(self, peer: Peer, content: bytes) -> None:
        call = frames.read_u32(content)
        found = frames.read_messages(content, 5)

        def answer(failure: Failure | None) -> None:
            if failure is not None:
                peer.fail(call, failure)
            elif peer.is_open:
                window = peer.switchboard.grant(peer, found, len(content))
                peer.send_frame(frames.done(call, window))

        wait = Wait(answer)
        try:
            peer.switchboard.publish(peer, content, 5, wait)
        except FrameError as error:
            if error.reason != "bad-topic":
                raise
            wait.fail(to_failure(error, reason=error.reason))
        wait.end_one()

    def _append(self, peer: Peer, content: bytes) -> None:
        self.desk.journal.append(peer, content)

    def _verdict(self, peer: Peer, content: bytes) -> None:
        ask, accepted, document = frames.read_verdict(content)
        peer.switchboard.take_verdict(peer, ask, None if accepted else read_failure(document))

    def _forget(self, peer: Peer, content: bytes) -> None:
        if len(content) == 1:
            peer.windows.clear()
        else:
            peer.windows.pop(content[1:], None)

    def _subscribe(self, peer: Peer, content: bytes) -> None:
        call = frames.read_u32(content)
        wanted = session.from_json(content[5:], Subscribe)
        failure = self._check(peer, wanted)
        if failure is not None:
            peer.fail(call, failure)
            return
        subscription = Subscription(
            peer,
            wanted.subscription,
            parse_pattern(wanted.pattern),
            group=wanted.group,
            answers=wanted.answers,
            overflow=wanted.overflow,
            credit=wanted.credit or 0,
        )
        peer.subscriptions[wanted.subscription] = subscription
        peer.switchboard.subscribe(subscription)
        peer.send_frame(frames.done(call))

    def _check(self, peer: Peer, wanted: Subscribe) -> Failure | None:
        """Return why a subscription cannot be."""
        if wanted.subscription in peer.subscriptions or not 0 <= wanted.subscription < 2**32:
            raise FrameError(f"{wanted.subscription} is no number for a new subscription")
        if wanted.credit is not None and not 0 <= wanted.credit < 2**32:
            raise FrameError(f"a credit of {wanted.credit} cannot be")
        if len(peer.subscriptions) >= peer.limits.max_subscriptions:
            text = f"a client has at most {peer.limits.max_subscriptions} subscriptions here"
            return Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit")
        try:
            pattern = parse_pattern(wanted.pattern)
        except TopicError as error:
            return to_failure(error)
        if not peer.may_all and peer.rights and not peer.rights.may_subscribe(pattern):
            return self.desk.deny(peer, "subscribe", wanted.pattern)
        return None

    def _unsubscribe(self, peer: Peer, content: bytes) -> None:
        call, number = frames.read_pair(content)
        subscription = peer.subscriptions.pop(number, None)
        if subscription is not None:
            # What is held for it was accepted for it: its group has it now, or nobody.
            peer.switchboard.unsubscribe(subscription)
        peer.send_frame(frames.done(call))

    def _credit(self, peer: Peer, content: bytes) -> None:
        for number, credit, handled in frames.read_credit(content):
            subscription = peer.subscriptions.get(number)
            if subscription is None:
                continue  # it was ended meanwhile
            subscription.load = max(0, subscription.load - handled)
            subscription.credit = min(subscription.credit + credit, 2**32)
            if subscription.queue:
                subscription.pump()

    def _read(self, peer: Peer, content: bytes) -> None:
        call = frames.read_u32(content)
        self._questions.read(peer, call, session.from_json(content[5:], session.Read))

    def _stop(self, peer: Peer, content: bytes) -> None:
        call = frames.read_call(content)
        if reading := peer.readings.get(call):
            reading.stop()
        else:
            self._durables.stop(peer, call)

    def _more(self, peer: Peer, content: bytes) -> None:
        call, count = frames.read_pair(content)
        if reading := peer.readings.get(call):
            reading.grant(count)

    def _consume(self, peer: Peer, content: bytes) -> None:
        call = frames.read_u32(content)
        self._durables.consume(peer, call, session.from_json(content[5:], Consume))

    def _ask(self, peer: Peer, content: bytes) -> None:
        call = frames.read_u32(content)
        self._questions.answer(peer, call, session.from_json(content[5:], session.Ask))

    def _ping(self, peer: Peer, content: bytes) -> None:
        if len(content) != _PING_BYTES:
            raise FrameError(f"a PING has 8 bytes, not {len(content) - 1}")
        peer.send_frame(frames.frame(frames.PONG, content[1:]))

    def _pong(self, peer: Peer, content: bytes) -> None:
        del peer
        if len(content) != _PING_BYTES:
            raise FrameError(f"a PONG has 8 bytes, not {len(content) - 1}")

    def _bye(self, peer: Peer, content: bytes) -> None:
        session.from_json(content[1:], session.Farewell)
        peer.said_bye = True
        self.desk.part(peer)

    def _error(self, peer: Peer, content: bytes) -> None:
        failure = read_failure(content[1:])
        peer.audit("protocol", None, f"the client says: {failure.message:.200}")
        peer.close()
