"""The hub of the transport in `tests.support.relay`, where its frames are told."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from hms_bus.topics import Pattern, parse_pattern


class Writer(Protocol):
    """Where frames are written."""

    def write(self, data: bytes, /) -> None: ...

    def is_closing(self) -> bool: ...


@dataclass(eq=False)
class _Member:
    """A subscription, as the hub knows it."""

    client: asyncio.StreamWriter
    number: int
    pattern: Pattern
    group: str | None
    answers: bool
    sent: int = 0
    taken: int = 0

    @property
    def load(self) -> int:
        """How many messages it may still be busy with."""
        return self.sent - self.taken


@dataclass(eq=False)
class _Publishing:
    """A message under way to `left` more members."""

    client: asyncio.StreamWriter
    call: int
    reached: int
    left: int
    refusal: list[Any] | None = None


class Hub:
    """Passes messages on between its clients; the idle members of a group take turns."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._members: list[_Member] = []
        self._deliveries: dict[int, tuple[_Publishing, _Member]] = {}

    async def serve(self, path: str, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Listen at `path` until `stop` is set; call `started` when it listens."""
        server = await asyncio.start_unix_server(self._talk, path, limit=2**24)
        started()
        await stop.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                verb, *rest = json.loads(line)
                getattr(self, f"_{verb}")(writer, *rest)
        except ConnectionError:
            pass
        finally:
            self._forget(writer)
            writer.close()

    def _forget(self, client: asyncio.StreamWriter) -> None:
        self._members = [member for member in self._members if member.client is not client]
        for number, (_, member) in list(self._deliveries.items()):
            if member.client is client:
                self._took(client, number, None)

    def _sub(self, client: asyncio.StreamWriter, call: int, number: int, how: list[Any]) -> None:
        pattern, group, answers = how
        self._members.append(_Member(client, number, parse_pattern(pattern), group, answers))
        send(client, ["done", call, 0, None])

    def _unsub(self, client: asyncio.StreamWriter, call: int, number: int) -> None:
        self._members = [m for m in self._members if (m.client, m.number) != (client, number)]
        send(client, ["done", call, 0, None])

    def _pub(
        self,
        client: asyncio.StreamWriter,
        call: int,
        address: str,
        reply_to: str | None,
        document: str,
    ) -> None:
        chosen = self._choose(address)
        if reply_to is not None and not any(member.answers for member in chosen):
            chosen = []
        publishing = _Publishing(client, call, len(chosen), len(chosen))
        for member in chosen:
            number = next(self._numbers)
            self._deliveries[number] = publishing, member
            member.sent += 1
            send(member.client, ["msg", number, member.number, reply_to, document])
        self._end_if_taken(publishing)

    def _choose(self, address: str) -> list[_Member]:
        groups: dict[object, list[_Member]] = {}
        for member in self._members:
            if member.pattern.matches(address):
                key = member if member.group is None else (member.pattern.plain, member.group)
                groups.setdefault(key, []).append(member)
        turn = next(self._numbers)
        return [_least_busy(members, turn) for members in groups.values()]

    def _took(self, client: asyncio.StreamWriter, number: int, refusal: list[Any] | None) -> None:
        publishing, member = self._deliveries.pop(number)
        publishing.left -= 1
        if refusal is not None:
            publishing.refusal = refusal
            member.sent -= 1
        self._end_if_taken(publishing)

    def _idle(self, client: asyncio.StreamWriter, number: int, taken: int) -> None:
        for member in self._members:
            if (member.client, member.number) == (client, number):
                member.taken = taken

    def _end_if_taken(self, publishing: _Publishing) -> None:
        if publishing.left == 0:
            done = ["done", publishing.call, publishing.reached, publishing.refusal]
            send(publishing.client, done)


def _least_busy(members: list[_Member], turn: int) -> _Member:
    first = turn % len(members)
    return min(members[first:] + members[:first], key=lambda member: member.load)


def send(writer: Writer, frame: list[Any]) -> None:
    """Write a frame, unless the connection has ended."""
    if not writer.is_closing():
        writer.write(json.dumps(frame).encode() + b"\n")
