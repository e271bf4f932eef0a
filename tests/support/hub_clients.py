"""A client as the hub's middle sees it: it keeps what is sent to it. Contract: `seams.Client`."""

from hms_bus.abc import Overflow
from hms_bus.hub.seams import Pumped
from hms_bus.hub.subscriptions import Subscription
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ipc import frames
from hms_bus.ipc.session import Failure, Limits
from hms_bus.topics import parse_pattern
from tests.support.ipc_frames import Frame, read_stream


class Keeping:
    """Reads all until it `is_congested`; may do everything."""

    def __init__(self, switchboard: Switchboard, number: int = 1, *, max_bytes: int = 1000) -> None:
        self._switchboard = switchboard
        self.number = number
        self.limits = Limits(max_topics=3)
        self.codecs = ["json"]
        self.is_open = True
        self.is_congested = False
        self.congested_after: int | None = None
        """How many flushes it takes until it is; `None`: no number of them."""
        self.max_queued_bytes = max_bytes
        self.queued_bytes = 0
        self.received = self.delivered = self.dropped = 0
        self.windows: dict[bytes, int] = {}
        self.given: set[bytes] = set()
        self.held_back_by: set[object] = set()
        self.failures: dict[int, Failure] = {}
        self.receipts: list[tuple[int, int, int]] = []
        self.flushes = 0
        self._sent: list[bytes] = []

    def subscribe(
        self,
        pattern: str,
        number: int = 1,
        *,
        group: str | None = None,
        overflow: Overflow = "drop_newest",
        credit: int = 0,
        answers: bool = True,
    ) -> Subscription:
        subscription = Subscription(
            self,
            number,
            parse_pattern(pattern),
            group=group,
            answers=answers,
            overflow=overflow,
            credit=credit,
        )
        self._switchboard.subscribe(subscription)
        return subscription

    def heard(self) -> list[Frame]:
        """Return what was sent since the last call."""
        sent, self._sent = b"".join(self._sent), []
        return read_stream(sent, "hub", opened=True)

    def documents(self) -> list[bytes]:
        """Return the envelopes that were delivered since the last call, and nothing else was."""
        heard = self.heard()
        assert {frame.kind for frame in heard} <= {"DELIVER"}, heard
        return [each for frame in heard for each in frame.content["messages"]["envelopes"]]

    # -- what the hub calls --------------------------------------------------------------------

    def send(self, head: bytes, block: bytes) -> None:
        self._sent += (frames.U32.pack(len(head) + len(block)), head, block)

    def send_frame(self, whole: bytes) -> None:
        self._sent.append(whole)

    def add_receipt(self, call: int, position: int, flags: int) -> None:
        self.receipts.append((call, position, flags))

    def fail(self, call: int, failure: Failure) -> None:
        self.failures[call] = failure

    def fail_with(self, error: Exception) -> None:
        raise error

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes == self.congested_after:
            self.is_congested = True

    def note_held(self, subscription: Pumped, size: int, count: int) -> None:
        self.queued_bytes += size
        self._switchboard.queued_bytes += size

    def note_released(self, subscription: Pumped, size: int, count: int) -> None:
        self.queued_bytes -= size
        self._switchboard.note_released(self, size)

    def hold_back(self, by: object) -> None:
        self.held_back_by.add(by)

    def go_on(self, by: object) -> None:
        self.held_back_by.discard(by)

    async def readable(self) -> None:
        raise NotImplementedError

    def may_publish(self, address: bytes) -> bool:
        return True

    def may_append(self, address: str, topic: str) -> bool:
        return True

    def deny_publish(self, topic: str) -> Failure:
        raise NotImplementedError

    def deny_append(self, topic: str) -> Failure:
        raise NotImplementedError

    def end_read(self, call: int, last: bytes) -> None:
        raise NotImplementedError
