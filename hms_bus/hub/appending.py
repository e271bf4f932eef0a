"""One APPEND at the hub: what is to be appended, and how its client is answered."""

from collections.abc import Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from hms_bus import plugins
from hms_bus.abc import Expect, Receipt
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, FrameError
from hms_bus.hub.delivery import Parcel
from hms_bus.hub.seams import Sender
from hms_bus.hub.subscriptions import Wait
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ipc import frames
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Failure
from hms_bus.schedules import Schedule, is_schedule

_DECODED_BYTES = 1024
"""About what a decoded envelope takes besides its document."""


class Appending(Struct, frozen=True, kw_only=True, eq=False):
    """One APPEND until it is answered.

    `blocks` are the messages, one envelope each; `size` is about what all of it takes, in bytes.
    """

    peer: Sender
    call: int
    expect: Expect
    envelopes: list[Envelope]
    blocks: list[bytes]
    size: int
    has_schedule: bool

    def fail(self, failure: Failure) -> None:
        """Answer that it has come to nothing."""
        self.peer.fail(self.call, failure)

    def deliver(self, switchboard: Switchboard, receipts: Sequence[Receipt]) -> None:
        """Deliver what was committed; answer once all of it has found room."""
        peer = self.peer
        wait = Wait(partial(self._answer, receipts))
        known = switchboard.routes.known
        for block, receipt in zip(self.blocks, receipts, strict=True):
            if not receipt.duplicate:
                peer.received += 1
                switchboard.counts.received += 1
                found = frames.read_messages(block, 0)
                route = known.get(found.address) or switchboard.find(found.address)
                switchboard.deliver(route, Parcel(peer, block, 0, found, wait))
                if switchboard.is_overfull:
                    switchboard.check_room(peer, route)
        wait.end_one()

    def _answer(self, receipts: Sequence[Receipt], failure: Failure | None) -> None:
        if failure is not None:
            details = failure.details | {"position": receipts[-1].position}
            self.fail(replace(failure, details=details))
            return
        last = len(receipts) - 1
        for place, receipt in enumerate(receipts):
            flags = (frames.DUPLICATE if receipt.duplicate else 0) | (
                frames.LAST if place == last else 0
            )
            self.peer.add_receipt(self.call, receipt.position or 0, flags)


def read_append(peer: Sender, content: bytes, switchboard: Switchboard) -> Appending | None:
    """Read an APPEND, or answer why nothing of it can be appended. Raises `FrameError`.

    What is committed will be delivered, therefore its addresses are looked at here already.
    """
    call, _, expect, blocks = frames.read_append(content)
    envelopes: list[Envelope] = []
    singles: list[bytes] = []
    for block in blocks:
        failure = _check_addresses(peer, block, switchboard) or _read_block(
            peer, block, envelopes, singles
        )
        if failure is not None:
            peer.fail(call, failure)
            return None
    return Appending(
        peer=peer,
        call=call,
        expect="any" if expect == frames.ANY_POSITION else expect or "none",
        envelopes=envelopes,
        blocks=singles,
        size=len(content) + _DECODED_BYTES * len(envelopes),
        has_schedule=any(map(_is_to_system, blocks)) and any(map(is_schedule, envelopes)),
    )


def _check_addresses(peer: Sender, block: bytes, switchboard: Switchboard) -> Failure | None:
    found = frames.read_messages(block, 0)
    known = switchboard.routes.known
    try:
        route = known.get(found.address) or switchboard.find(found.address)
        if found.reply_to and found.reply_to not in known:
            switchboard.find(found.reply_to)
    except FrameError as error:
        return to_failure(error)
    return switchboard.find_full(peer, route)


def _read_block(
    peer: Sender, block: bytes, envelopes: list[Envelope], singles: list[bytes]
) -> Failure | None:
    """Add the envelopes of messages, and each as messages of its own; or return what is wrong."""
    found = frames.read_messages(block, 0)
    address = found.address.decode()
    for document in frames.envelopes_of(block, found):
        try:
            envelope = plugins.codec_of(document).decode(document)
        except DecodeError as error:
            return to_failure(error, reason="bad-envelope")
        if envelope.topic != address and not address.startswith("$"):
            text = f"an envelope on {envelope.topic!r} was sent to {address!r}"
            return Failure(code="INVALID_ARGUMENT", message=text, reason="bad-envelope")
        if not peer.may_append(address, envelope.topic):
            return peer.deny_append(envelope.topic)
        if address.startswith("$") and (unsaid := _check_schedule(peer, envelope)) is not None:
            return unsaid
        envelopes.append(envelope)
        singles.append(
            block
            if found.count == 1
            else frames.messages(found.address, found.reply_to, [document])
        )
    return None


def _is_to_system(block: bytes) -> bool:
    """Whether messages go to an address that begins with `$`."""
    return block.startswith(b"$", 4)


def _check_schedule(peer: Sender, envelope: Envelope) -> Failure | None:
    """Refuse to keep for later what the client may not send: the hub will send it."""
    while is_schedule(envelope):  # the message may be a schedule itself
        try:
            envelope = envelope.decode(Schedule).message()
        except DecodeError:
            return None  # who runs the schedules makes it a dead letter
        if not peer.may_append(envelope.topic, envelope.topic):
            return peer.deny_append(envelope.topic)
    return None
