"""The official CloudEvents SDK reads what we write, and we read what it writes.

Of the three formats it has JSON only; what it cannot read is named below, with the reason.
"""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import codecs
from hms_bus.attributes import to_values
from hms_bus.envelope import Envelope
from hms_bus.ids import parse_time, to_moment
from hms_bus.testing.equality import canonical
from tests.support.envelopes import extension_names, int32, json_texts, json_values, names
from tests.support.vectors import Vector, load_vectors

CODEC = codecs.find("json")
SDK = JSONFormat()

NO_DATETIME_HOLDS = {"time-leap-second"}
"""Python's datetime has no second 60."""


def name_of(vector: Vector) -> str:
    return vector.name


def expected_attributes(envelope: Envelope) -> dict[str, Any]:
    """Return the attributes as the SDK has them: `time` is a datetime, octets are base64."""
    values = to_values(envelope)
    for name, value in values.items():
        if type(value) is bytes:
            values[name] = base64.b64encode(value).decode()
    if envelope.time is not None:
        values["time"] = to_moment(parse_time(envelope.time))
    return values


def attributes_of(event: Any) -> dict[str, Any]:
    """Return the attributes that the SDK has read, without the time that it makes up."""
    return dict(event.get_attributes())


def expected_data(envelope: Envelope) -> Any:
    """Return the data as the SDK has it: parsed JSON, or octets whatever their media type."""
    return envelope.data if type(envelope.data) is bytes else canonical(envelope).get("data")


WRITTEN = [vector for vector in load_vectors() if "json" in vector.writes]


@pytest.mark.parametrize("vector", WRITTEN, ids=name_of)
def test_the_sdk_reads_our_documents(vector: Vector) -> None:
    document = vector.writes["json"]
    if vector.name in NO_DATETIME_HOLDS:
        with pytest.raises(ValueError, match="second must be in"):
            SDK.read(None, document)
        return
    event = SDK.read(None, document)
    attributes = attributes_of(event)
    if vector.envelope.time is None:
        assert isinstance(attributes.pop("time"), datetime)  # it makes one up
    assert attributes == expected_attributes(vector.envelope)
    data = event.get_data()
    assert data == expected_data(vector.envelope)
    assert type(data) is type(expected_data(vector.envelope))


OTHERS = [
    (vector, document)
    for vector in load_vectors()
    for document in vector.reads.get("json", [])
    if document != vector.writes.get("json") and vector.name not in NO_DATETIME_HOLDS
]


@pytest.mark.parametrize(
    ("vector", "document"),
    OTHERS,
    ids=[f"{vector.name}-{at}" for at, (vector, _) in enumerate(OTHERS)],
)
def test_the_sdk_and_we_read_other_spellings_alike(vector: Vector, document: bytes) -> None:
    members = {name: value for name, value in json.loads(document).items() if value is not None}
    event = SDK.read(None, json.dumps(members))  # it takes a null for a wrong type
    attributes = attributes_of(event)
    if "time" not in members:
        del attributes["time"]
    assert attributes == expected_attributes(vector.envelope)
    data = event.get_data()
    if type(data) is bytes and type(expected_data(vector.envelope)) is not bytes:
        data = json.loads(data)  # JSON as octets
    assert data == expected_data(vector.envelope)


@given(
    data=st.dictionaries(json_texts, json_values, max_size=4) | st.binary(min_size=1),
    subject=names,
    time=st.datetimes(timezones=st.just(UTC)),
    extensions=st.dictionaries(extension_names, names | int32 | st.booleans(), max_size=3),
)
def test_we_read_what_the_sdk_writes(
    data: dict[str, Any] | bytes, subject: str, time: datetime, extensions: dict[str, Any]
) -> None:
    content_type = "application/json" if isinstance(data, dict) else "image/png"
    attributes = {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "subject": subject,
        "datacontenttype": content_type,
        **extensions,
    }
    kept = CODEC.decode(SDK.write(CloudEvent({**attributes, "time": time}, data)))
    assert kept.moment == time
    assert to_values(kept.replace(time=None)) == attributes
    assert kept.decode() == data
