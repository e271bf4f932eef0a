"""Write spec/vectors/*.json from the cases beside this script.

`--check` writes nothing and fails when a file would change: the bytes of a released vector stay.
"""

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import vector_cases
from ipc_vectors import ipc_frames, ipc_refusals, ipc_sessions
from msgspec import UNSET, Raw
from refusal_cases import Parts, refusals
from vector_cases import Case

from hms_bus import codecs
from hms_bus.attributes import from_values
from hms_bus.envelope import Envelope

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"


def main(arguments: list[str] | None = None) -> int:
    """Run the script; return its exit code."""
    parser = argparse.ArgumentParser(description="Write spec/vectors/*.json.")
    parser.add_argument("--check", action="store_true", help="only say which files would change")
    check = parser.parse_args(arguments).check
    changed = [path for path, text in render() if not path.exists() or path.read_text() != text]
    if not check:
        for path, text in render():
            path.write_text(text)
    for path in changed:
        print(f"{path.name} {'is not up to date' if check else 'written'}")
    return 1 if check and changed else 0


def render() -> Iterator[tuple[Path, str]]:
    """Yield each file and what it holds."""
    for name in ("attributes", "payloads", "timestamps"):
        cases: Callable[[], Iterable[Case]] = getattr(vector_cases, name)
        yield VECTORS / f"{name}.json", _to_json([_vector(case) for case in cases()])
    yield (
        VECTORS / "refused.json",
        _to_json(
            [
                {
                    "name": f"{refusal.codec}-{refusal.name}",
                    "description": refusal.description,
                    "codec": refusal.codec,
                    "document": _document(refusal.document, text=refusal.codec == "json"),
                    "reason": refusal.reason,
                    **({"attribute": refusal.attribute} if refusal.attribute is not None else {}),
                }
                for refusal in refusals()
            ]
        ),
    )
    yield VECTORS / "ipc-frames.json", _to_json(ipc_frames())
    yield VECTORS / "ipc-refusals.json", _to_json(ipc_refusals())
    yield VECTORS / "ipc-sessions.json", _to_json(ipc_sessions())


def _to_json(vectors: list[dict[str, Any]]) -> str:
    return json.dumps(vectors, indent=2, ensure_ascii=False) + "\n"


def _vector(case: Case) -> dict[str, Any]:
    envelope = to_envelope(case)
    forms: dict[str, Any] = {}
    for name in ("json", "cbor", "protobuf"):
        text = name == "json"
        form: dict[str, Any] = {}
        if name in case.writes:
            form["bytes"] = _document(codecs.find(name).encode(envelope), text=text)
        if name in case.decodes:
            form["decodes"] = [_document(other, text=text) for other in case.decodes[name]]
        if form:
            forms[name] = form
    vector: dict[str, Any] = {"name": case.name, "description": case.description}
    vector["envelope"] = {"attributes": dict(case.attributes)}
    if case.data:
        vector["envelope"]["data"] = dict(case.data)
    return {**vector, "codecs": forms}


def to_envelope(case: Case) -> Envelope:
    """Return the envelope of a case."""
    values = {name: _to_value(value) for name, value in case.attributes.items()}
    if "json" in case.data:
        return from_values(values, Raw(case.data["json"].encode()))
    if "base64" in case.data:
        return from_values(values, base64.b64decode(case.data["base64"]))
    return from_values(values, case.data.get("text", UNSET))


def _to_value(value: str | int | dict[str, str]) -> str | int | bytes:
    return value if isinstance(value, (str, int)) else base64.b64decode(value["base64"])


def _document(document: bytes | Parts, *, text: bool) -> dict[str, Any]:
    if not isinstance(document, bytes):
        parts = [{**_document(part, text=text), "times": times} for part, times in document]
        return {"parts": parts}
    if text:
        try:
            return {"text": document.decode()}
        except UnicodeDecodeError:
            pass
    return {"hex": document.hex()}


if __name__ == "__main__":
    sys.exit(main())
