"""The hash chain, down to the bytes of spec/log.md."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import jsonformat
from hms_bus.attributes import new_envelope
from hms_bus.log.chain import GENESIS, cut, link, payload_hash
from hms_bus.log.heads import parse_head

SPEC = (Path(__file__).parents[3] / "spec" / "log.md").read_text()
RECORDS, HEAD, _SEAL = (
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", SPEC, re.DOTALL)
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_example_of_the_spec() -> None:
    previous = GENESIS
    for record in RECORDS:
        document = record["document"].encode()
        assert jsonformat.encode(jsonformat.decode(document)) == document
        assert payload_hash(document).hex() == record["payload_hash"]
        previous = link(previous, record["position"], record["recorded_ns"], document)
        assert previous.hex() == record["hash"]
    head = parse_head(json.dumps(HEAD).encode())
    assert (head.position, head.hash) == (len(RECORDS), previous)


def test_the_words_of_the_spec() -> None:
    document = b'{"specversion":"1.0","id":"1","data":[1]}'
    attributes, payload = b'{"specversion":"1.0","id":"1"', b',"data":[1]'
    previous, position, recorded_ns = bytes(range(32)), 7, 1_700_000_000_000_000_000
    covered = (
        previous
        + position.to_bytes(8)
        + recorded_ns.to_bytes(8)
        + hashlib.sha256(payload).digest()
        + attributes
    )
    assert link(previous, position, recorded_ns, document) == hashlib.sha256(covered).digest()


@pytest.mark.parametrize(
    ("document", "payload"),
    [
        (b'{"id":"1"}', b""),
        (b'{"id":"1","data":null}', b',"data":null'),
        (b'{"id":"1","data_base64":"AAEC"}', b',"data_base64":"AAEC"'),
        (b'{"id":",\\"data\\":1","data":2}', b',"data":2'),
        (b'{"subject":"data","data":{"a":1,"data":{"data":3}}}',
         b',"data":{"a":1,"data":{"data":3}}'),
        (b'{"id":"1","data":{"x":1,"data_base64":"AA"}}', b',"data":{"x":1,"data_base64":"AA"}'),
    ],
)  # fmt: skip
def test_the_cut_between_attributes_and_payload(document: bytes, payload: bytes) -> None:
    assert document[cut(document) : -1] == payload


@given(subject=st.text(max_size=20).filter(str.isprintable), data=json_values | st.binary())
def test_what_stands_before_the_cut_is_the_envelope_without_payload(
    subject: str, data: Any
) -> None:
    envelope = new_envelope("a.b", data, source="s", subject=f',"data":{subject}')
    document = jsonformat.encode(envelope)
    attributes = json.loads(document)
    attributes.pop("data", None)
    attributes.pop("data_base64", None)
    assert json.loads(document[: cut(document)] + b"}") == attributes


@given(data=json_values | st.binary())
def test_a_payload_that_was_taken_out_leaves_the_hash_as_it_is(data: Any) -> None:
    document = jsonformat.encode(new_envelope("a.b", data, source="s"))
    redacted = document[: cut(document)] + b"}"
    assert link(GENESIS, 1, 5, redacted, payload_hash(document)) == link(GENESIS, 1, 5, document)


def test_the_hash_depends_on_everything() -> None:
    document = b'{"id":"1","data":2}'
    hashes = {
        link(GENESIS, 1, 5, document),
        link(bytes([1, *bytes(31)]), 1, 5, document),
        link(GENESIS, 2, 5, document),
        link(GENESIS, 1, 6, document),
        link(GENESIS, 1, 5, b'{"id":"2","data":2}'),
        link(GENESIS, 1, 5, b'{"id":"1","data":3}'),
        link(GENESIS, 1, 5, b'{"id":"1"}'),
    }
    assert len(hashes) == 7
