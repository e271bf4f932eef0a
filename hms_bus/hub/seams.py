"""Who sends at the hub, and a client as those who send to it need to know it.

`Peer` is the real one, and `Schedules` sends for the hub itself.
"""

from typing import Protocol

from hms_bus.ipc.session import Failure, Limits


class Pumped(Protocol):
    """What holds messages for a client."""

    @property
    def queued(self) -> int:
        """How many."""
        ...

    def pump(self) -> None:
        """Send of them what may be sent now."""
        ...


class Sender(Protocol):
    """Who sends messages and appends them: a client, or the hub itself."""

    is_congested: bool
    """Whether it does not read what it was sent."""
    queued_bytes: int
    """Bytes that wait for it."""
    received: int
    """How many messages it has sent."""

    def send_frame(self, whole: bytes) -> None:
        """Write one frame, soon."""
        ...

    def add_receipt(self, call: int, position: int, flags: int) -> None:
        """Write a receipt, soon and together with others."""
        ...

    def fail(self, call: int, failure: Failure) -> None:
        """Answer a call with FAILED."""
        ...

    def hold_back(self, by: object) -> None:
        """Take nothing more of it until whoever holds it back lets it go on."""
        ...

    def go_on(self, by: object) -> None:
        """Go on, unless another one holds it back."""
        ...

    def may_append(self, address: str, topic: str) -> bool:
        """Whether it may append an envelope with `topic` that goes to `address`."""
        ...

    def deny_append(self, topic: str) -> Failure:
        """Record that the right to append is missing; return what the client is told."""
        ...


class Client(Sender, Protocol):
    """One connected client. Counts are messages since it came."""

    number: int
    limits: Limits
    codecs: list[str]
    is_open: bool
    max_queued_bytes: int
    delivered: int
    dropped: int
    windows: dict[bytes, int]
    """How many messages it may still publish to an address without asking."""
    given: set[bytes]
    """The reply addresses that it was given."""

    def send(self, head: bytes, block: bytes) -> None:
        """Write one frame whose length is not counted yet, soon."""
        ...

    def flush(self) -> None:
        """Write all that has come together, in one piece."""
        ...

    def note_held(self, subscription: Pumped, size: int, count: int) -> None:
        """Count what waits for this client."""
        ...

    def note_released(self, subscription: Pumped, size: int, count: int) -> None:
        """Count what waits no more; `size` in bytes."""
        ...

    def fail_with(self, error: Exception) -> None:
        """End it for a bug of the hub."""
        ...

    async def readable(self) -> None:
        """Return when the client reads again, or has gone."""
        ...

    def may_publish(self, address: bytes) -> bool:
        """Whether it may send to an address that is a valid topic."""
        ...

    def deny_publish(self, topic: str) -> Failure:
        """Record that the right to publish is missing; return what the client is told."""
        ...

    def end_read(self, call: int, last: bytes) -> None:
        """Let go of a reading, and send its last frame."""
        ...
