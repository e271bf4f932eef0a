"""Reads spec/vectors/ipc-*.json, as spec/vectors/README.md describes them.

A content has the neutral form of that page, with envelopes as bytes and all numbers as integers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.vectors import VECTORS, to_bytes

Content = dict[str, Any]
LONG_NUMBERS = {"expect", "position", "recorded", "delay"}


@dataclass(frozen=True, kw_only=True)
class FrameVector:
    """One frame: who sends it, its kind and content, its bytes, other bytes that say the same.

    `kind` is empty for a frame that is ignored.
    """

    name: str
    sender: str
    kind: str
    content: Content
    stream: bytes
    others: list[bytes]


@dataclass(frozen=True, kw_only=True)
class RefusedStream:
    """Bytes that end a connection, for `reason`; `opened`: they come after HELLO and WELCOME."""

    name: str
    sender: str
    opened: bool
    stream: bytes
    reason: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One frame of a conversation, or its end (`closes`). `put`: where to write what was chosen."""

    connection: str
    sender: str
    kind: str = ""
    content: Content = field(default_factory=dict[str, Any])
    stream: bytes = b""
    closes: bool = False
    put: Mapping[str, int] = field(default_factory=dict[str, int])
    needs_window: int = 0


@dataclass(frozen=True, kw_only=True)
class Session:
    """A conversation of clients with a hub, which has a log or not, and asks for tokens or not."""

    name: str
    has_log: bool
    asks_for_tokens: bool
    steps: list[Step]


def load_frames() -> list[FrameVector]:
    """Return the frames."""
    return [
        FrameVector(
            name=vector["name"],
            sender=vector["from"],
            kind=vector.get("kind", ""),
            content=_plain(vector.get("content", {})),
            stream=to_bytes(vector["bytes"]),
            others=[to_bytes(other) for other in vector.get("decodes", [])],
        )
        for vector in _load("ipc-frames.json")
    ]


def load_refused_streams() -> list[RefusedStream]:
    """Return what must be refused."""
    return [
        RefusedStream(
            name=vector["name"],
            sender=vector["from"],
            opened=vector["opened"],
            stream=to_bytes(vector["bytes"]),
            reason=vector["reason"],
        )
        for vector in _load("ipc-refusals.json")
    ]


def load_sessions() -> list[Session]:
    """Return the conversations."""
    return [
        Session(
            name=vector["name"],
            has_log=vector["hub"]["log"],
            asks_for_tokens=vector["hub"]["tokens"],
            steps=[_step(step) for step in vector["steps"]],
        )
        for vector in _load("ipc-sessions.json")
    ]


def _step(step: dict[str, Any]) -> Step:
    return Step(
        connection=step["connection"],
        sender=step["from"],
        kind=step.get("kind", ""),
        content=_plain(step.get("content", {})),
        stream=to_bytes(step["bytes"]) if "bytes" in step else b"",
        closes=step.get("closes", False),
        put=step.get("put", {}),
        needs_window=step.get("needs_window", 0),
    )


def _load(name: str) -> list[dict[str, Any]]:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def _plain(content: Any) -> Any:
    if isinstance(content, list):
        return [_plain(value) for value in cast("list[Any]", content)]
    if not isinstance(content, dict):
        return content
    members = cast("dict[str, Any]", content)
    if members.keys() in ({"text"}, {"hex"}):
        return to_bytes(members)
    return {
        name: int(value) if name in LONG_NUMBERS and isinstance(value, str) else _plain(value)
        for name, value in members.items()
    }
