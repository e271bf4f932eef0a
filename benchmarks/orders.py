"""The message that every contender carries: its JSON text has 128 bytes, or 1024."""

from msgspec import Struct, json
from msgspec.structs import replace

TOPIC = "orders.eu.created"


class Order(Struct, frozen=True):
    """The payload. Peers that take no msgspec Struct get a dataclass of the same fields."""

    number: int
    customer: str
    item: str
    quantity: int
    note: str


ORDER = Order(
    number=4711,
    customer="c-20391",
    item="espresso cups, white",
    quantity=12,
    note="please leave it at the back door, Jan.",
)


def order_of(size: int) -> Order:
    """Return the order with a longer note: its JSON text has `size` bytes, 128 or more."""
    missing = size - len(json.encode(ORDER))
    note = (ORDER.note + " " + "And ring twice. " * (missing // 16 + 1))[
        : len(ORDER.note) + missing
    ]
    return replace(ORDER, note=note)


class Quote(Struct, frozen=True):
    """The answer to a request about an order."""

    number: int
    price: int


QUOTE = Quote(number=4711, price=3600)
