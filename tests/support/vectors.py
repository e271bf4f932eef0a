"""Reads spec/vectors, as spec/vectors/README.md describes them."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET, Raw

from hms_bus.envelope import ATTRIBUTES, Envelope

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """An envelope, and per codec the bytes to write and the documents to read."""

    name: str
    envelope: Envelope
    writes: dict[str, bytes]
    reads: dict[str, list[bytes]]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A document that must be refused."""

    name: str
    codec: str
    document: bytes
    reason: str
    attribute: str | None


def load_vectors() -> list[Vector]:
    """Return the vectors of all files of envelopes but refused.json."""
    paths = [
        path
        for path in sorted(VECTORS.glob("*.json"))
        if path.name != "refused.json" and not path.name.startswith("ipc-")
    ]
    return [_to_vector(vector) for path in paths for vector in json.loads(path.read_text())]


def load_refused() -> list[Refused]:
    """Return the documents to refuse."""
    return [
        Refused(
            name=vector["name"],
            codec=vector["codec"],
            document=to_bytes(vector["document"]),
            reason=vector["reason"],
            attribute=vector.get("attribute"),
        )
        for vector in json.loads((VECTORS / "refused.json").read_text())
    ]


def _to_vector(vector: dict[str, Any]) -> Vector:
    codecs: dict[str, dict[str, Any]] = vector["codecs"]
    writes = {name: to_bytes(form["bytes"]) for name, form in codecs.items() if "bytes" in form}
    reads = {
        name: [to_bytes(document) for document in form.get("decodes", [])]
        for name, form in codecs.items()
    }
    for name, document in writes.items():
        reads[name].insert(0, document)
    return Vector(
        name=vector["name"], envelope=_to_envelope(vector["envelope"]), writes=writes, reads=reads
    )


def _to_envelope(neutral: dict[str, Any]) -> Envelope:
    attributes: dict[str, str | int | dict[str, str]] = neutral["attributes"]
    values: dict[str, Any] = {
        name: value if isinstance(value, (str, int)) else base64.b64decode(value["base64"])
        for name, value in attributes.items()
        if name != "specversion"
    }
    fields = {name: value for name, value in values.items() if name in ATTRIBUTES}
    others = {name: value for name, value in values.items() if name not in ATTRIBUTES}
    return Envelope(**fields, extensions=others or None, data=_to_data(neutral.get("data")))


def _to_data(data: dict[str, str] | None) -> Any:
    if data is None:
        return UNSET
    if "json" in data:
        return Raw(data["json"].encode())
    return data["text"] if "text" in data else base64.b64decode(data["base64"])


def to_bytes(document: dict[str, Any]) -> bytes:
    """Return the bytes of a document."""
    if "parts" in document:
        return b"".join(to_bytes(part) * part["times"] for part in document["parts"])
    return document["text"].encode() if "text" in document else bytes.fromhex(document["hex"])
