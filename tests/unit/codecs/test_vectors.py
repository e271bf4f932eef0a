"""The golden vectors of spec/vectors: what is written, what is read, and what is refused."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cbor2
import pytest

from hms_bus import codecs
from hms_bus.codecs._pb.cloudevents_pb2 import CloudEvent
from hms_bus.envelope import ATTRIBUTES
from hms_bus.errors import DecodeError
from hms_bus.testing.equality import canonical
from tests.support.vectors import Refused, Vector, load_refused, load_vectors

VECTORS = load_vectors()
REFUSED = load_refused()
ROOT = Path(__file__).resolve().parents[3]


def name_of(vector: Vector | Refused) -> str:
    return vector.name


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_an_envelope_is_written_to_the_byte(vector: Vector) -> None:
    for name, document in vector.writes.items():
        assert codecs.find(name).encode(vector.envelope) == document, name


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_each_spelling_is_read_as_the_envelope(vector: Vector) -> None:
    for name, documents in vector.reads.items():
        for document in documents:
            envelope = codecs.find(name).decode(document)
            assert canonical(envelope) == canonical(vector.envelope), (name, document)


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_the_first_byte_names_the_codec(vector: Vector) -> None:
    for name, document in vector.writes.items():
        assert codecs.find_by_first_byte(document).name == name


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_what_is_written_is_well_formed_to_a_plain_library(vector: Vector) -> None:
    attributes = {"specversion", *canonical(vector.envelope)} - {"data"}
    if "json" in vector.writes:
        members = json.loads(vector.writes["json"])
        assert attributes - {"datacontenttype"} <= set(members)
    if "cbor" in vector.writes:
        item = cbor2.loads(vector.writes["cbor"], semantic_decoders={0: lambda text, _: text})
        assert attributes <= set(item)
    if "protobuf" in vector.writes:
        message = CloudEvent.FromString(vector.writes["protobuf"])
        assert attributes == {"specversion", "id", "source", "type", *message.attributes}


@pytest.mark.parametrize("refused", REFUSED, ids=name_of)
def test_a_document_is_refused_for_its_reason(refused: Refused) -> None:
    with pytest.raises(DecodeError) as caught:
        codecs.find(refused.codec).decode(refused.document).decode()
    assert caught.value.reason == refused.reason
    if refused.attribute is not None:
        assert caught.value.field == refused.attribute


def test_the_vectors_cover_what_the_spec_names() -> None:
    used = {name for vector in VECTORS for name in canonical(vector.envelope)}
    assert used >= {"specversion", "data", *ATTRIBUTES}
    assert len({vector.name for vector in [*VECTORS, *REFUSED]}) == len(VECTORS) + len(REFUSED)
    per_codec = Counter(refused.codec for refused in REFUSED)
    assert min(per_codec[name] for name in ("json", "cbor", "protobuf")) > 20
    assert sum(per_codec.values()) > 200


def test_the_script_writes_the_files_as_they_are() -> None:
    command = [sys.executable, "scripts/make_vectors.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
