"""The cases of ipc_*_cases.py as the objects of spec/vectors/ipc-*.json."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ipc_frame_cases import Frame, frames, optional_frames
from ipc_refusal_cases import ipc_refusals as refusals
from ipc_session_cases import sessions
from ipc_steps import Step
from ipc_writer import KINDS, document, to_frame, write

_RUN = re.compile(rb"(.)\1{255,}", re.DOTALL)


def ipc_frames() -> list[dict[str, Any]]:
    """Return the frames, and those to ignore."""
    known = [_frame(frame) for frame in frames()]
    ignored = [
        {
            "name": name,
            "description": description,
            "from": sender,
            "ignored": True,
            "bytes": _spelled(octets),
        }
        for name, description, sender, octets in optional_frames()
    ]
    return known + ignored


def ipc_refusals() -> list[dict[str, Any]]:
    """Return what must be refused."""
    return [
        {
            "name": refusal.name,
            "description": refusal.description,
            "from": refusal.sender,
            "opened": refusal.opened,
            "bytes": _spelled(refusal.stream),
            "reason": refusal.reason,
        }
        for refusal in refusals()
    ]


def ipc_sessions() -> list[dict[str, Any]]:
    """Return the conversations."""
    return [
        {
            "name": session.name,
            "description": session.description,
            "hub": {"log": session.log, "tokens": session.tokens},
            "steps": [_step(step) for step in session.steps],
        }
        for session in sessions()
    ]


def _frame(frame: Frame) -> dict[str, Any]:
    vector: dict[str, Any] = {
        "name": frame.name,
        "description": frame.description,
        "from": frame.sender,
        "kind": frame.kind,
        "content": frame.content,
        "bytes": _spelled(write(frame.kind, frame.content)),
    }
    if frame.others:
        number, to_bytes = KINDS[frame.kind]
        before = to_bytes(frame.content).removesuffix(document(frame.content["json"]))
        spelled = (to_frame(number, before + other.encode()) for other in frame.others)
        vector["decodes"] = [_spelled(other) for other in spelled]
    return vector


def _step(step: Step) -> dict[str, Any]:
    said: dict[str, Any] = {"connection": step.connection, "from": step.sender}
    if step.closes:
        return {**said, "closes": True}
    if step.octets is not None:
        return {**said, "ignored": True, "bytes": _spelled(step.octets)}
    said |= {"kind": step.kind, "content": _marked(step.content)}
    said["bytes"] = _spelled(write(step.kind, _exemplified(step.content)))
    if step.put:
        said["put"] = dict(step.put)
    if step.needs_window:
        said["needs_window"] = step.needs_window
    return said


def _exemplified(content: Any) -> Any:
    """Return a content with examples in the place of what the hub chooses."""
    if _is_mark(content):
        return content["example"]
    return _within(content, _exemplified)


def _marked(content: Any) -> Any:
    """Return a content with marks alone, as the examples stand in the bytes."""
    if _is_mark(content):
        return {name: value for name, value in content.items() if name != "example"}
    return _within(content, _marked)


def _is_mark(content: Any) -> bool:
    return isinstance(content, Mapping) and "$any" in content


def _within(content: Any, change: Any) -> Any:
    if isinstance(content, Mapping):
        members = cast("Mapping[str, Any]", content)
        return {name: change(value) for name, value in members.items()}
    if isinstance(content, list):
        return [change(value) for value in cast("Sequence[Any]", content)]
    return content


def _spelled(octets: bytes) -> dict[str, Any]:
    """Return bytes as a document of spec/vectors: hexadecimal, long runs by their length."""
    parts: list[dict[str, Any]] = []
    at = 0
    for run in _RUN.finditer(octets):
        if run.start() > at:
            parts.append({"hex": octets[at : run.start()].hex(), "times": 1})
        parts.append({"hex": run[1].hex(), "times": len(run[0])})
        at = run.end()
    if not parts:
        return {"hex": octets.hex()}
    if at < len(octets):
        parts.append({"hex": octets[at:].hex(), "times": 1})
    return {"parts": parts}
