"""The schedules of the hub's log: the hub sends what is due, also when who made them has gone."""

import asyncio
from itertools import count as counting

from hms_bus.abc import ConsumingLog, Receipt
from hms_bus.envelope import Envelope
from hms_bus.hub.journal import Journal
from hms_bus.ipc import frames
from hms_bus.ipc.failures import to_error
from hms_bus.ipc.session import Failure
from hms_bus.plugins import get_codec
from hms_bus.schedules import Scheduler

_NOBODY = ("", None)


class Schedules:
    """Appends and delivers what is due as a client's messages are: contract `Sender`.

    Its clients had the right to send it when they had it scheduled.
    """

    is_congested = False
    queued_bytes = 0

    def __init__(self, journal: Journal) -> None:
        self.received = 0
        self._journal = journal
        self._encode = get_codec("json").encode
        self._numbers = counting()
        self._under_way: dict[int, tuple[str, asyncio.Future[Receipt]]] = {}
        self._held_back_by: set[object] = set()
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    async def run(self, log: ConsumingLog) -> None:
        """Send what is due, until it is cancelled or the log is closed."""
        scheduler = Scheduler(log, self._send)
        self._journal.on_schedule = scheduler.note_made
        await scheduler.run()

    async def _send(self, envelope: Envelope) -> Receipt:
        """Append and deliver a message; return when it has found room. Raises as a bus does."""
        await self._may_go_on.wait()
        block = frames.messages(envelope.topic.encode(), b"", [self._encode(envelope)])
        call = next(self._numbers) & 0xFFFF_FFFF
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._under_way[call] = envelope.id, answer
        content = frames.append(call, 0, frames.ANY_POSITION, [block])[frames.LENGTH_BYTES :]
        try:
            self._journal.append(self, content)
            return await answer
        finally:
            del self._under_way[call]

    # -- contract `hms_bus.hub.seams.Sender` -----------------------------------------------------

    def add_receipt(self, call: int, position: int, flags: int) -> None:
        """Learn that it is in the log."""
        message_id, answer = self._under_way.get(call, _NOBODY)
        if answer is not None and not answer.done():
            duplicate = bool(flags & frames.DUPLICATE)
            answer.set_result(Receipt(id=message_id, position=position, duplicate=duplicate))

    def fail(self, call: int, failure: Failure) -> None:
        """Learn that it came to nothing."""
        _, answer = self._under_way.get(call, _NOBODY)
        if answer is not None and not answer.done():
            answer.set_exception(to_error(failure, url=self._journal.url or "the hub"))

    def hold_back(self, by: object) -> None:
        """Send nothing more until whoever holds it back lets it go on."""
        self._held_back_by.add(by)
        self._may_go_on.clear()

    def go_on(self, by: object) -> None:
        """Send again, unless another one holds it back."""
        self._held_back_by.discard(by)
        if not self._held_back_by:
            self._may_go_on.set()

    def may_append(self, address: str, topic: str) -> bool:
        """Whether it may append: the hub itself may."""
        del address, topic
        return True

    def deny_append(self, topic: str) -> Failure:
        """Say what is missing: never anything."""
        raise NotImplementedError(topic)

    def send_frame(self, whole: bytes) -> None:
        """Take what comes back: nothing does, these are no requests."""
        raise NotImplementedError(whole)
