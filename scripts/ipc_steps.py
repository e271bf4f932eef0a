"""What the conversations of spec/vectors/ipc-sessions.json are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipc_frame_cases import HELLO, WELCOME, Content


def any_(kind: str, example: Any, name: str | None = None) -> dict[str, Any]:
    """Return the mark of a value that the hub chooses, with the value that stands in the bytes."""
    return {"$any": kind, "example": example, **({"as": name} if name else {})}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One frame, sent by a client or the hub over one of the session's connections.

    `octets` are those of a frame that has no kind with a content; `closes` stands for the end of
    the connection, `put` for the offset of values that the hub has chosen before.
    """

    connection: str
    sender: str
    kind: str = ""
    content: Content = field(default_factory=dict[str, Any])
    octets: bytes | None = None
    closes: bool = False
    put: Mapping[str, int] = field(default_factory=dict[str, int])
    needs_window: int = 0


@dataclass(frozen=True, kw_only=True)
class Session:
    """A conversation with a hub that has `log` (empty at the beginning), or asks for `tokens`."""

    name: str
    description: str
    steps: Sequence[Step]
    log: bool = False
    tokens: bool = False


class Side:
    """One connection of a session; its methods make steps."""

    def __init__(self, name: str = "client", *, number: int = 1, **hello: Any) -> None:
        self.name = name
        self._number = number
        self._hello = {**HELLO, "client": {"name": name}, **hello}

    def says(self, kind: str, **content: Any) -> Step:
        """Send a frame."""
        return Step(connection=self.name, sender="client", kind=kind, content=content)

    def hears(self, kind: str, **content: Any) -> Step:
        """Get a frame."""
        return Step(connection=self.name, sender="hub", kind=kind, content=content)

    def is_closed(self) -> Step:
        """Find the connection ended."""
        return Step(connection=self.name, sender="hub", closes=True)

    def hello(self) -> Step:
        """Say who it is."""
        return self.says("HELLO", json=self._hello)

    def opens(self, *, log: bool = False) -> list[Step]:
        """Open the connection."""
        return [self.hello(), self.hears("WELCOME", json=welcome(self._number, log=log))]

    def subscribes(self, number: int, pattern: str, call: int = 1, **options: Any) -> list[Step]:
        """Subscribe."""
        members = {"subscription": number, "pattern": pattern, **options}
        return [
            self.says("SUBSCRIBE", call=call, json=members),
            self.hears("DONE", call=call, window=0),
        ]

    def calls(self, call: int, messages: Content) -> Step:
        """Publish, and wait for an answer."""
        return self.says("CALL", call=call, messages=messages)

    def is_done(self, call: int, window: int = 0) -> Step:
        """Hear that a call is done."""
        return self.hears("DONE", call=call, window=any_("integer", window))

    def gets(self, messages: Content, *subscriptions: int) -> Step:
        """Get messages."""
        return self.hears("DELIVER", subscriptions=list(subscriptions), messages=messages)

    def is_still_there(self) -> list[Step]:
        """Show that nothing else has come, and that the connection lives."""
        spelled = "00000000000000ff"
        return [self.says("PING", bytes=spelled), self.hears("PONG", bytes=spelled)]

    def leaves(self) -> list[Step]:
        """Say good-bye."""
        return [self.says("BYE", json={}), self.hears("BYE", json={}), self.is_closed()]

    def fails(self, call: int, code: str, reason: str, **details: Any) -> Step:
        """Hear that a call failed."""
        return self.hears("FAILED", call=call, json=failure(code, reason, details))

    def is_refused(self, code: str, reason: str, **details: Any) -> list[Step]:
        """Hear why the connection ends."""
        return [self.hears("ERROR", json=failure(code, reason, details)), self.is_closed()]


def failure(code: str, reason: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a hub says of an error, in words of its own."""
    text = any_("text", f"refused: {reason}")
    return {
        "code": code,
        "message": text,
        "reason": reason,
        **({"details": details} if details else {}),
    }


def welcome(number: int, *, log: bool) -> dict[str, Any]:
    """Return what any hub says of itself."""
    hub, limits = WELCOME["hub"], WELCOME["limits"]
    kinds = {"name": "text", "version": "text", "instance": "text"}
    info: dict[str, Any] = {
        "url": any_("text", "memory:"),
        "identity": any_("text", "memory:#019c1373"),
        "capabilities": any_("array", ["log-batch", "log-dedup", "log-expect", "log-follow"]),
    }
    return {
        "protocol": 1,
        "envelope": "1.0",
        "codecs": any_("array", WELCOME["codecs"]),
        "hub": {name: any_(kinds.get(name, "integer"), value) for name, value in hub.items()},
        "client": any_("integer", number),
        "limits": {
            name: any_("number" if name == "heartbeat_s" else "integer", value)
            for name, value in limits.items()
        },
        "log": info if log else None,
    }
