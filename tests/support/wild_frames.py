"""Frames as nobody should send them, by chance but from a seed: mutated sessions and made-up ones.

What comes out is a list of pieces, which are mostly whole frames; joined they are what is sent.
"""

import json
import random
import re
from collections.abc import Callable, Sequence

from hms_bus.ipc import durables, frames
from hms_bus.ipc.durables import OUTCOMES
from tests.support import raw_client as raw
from tests.support.ipc_vectors import load_frames, load_refused_streams, load_sessions

Pieces = list[bytes]

_LENGTH = 4
_NUMBERS = (0, 1, 2, 7, 255, 256, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_JSON_VALUES = (
    "null",
    "0",
    "-1",
    "1e9",
    "18446744073709551616",
    '""',
    '"\\ud800"',
    "[]",
    "{}",
    "true",
)
_TEXTS = ("", ">", "*", "$", "a..b", ".", "$inbox.1", "\x00", "ä", "x" * 300, "fuzz.>", "fuzz.{n}")
_MEMBER = re.compile(rb'(:)("[^"]*"|-?[0-9.]+|true|false|null|\[[^\[\]]*\])')

SESSIONS: dict[str, list[Pieces]] = {"client": [], "hub": []}
"""By who says it: the frames of each connection of spec/vectors/ipc-sessions.json, in order."""
for session in load_sessions():
    for connection in sorted({step.connection for step in session.steps}):
        for sender, sessions in SESSIONS.items():
            said = [
                step.stream
                for step in session.steps
                if (step.connection, step.sender) == (connection, sender) and step.stream
            ]
            if said:
                sessions.append(said)

FRAMES = {
    # A hub that is asked to end does so.
    sender: [f.stream for f in load_frames() if f.sender == sender and b'"stop"' not in f.stream]
    for sender in SESSIONS
}
REFUSED = {
    sender: [
        each.stream
        for each in load_refused_streams()
        if each.sender == sender and len(each.stream) < 5000
    ]
    for sender in SESSIONS
}
GREETINGS = {sender: sessions[0][0] for sender, sessions in SESSIONS.items()}
"""What opens a connection: the HELLO of a client, the WELCOME of a hub."""


class Wild:
    """Makes up what one end of a connection (`client` or `hub`) might say at its worst.

    `greeting` is what it says first where it means well.
    """

    def __init__(self, sender: str, chance: random.Random, greeting: bytes | None = None) -> None:
        self.chance = chance
        self._sender = sender
        self._greeting = greeting or GREETINGS[sender]
        self._mutations: Sequence[Callable[[Pieces], None]] = (
            self._flip,
            self._flip,
            self._overwrite_number,
            self._overwrite_number,
            self._overwrite_member,
            self._overwrite_member,
            self._grow,
            self._shrink,
            self._lie_about_length,
            self._drop,
            self._double,
            self._swap,
            self._splice,
            self._insert_vector,
            self._insert_refused,
            self._insert_noise,
            self._cut,
        )

    def session(self) -> Pieces:
        """Return what is said in one connection: a mutated session, a made-up one, or noise."""
        match self.chance.choices(("mutated", "made up", "both", "noise"), (5, 4, 3, 1))[0]:
            case "mutated":
                return self.mutated(list(self.chance.choice(SESSIONS[self._sender])))
            case "made up":
                return self.made_up()
            case "both":
                return self.mutated(self.made_up())
            case _:
                return [self.chance.randbytes(self.chance.randrange(1, 300))]

    def mutated(self, pieces: Pieces) -> Pieces:
        """Return the pieces with a few faults in them."""
        for _ in range(self.chance.choice((1, 1, 2, 5))):
            self.chance.choice(self._mutations)(pieces)
            if not pieces:
                return [b"\0"]
        return pieces

    def made_up(self) -> Pieces:
        """Return a greeting, and frames of any kind that hold together, in any order."""
        make = self._client_frame if self._sender == "client" else self._hub_frame
        return [
            self._greeting,
            *(make() for _ in range(self.chance.choice((1, 5, 20, 100)))),
        ]

    # -- faults --------------------------------------------------------------------------------

    def _place(self, pieces: Pieces) -> int:
        return self.chance.randrange(len(pieces))

    def _flip(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        piece = bytearray(pieces[place])
        if len(piece) > _LENGTH:
            for _ in range(self.chance.choice((1, 1, 1, 8))):
                at = self.chance.randrange(_LENGTH, len(piece))
                piece[at] ^= 1 << self.chance.randrange(8)
        pieces[place] = bytes(piece)

    def _overwrite_number(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        piece = bytearray(pieces[place])
        if len(piece) > _LENGTH + 5:
            at = self.chance.randrange(_LENGTH + 1, len(piece) - 3)
            piece[at : at + 4] = self.chance.choice(_NUMBERS).to_bytes(4, "big")
        pieces[place] = bytes(piece)

    def _overwrite_member(self, pieces: Pieces) -> None:
        """Write another value into the JSON of a frame."""
        place = self._place(pieces)
        head, content = pieces[place][: _LENGTH + 1], pieces[place][_LENGTH + 1 :]
        members = list(_MEMBER.finditer(content))
        if members:
            found = self.chance.choice(members)
            value = self.chance.choice((*_JSON_VALUES, json.dumps(self.chance.choice(_TEXTS))))
            content = content[: found.start(2)] + value.encode() + content[found.end(2) :]
            pieces[place] = frames.frame(head[_LENGTH], content)

    def _grow(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        content = pieces[place][_LENGTH:]
        at = self.chance.randrange(len(content) + 1)
        more = self.chance.randbytes(self.chance.choice((1, 2, 4, 100)))
        pieces[place] = _framed(content[:at] + more + content[at:])

    def _shrink(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        content = pieces[place][_LENGTH:]
        at = self.chance.randrange(len(content) + 1)
        pieces[place] = _framed(content[:at] + content[at + self.chance.choice((1, 2, 4, 100)) :])

    def _lie_about_length(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        length = max(0, len(pieces[place]) - _LENGTH + self.chance.choice((-5, -1, 1, 5)))
        length = self.chance.choice((length, length, self.chance.choice(_NUMBERS)))
        pieces[place] = length.to_bytes(4, "big") + pieces[place][_LENGTH:]

    def _drop(self, pieces: Pieces) -> None:
        del pieces[self._place(pieces)]

    def _double(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        pieces[place:place] = [pieces[place]] * self.chance.choice((1, 1, 50))

    def _swap(self, pieces: Pieces) -> None:
        one, other = self._place(pieces), self._place(pieces)
        pieces[one], pieces[other] = pieces[other], pieces[one]

    def _splice(self, pieces: Pieces) -> None:
        other = self.chance.choice(SESSIONS[self._sender])
        pieces[self._place(pieces) :] = other[self.chance.randrange(len(other)) :]

    def _insert_vector(self, pieces: Pieces) -> None:
        pieces.insert(self._place(pieces) + 1, self.chance.choice(FRAMES[self._sender]))

    def _insert_refused(self, pieces: Pieces) -> None:
        pieces.insert(self._place(pieces) + 1, self.chance.choice(REFUSED[self._sender]))

    def _insert_noise(self, pieces: Pieces) -> None:
        pieces.insert(self._place(pieces) + 1, self._noise())

    def _cut(self, pieces: Pieces) -> None:
        place = self._place(pieces)
        pieces[place:] = [pieces[place][: self.chance.randrange(len(pieces[place]) + 1)]]

    # -- frames --------------------------------------------------------------------------------

    def _noise(self) -> bytes:
        """Return a frame of any kind with anything in it."""
        kind = self.chance.choice((self.chance.randrange(256), self.chance.randrange(0x42)))
        return frames.frame(kind, self.chance.randbytes(self.chance.choice((0, 1, 5, 9, 13, 60))))

    def _u32(self) -> int:
        return self.chance.choice((*range(1, 6), *range(1, 6), *_NUMBERS))

    def _pattern(self) -> str:
        usual = ("fuzz.>", "fuzz.*", "fuzz.a", "$inbox.1")
        return self.chance.choice((*usual, *usual, *_TEXTS))

    def _address(self) -> str:
        usual = ("fuzz.a", "fuzz.b", "$inbox.1")
        return self.chance.choice((*usual, *usual, *usual, self.chance.choice(_TEXTS), "x"))

    def _documents(self, address: str) -> list[bytes]:
        event = {"specversion": "1.0", "id": f"{self._u32()}", "source": "/fuzz", "type": "t"}
        good = json.dumps(event | {"topic": address}).encode()
        other = self.chance.choice((good, b"{}", b"{", b"x" * 1000, json.dumps(event).encode()))
        return [self.chance.choice((good, good, other))] * self.chance.choice((1, 1, 3, 40))

    def _block(self) -> bytes:
        address = self._address()
        reply_to = self.chance.choice(("", "", "$inbox.1", self._address()))
        return raw.messages(address, *self._documents(address), reply_to=reply_to)

    def _client_frame(self) -> bytes:
        return self.chance.choice(self._client_kinds)()

    def _hub_frame(self) -> bytes:
        return self.chance.choice(self._hub_kinds)()

    @property
    def _client_kinds(self) -> Sequence[Callable[[], bytes]]:
        u32, chance = self._u32, self.chance
        return (
            *[self._subscribe] * 3,
            lambda: frames.frame(frames.PUBLISH, self._block()),
            *[lambda: frames.call_frame(frames.CALL, u32(), self._block())] * 3,
            *[self._append] * 2,
            lambda: raw.credit(u32(), u32(), u32()),
            lambda: raw.unsubscribe(u32(), u32()),
            self._read,
            *[self._consume] * 2,
            lambda: raw.fetch(u32(), u32(), consumer=u32()),
            lambda: raw.settle(u32(), (u32(), u32(), chance.choice(OUTCOMES)), consumer=u32()),
            lambda: raw.release(u32(), chance.choice((0, 1, 255)), consumer=u32()),
            lambda: chance.choice((raw.stop(u32()), raw.more(u32(), u32()))),
            lambda: raw.ask(u32(), chance.choice(("head", "verify", "status", "", "morse"))),
            lambda: raw.ask(u32(), chance.choice(("durables", "forget")), name="d"),
            lambda: raw.ask(u32(), "redrive", name="d", positions=[u32()]),
            lambda: frames.verdict(u32(), chance.choice((None, b"{}", b'{"code":"X"}', b"["))),
            lambda: frames.frame(frames.FORGET, chance.choice((b"", b"fuzz.a", b"\xff"))),
            lambda: chance.choice((raw.PING, frames.frame(frames.PONG, b"12345678"))),
            lambda: chance.choice(FRAMES["client"]),
            self._noise,
        )

    @property
    def _hub_kinds(self) -> Sequence[Callable[[], bytes]]:
        u32, chance = self._u32, self.chance
        failures = (b"{}", b"[", b'{"code":"X","message":"","details":{}}')
        return (
            *[self._deliver] * 3,
            lambda: frames.offer(u32(), [u32()], self._block()),
            lambda: frames.returned(chance.choice((0, 1, 2, 255)), self._block()),
            lambda: frames.done(u32(), u32()),
            lambda: frames.call_frame(frames.FAILED, u32(), chance.choice(failures)),
            lambda: frames.window(u32(), self._address().encode()),
            lambda: frames.frame(frames.GONE, self._address().encode()),
            lambda: frames.receipts([(u32(), u32(), chance.choice((0, 1, 2, 3)))]),
            lambda: frames.records(u32(), [(u32(), u32(), each) for each in self._documents("x")]),
            lambda: frames.call_frame(frames.END, u32()),
            self._deliveries,
            lambda: frames.answer(u32(), chance.choice((b"{}", b"[", b"3")), more=u32() % 2 == 0),
            lambda: chance.choice((raw.PING, frames.frame(frames.PING, b"1"), raw.bye())),
            lambda: chance.choice(FRAMES["hub"]),
            self._noise,
        )

    def _subscribe(self) -> bytes:
        return raw.subscribe(
            self._u32(),
            self._pattern(),
            subscription=self._u32(),
            overflow=self.chance.choice(("block", "drop_oldest", "drop_newest", "error")),
            credit=self._u32(),
            answers=self.chance.choice((True, False)),
            group=self.chance.choice((None, None, "g", "")),
        )

    def _append(self) -> bytes:
        expect = self.chance.choice((-1, -1, -1, 0, 1, -2, 2**63 - 1))
        blocks = [self._block() for _ in range(self.chance.choice((1, 1, 3)))]
        return frames.append(self._u32(), self.chance.choice((0, 1, 255)), expect, blocks)

    def _deliver(self) -> bytes:
        numbers = [self._u32() for _ in range(self.chance.choice((1, 1, 2, 0)))]
        return _framed(frames.deliver_head(numbers) + self._block())

    def _consume(self) -> bytes:
        members = {
            "name": self.chance.choice(("d", "e", *_TEXTS)),
            "group": self.chance.choice(("g", "")),
            "start": self.chance.choice(("beginning", "end", 7)),
            "start_ns": self._u32(),
            "ack_wait_s": self.chance.choice((0.001, 30, 1e9)),
            "max_deliveries": self._u32(),
            "max_unacked": self._u32() or 1,
            "codec": self.chance.choice(("json", "cbor", "morse")),
        }
        chosen = self.chance.sample(sorted(members), self.chance.randrange(4))
        more = {name: members[name] for name in chosen}
        return raw.consume(self._u32(), self._pattern(), consumer=self._u32(), **more)

    def _deliveries(self) -> bytes:
        entries = [(self._u32(), self._u32(), self._u32(), each) for each in self._documents("x")]
        more = self.chance.choice((True, False, False))
        return durables.deliveries(self._u32(), entries, more=more)

    def _read(self) -> bytes:
        members = {
            "pattern": self._pattern(),
            "first": self._u32(),
            "last": self._u32(),
            "since_ns": self._u32(),
            "types": ["t"],
            "source": "/fuzz",
            "backwards": self.chance.choice((True, False)),
            "limit": self._u32(),
            "follow": self.chance.choice((True, False)),
            "codec": self.chance.choice(("json", "cbor", "protobuf", "morse")),
            "credit": self._u32(),
        }
        chosen = self.chance.sample(sorted(members), self.chance.randrange(4))
        return raw.read(self._u32(), **{name: members[name] for name in chosen})


def _framed(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content
