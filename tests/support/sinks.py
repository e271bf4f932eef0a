"""A sink for tests of transports, which need no bus."""

from collections.abc import Awaitable, Callable

from hms_bus.abc import Overflow
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, QueueFullError


class Taking:
    """Keeps what it is offered and told, and answers as it is told to."""

    def __init__(
        self,
        load: int = 0,
        *,
        answers: bool = True,
        overflow: Overflow = "block",
        room: int | None = None,
    ) -> None:
        self.load = load
        self.answers = answers
        self.overflow: Overflow = overflow
        self.room = room
        self.taken: list[tuple[Envelope, str | None]] = []
        self.told_when_idle: list[Callable[[], None]] = []
        self.told_when_roomy: list[Callable[[], None]] = []
        self.interrupts: list[str | None] = []
        self.failures: list[BusError] = []
        self.waits_for: Awaitable[None] | None = None
        self.is_full = False

    def on_idle(self, notify: Callable[[], None]) -> None:
        self.told_when_idle.append(notify)

    def on_room(self, notify: Callable[[], None]) -> None:
        self.told_when_roomy.append(notify)

    def interrupt(self, address: str | None) -> None:
        self.interrupts.append(address)

    def fail(self, error: BusError) -> None:
        self.failures.append(error)

    def offer(self, envelope: Envelope, reply_to: str | None) -> Awaitable[None] | None:
        if self.is_full:
            raise QueueFullError(queue="test", limit=1)
        self.taken.append((envelope, reply_to))
        return self.waits_for

    @property
    def topics(self) -> list[str]:
        return [envelope.topic for envelope, _ in self.taken]
