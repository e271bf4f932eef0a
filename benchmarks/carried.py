"""What the peers carry between processes: the envelope that ours carries, encoded beforehand."""

from collections.abc import Callable

from benchmarks.orders import TOPIC, Order
from hms_bus import Envelope
from hms_bus.ids import stamp
from hms_bus.plugins import get_codec

CODEC = get_codec("json")

SOURCE = "/agents/shop/5b1f0c8e"
ID = "01936f2b-7c44-7a10-9d2e-5b1f0c8e6a33"
CAUSE = "01936f2b-7c42-7b55-a1b2-c3d4e5f60718"
CORRELATION = "01936f2b-7c40-7a01-8c11-0d2f4b6a8c1e"
TIME = "2026-01-31T12:00:00.123456Z"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def envelope(order: Order, *, id: str = ID, time: str = TIME) -> Envelope:  # noqa: A002
    """Return what an agent publishes while it handles a message that has a trace."""
    return Envelope(
        id=id,
        source=SOURCE,
        type="Order",
        topic=TOPIC,
        time=time,
        datacontenttype="application/json",
        correlationid=CORRELATION,
        causationid=CAUSE,
        traceparent=TRACE,
        hops=1,
        data=order,
    )


def document(order: Order) -> bytes:
    """Return the encoded envelope."""
    return CODEC.encode(envelope(order))


def new_envelope(order: Order) -> Envelope:
    """Return one with an identity and a time of its own."""
    new_id, time = stamp()
    return envelope(order, id=new_id, time=time)


def new_document(order: Order) -> bytes:
    """Return the same, encoded."""
    return CODEC.encode(new_envelope(order))


def reader() -> Callable[[bytes], Order]:
    """Return what reads the payload out of an encoded envelope, as ours does for a handler."""
    decode = CODEC.decode

    def read(document: bytes) -> Order:
        return decode(document).decode(Order)

    return read
