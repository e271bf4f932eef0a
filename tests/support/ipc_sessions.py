"""Plays the clients of spec/vectors/ipc-sessions.json to a hub, over sockets."""

import socket
from collections.abc import Callable
from typing import Any, cast

from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import MAX_FRAME, Frame, read_frame
from tests.support.ipc_vectors import Content, Session, Step

_TYPES: dict[str, type | tuple[type, ...]] = {
    "integer": int,
    "number": (int, float),
    "text": str,
    "array": list,
}


def agrees(expected: Any, actual: Any) -> bool:
    """Whether what came is what a step says: marks stand for any value of their type.

    Objects may have further members, and subscriptions any order.
    """
    if isinstance(expected, dict):
        wanted = cast("Content", expected)
        if "$any" in wanted:
            return isinstance(actual, _TYPES[wanted["$any"]])
        return isinstance(actual, dict) and all(
            name in actual and agrees(value, _sorted(name, actual[name]))
            for name, value in wanted.items()
        )
    if isinstance(expected, list):
        listed, found = cast("list[Any]", expected), cast("list[Any]", actual)
        return len(listed) == len(found) and all(map(agrees, listed, found))
    return expected == actual


def _sorted(name: str, value: Any) -> Any:
    return sorted(value) if name == "subscriptions" else value


class Line:
    """One connection of a client that is played."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = FrameReader(MAX_FRAME + 2**20)
        self._came: list[bytes] = []
        self._is_open = False
        self.window = 0
        """How many messages the hub has allowed so far; a session uses one address for that."""

    def say(self, stream: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(stream)

    def hear(self) -> Frame | None:
        """Return the next frame that is not about the line itself; `None` when it has ended."""
        while True:
            while not self._came:
                chunk = self._socket.recv(65_536)
                if not chunk:
                    return None
                self._came = self._reader.feed(chunk)
            frame = read_frame(self._came.pop(0), "hub", opened=self._is_open)
            self._is_open = True
            if frame is not None:
                self.window += frame.content.get("window", 0)
                if frame.kind not in {"WINDOW", "PING"}:
                    return frame


def play(session: Session, dial: Callable[[], socket.socket]) -> None:
    """Play the clients of a session to the hub that `dial` connects to.

    Blocks; the sockets should have a timeout. Raises `AssertionError` when the hub says something
    else than the session.
    """
    lines: dict[str, Line] = {}
    sockets: list[socket.socket] = []
    chosen: dict[str, int] = {}
    try:
        for step in session.steps:
            if step.connection not in lines:
                sockets.append(dial())
                lines[step.connection] = Line(sockets[-1])
            line = lines[step.connection]
            if line.window < step.needs_window:
                return  # this hub gives no window here, which it need not
            if step.sender == "client":
                line.say(_with_chosen(step, chosen))
            else:
                _expect(step, line.hear(), chosen)
    finally:
        for each in sockets:
            each.close()


def _expect(step: Step, frame: Frame | None, chosen: dict[str, int]) -> None:
    if step.closes:
        assert frame is None, f"{step.connection} should be closed, not get {frame}"
        return
    assert frame is not None, f"{step.connection} is closed, it should get {step.kind}"
    assert frame.kind == step.kind, (step, frame)
    assert agrees(step.content, frame.content), (step.content, frame.content)
    for name, value in step.content.items():
        if isinstance(value, dict) and "as" in value:
            chosen[value["as"]] = frame.content[name]


def _with_chosen(step: Step, chosen: dict[str, int]) -> bytes:
    stream = bytearray(step.stream)
    for name, at in step.put.items():
        stream[at : at + 4] = chosen[name].to_bytes(4, "big")
    return bytes(stream)
