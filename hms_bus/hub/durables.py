"""What clients say and ask about durables: who may consume, how many, and what is under way."""

import asyncio
from functools import partial
from typing import Any, cast

from hms_bus.abc import ConsumingLog, EventLog
from hms_bus.errors import ConfigError, FrameError, TopicError, UnsupportedError
from hms_bus.hub.consuming import Consuming
from hms_bus.hub.desk import Desk
from hms_bus.hub.journal import NO_LOG
from hms_bus.hub.peer import Peer
from hms_bus.hub.reads import codec_of
from hms_bus.ipc import durables
from hms_bus.ipc.durables import Consume, parts_of
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Ask, Failure
from hms_bus.schedules import SCHEDULER
from hms_bus.topics import parse_pattern

_MAX_UNSETTLED = 2**20
"""Bytes of SETTLEs of a client that are under way; beyond it nothing more is read of it."""

_DURABLES_IN_ANSWER = 256


class Durables:
    """Takes CONSUME, FETCH, SETTLE and RELEASE of all clients."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._held: dict[Peer, int] = {}
        """How many bytes of SETTLEs each client has under way."""

    # -- consumers -----------------------------------------------------------------------------

    def consume(self, peer: Peer, call: int, wanted: Consume) -> None:
        """Begin to consume."""
        log = self._desk.journal.log
        failure = self._check(peer, wanted)
        if failure is not None or log is None:
            peer.fail(call, failure or NO_LOG)
            return

        def forget() -> None:
            peer.consumers.pop(wanted.consumer, None)

        try:
            consuming = Consuming(
                peer,
                call,
                self._consuming(log),
                wanted,
                codec=codec_of(wanted.codec or peer.codecs[0]),
                on_end=forget,
            )
        except (ConfigError, UnsupportedError) as error:
            peer.fail(call, to_failure(error))
            return
        peer.consumers[wanted.consumer] = consuming
        self._desk.begin(consuming.run())

    def _check(self, peer: Peer, wanted: Consume) -> Failure | None:
        """Return why somebody cannot consume."""
        if wanted.consumer in peer.consumers:
            raise FrameError(f"{wanted.consumer} is no number for a new consumer")
        if len(peer.consumers) >= self._desk.limits.max_consumers:
            text = (
                f"a client has at most {self._desk.limits.max_consumers} consumers at once: "
                "release one, or raise max_consumers in the hub's [limits]"
            )
            return Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit")
        try:
            pattern = parse_pattern(wanted.pattern)
        except TopicError as error:
            return to_failure(error)
        if wanted.name == SCHEDULER.name:
            text = f"the durable {wanted.name!r} is the hub's, which runs the schedules with it"
            return Failure(code="INVALID_ARGUMENT", message=text, reason="usage")
        if peer.rights is None or not peer.rights.may_use(wanted.name):
            return self._desk.deny(peer, "consume", wanted.name)
        if not peer.rights.may_read(pattern):
            return self._desk.deny(peer, "read", wanted.pattern)
        return None

    def fetch(self, peer: Peer, content: bytes) -> None:
        """Take a FETCH."""
        call, number, limit = durables.read_fetch(content)
        consuming = self._find(peer, call, number)
        if consuming is None:
            return
        if consuming.fetch_call is not None:
            raise FrameError(f"the consumer {number} has a FETCH under way")
        consuming.fetch(call, limit)

    @staticmethod
    def stop(peer: Peer, call: int) -> None:
        """Take a STOP of a FETCH."""
        for consuming in peer.consumers.values():
            if consuming.fetch_call == call:
                consuming.stop()
                return

    def release(self, peer: Peer, content: bytes) -> None:
        """Take a RELEASE."""
        call, number, flags = durables.read_release(content)
        if consuming := self._find(peer, call, number, is_ready=False):
            consuming.release(call, hands_back=not flags & durables.ABANDON)

    def settle(self, peer: Peer, content: bytes) -> None:
        """Take a SETTLE; nothing more is read of who settles faster than the disk takes it."""
        call, number, settlements = durables.read_settle(content)
        consuming = self._find(peer, call, number)
        if consuming is None:
            return
        size = len(content)
        held = self._held[peer] = self._held.get(peer, 0) + size
        self._desk.switchboard.queued_bytes += size
        if held > _MAX_UNSETTLED:
            peer.hold_back(self)
        task = consuming.settle(call, settlements)
        self._desk.settling.add(task)
        task.add_done_callback(partial(self._on_settled, peer, size))

    def _on_settled(self, peer: Peer, size: int, task: asyncio.Task[None]) -> None:
        self._desk.settling.discard(task)
        left = self._held.pop(peer) - size
        self._desk.switchboard.note_released(peer, size)
        if left:
            self._held[peer] = left
        if left <= _MAX_UNSETTLED // 2:
            peer.go_on(self)

    @staticmethod
    def _find(peer: Peer, call: int, number: int, *, is_ready: bool = True) -> Consuming | None:
        """Return the consumer that a client names; answer the call when it has no such one."""
        consuming = peer.consumers.get(number)
        if (
            consuming is not None
            and not consuming.is_released
            and (consuming.is_ready or not is_ready)
        ):
            return consuming
        text = f"there is no consumer {number}: wait for the DONE of its CONSUME"
        peer.fail(call, Failure(code="INVALID_ARGUMENT", message=text, reason="usage"))
        return None

    # -- questions -----------------------------------------------------------------------------

    async def list_all(self, peer: Peer, log: EventLog) -> list[dict[str, Any]]:
        """Return the answers to `durables`: those whose records the client may read."""
        entries = [
            part
            for info in await self._consuming(log).durables()
            if _may_read(peer, info.durable.pattern)
            for part in parts_of(info)
        ]
        starts = range(0, len(entries) or 1, _DURABLES_IN_ANSWER)
        return [{"durables": entries[at : at + _DURABLES_IN_ANSWER]} for at in starts]

    async def change(self, log: EventLog, ask: Ask) -> dict[str, Any]:
        """Do what `forget` or `redrive` asks for. Raises what the log raises."""
        consuming = self._consuming(log)
        name = ask.name or ""
        if ask.op == "forget":
            await consuming.forget(name)
        else:
            await consuming.redrive(name, ask.positions)
        return {}

    def _consuming(self, log: EventLog) -> ConsumingLog:
        """Return the log as one that keeps durables. Raises `UnsupportedError`."""
        if "log-durable" not in log.capabilities:
            where = self._desk.journal.url or "the hub's log"
            raise UnsupportedError("durable subscriptions (log-durable)", where)
        return cast("ConsumingLog", log)


def _may_read(peer: Peer, pattern: str) -> bool:
    return peer.rights is not None and peer.rights.may_read(parse_pattern(pattern))
