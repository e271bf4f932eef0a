"""What the peers carry is what ours carries."""

import pytest
from msgspec import json

from benchmarks.carried import SOURCE, document, new_document, reader
from benchmarks.orders import ORDER, TOPIC, Order, order_of
from benchmarks.peers.hms import publishing
from hms_bus import Bus, Message
from hms_bus.plugins import get_codec

CODEC = get_codec("json")


@pytest.mark.parametrize("size", [128, 1024])
async def test_a_document_has_the_attributes_and_the_size_of_what_ours_sends(size: int) -> None:
    bus = Bus("direct://", source=SOURCE)
    sent: list[Message] = []

    @bus.subscribe(TOPIC)
    async def handle(order: Order, message: Message) -> None:
        sent.append(message)

    async with publishing(bus, order_of(size)) as run:
        await run(1)
    [message] = sent
    ours, theirs = CODEC.encode(message.envelope), document(order_of(size))
    assert json.decode(ours, type=dict).keys() == json.decode(theirs, type=dict).keys()
    assert len(ours) == len(theirs)


def test_documents_are_read_as_ours_reads_them() -> None:
    assert reader()(document(ORDER)) == ORDER


def test_a_new_document_differs_in_its_identity_only() -> None:
    first, second = (CODEC.decode(new_document(ORDER)) for _ in range(2))
    assert first.id != second.id
    assert first.replace(id="1", time=second.time) == second.replace(id="1")
