"""The form in which two envelopes can be compared."""

from typing import Any

import pytest
from msgspec import UNSET, Raw

from hms_bus.envelope import Envelope
from hms_bus.testing.equality import canonical


def test_times_are_equal_as_instants() -> None:
    here = Envelope(id="1", source="/s", type="t", time="2026-01-31T13:00:00+01:00")
    there = here.replace(time="2026-01-31t12:00:00.000000z")
    assert here != there
    assert canonical(here) == canonical(there)
    assert canonical(here) != canonical(here.replace(time="2026-01-31T13:00:00.000000001+01:00"))


@pytest.mark.parametrize(
    "data",
    [{"a": [1]}, Raw(b'{ "a": [1] }'), b'{"a":[1.0e0]}'],
    ids=["builtins", "raw", "octets"],
)
def test_json_is_equal_by_value(data: Any) -> None:
    envelope = Envelope(
        id="1", source="/s", type="t", datacontenttype="application/json", data=data
    )
    assert canonical(envelope)["data"] == {"a": [1]}


def test_json_without_a_media_type_is_application_json() -> None:
    envelope = Envelope(id="1", source="/s", type="t", data=[1])
    assert canonical(envelope)["datacontenttype"] == "application/json"
    assert "datacontenttype" not in canonical(envelope.replace(data=b"\x00"))
    assert "datacontenttype" not in canonical(envelope.replace(data=UNSET))


def test_octets_of_an_extension_are_base64() -> None:
    envelope = Envelope(id="1", source="/s", type="t", extensions={"myext": b"\x00\xff"})
    assert canonical(envelope)["myext"] == "AP8="
