"""The player of spec/vectors/ipc-sessions.json, against a hub that says what is in the vectors."""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import pytest

from hms_bus.ipc import frames
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import MAX_FRAME
from tests.support.ipc_sessions import agrees, play
from tests.support.ipc_vectors import Session, Step, load_sessions

SESSIONS = {session.name: session for session in load_sessions()}


class ScriptedHub:
    """Says its part of a session when its turn comes, and notes what clients sent."""

    def __init__(self, session: Session, change: Callable[[Step], bytes]) -> None:
        self._session = session
        self._change = change
        names = dict.fromkeys(step.connection for step in session.steps)
        self._far: dict[str, socket.socket] = {}
        self._near: list[socket.socket] = []
        for name in names:
            near, self._far[name] = socket.socketpair()
            self._near.append(near)
        self._readers = {name: FrameReader(MAX_FRAME) for name in names}
        self._unread: dict[str, list[bytes]] = {name: [] for name in names}
        self.heard: list[bytes] = []

    def dial(self) -> socket.socket:
        """Connect. The connections of a session begin in the order of its steps."""
        near = self._near.pop(0)
        near.settimeout(10)
        return near

    def run(self) -> None:
        """Play the hub until its part is over, or the clients have gone."""
        with suppress(ConnectionError):
            for step in self._session.steps:
                if step.closes:
                    self._far[step.connection].close()
                elif step.sender == "hub":
                    self._far[step.connection].sendall(self._change(step))
                else:
                    self._hear(step.connection)

    def _hear(self, name: str) -> None:
        unread = self._unread[name]
        while not unread:
            chunk = self._far[name].recv(65_536)
            if not chunk:
                raise ConnectionResetError
            unread += self._readers[name].feed(chunk)
        self.heard.append(unread.pop(0))

    def close_near(self) -> None:
        """Close the ends that nobody has asked for."""
        for line in self._near:
            line.close()

    def close_far(self) -> None:
        """Close its own ends."""
        for line in self._far.values():
            line.close()


@contextmanager
def scripted(
    session: Session, change: Callable[[Step], bytes] = lambda step: step.stream
) -> Generator[ScriptedHub]:
    hub = ScriptedHub(session, change)
    thread = threading.Thread(target=hub.run)
    thread.start()
    try:
        yield hub
    finally:
        hub.close_near()
        thread.join(20)
        hub.close_far()
        assert not thread.is_alive()


@pytest.mark.parametrize("name", SESSIONS)
def test_a_conversation_can_be_played(name: str) -> None:
    session = SESSIONS[name]
    with scripted(session) as hub:
        play(session, hub.dial)
    sent = [step.stream[4:] for step in session.steps if step.sender == "client"]
    assert hub.heard == sent


def test_what_the_hub_chose_is_said_back() -> None:
    """The hub numbers its first OFFER 77; the verdict on it says 77."""
    session = SESSIONS["verdicts"]

    def renumbered(step: Step) -> bytes:
        if step.kind != "OFFER" or step.content["ask"]["as"] != "first":
            return step.stream
        return step.stream[:5] + (77).to_bytes(4, "big") + step.stream[9:]

    with scripted(session, renumbered) as hub:
        play(session, hub.dial)
    asks = [content[1:5] for content in hub.heard if content[0] == 0x14]
    assert asks == [(77).to_bytes(4, "big"), (2).to_bytes(4, "big")]


def test_a_hub_that_gives_no_window_ends_the_conversation_early() -> None:
    session = SESSIONS["window"]

    def stingy(step: Step) -> bytes:
        return step.stream[:9] + bytes(4) if step.kind == "DONE" else step.stream

    with scripted(session, stingy) as hub:
        play(session, hub.dial)
    assert not [content for content in hub.heard if content[0] == 0x10]


@pytest.mark.parametrize("kind", ["DONE", "DELIVER", "BYE"])
def test_a_hub_that_says_something_else_is_found_out(kind: str) -> None:
    session = SESSIONS["publish-and-deliver"]

    def wrong(step: Step) -> bytes:
        return frames.frame(frames.GONE, b"$inbox.1") if step.kind == kind else step.stream

    with scripted(session, wrong) as hub, pytest.raises(AssertionError, match="GONE"):
        play(session, hub.dial)


def test_a_hub_that_says_another_value_is_found_out() -> None:
    session = SESSIONS["append"]

    def wrong(step: Step) -> bytes:
        return frames.receipts([(1, 2, 2)]) if step.kind == "RECEIPTS" else step.stream

    with scripted(session, wrong) as hub, pytest.raises(AssertionError, match="'position': 2"):
        play(session, hub.dial)


def test_a_hub_that_does_not_close_is_found_out() -> None:
    session = SESSIONS["version-refused"]

    def twice(step: Step) -> bytes:
        return step.stream * (1 + (step.kind == "ERROR"))

    with scripted(session, twice) as hub, pytest.raises(AssertionError, match="should be closed"):
        play(session, hub.dial)


@pytest.mark.parametrize(
    ("expected", "actual", "does"),
    [
        ({"a": 1}, {"a": 1, "later": 2}, True),
        ({"a": 1}, {}, False),
        ({"a": {"$any": "integer"}}, {"a": 9}, True),
        ({"a": {"$any": "integer"}}, {"a": "9"}, False),
        ({"a": {"$any": "number"}}, {"a": 1.5}, True),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"subscriptions": [1, 2]}, {"subscriptions": [2, 1]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": {"b": 1}}, {"a": 1}, False),
    ],
)
def test_what_agrees(expected: object, actual: object, does: bool) -> None:
    assert agrees(expected, actual) is does
