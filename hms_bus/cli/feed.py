"""The messages that `hms-bus pub` sends: one body so many times, or every line of a file."""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

from msgspec import Struct

from hms_bus.cli.bodies import Kind, fill, read_body, to_payload
from hms_bus.cli.lines import read_lines
from hms_bus.errors import UsageError
from hms_bus.topics import check_topic

Message = tuple[str, Any]
"""A topic and a payload."""

CHUNK = 4096
_STDIN = 0


class Feed(Struct, frozen=True, kw_only=True):
    """What to send; `body` is as in `bodies.read_body`.

    With `lines` every line is a message, without it the whole body, `count` times, `interval_s`
    apart. With `template` topic and body are filled anew for each.
    """

    topic: str
    body: str | None
    kind: Kind
    template: bool
    lines: bool
    count: int
    interval_s: float | None

    def check(self) -> None:
        """Raise `UsageError` or `TopicError` for what cannot be sent."""
        check_topic(fill(self.topic.encode(), 1).decode() if self.template else self.topic)
        if self.lines and not _names_file(self.body):
            raise UsageError("--lines reads stdin (-) or a file (@FILE), not the BODY itself")

    def chunks(self) -> AsyncGenerator[list[Message]]:
        """Yield the messages in order, in lists of those that can be sent at once. May block."""
        return self._each_line() if self.lines else self._repeated(read_body(self.body))

    async def _each_line(self) -> AsyncGenerator[list[Message]]:
        path = (self.body or "-").removeprefix("@")
        descriptor = _STDIN if path == "-" else os.open(path, os.O_RDONLY)
        number = 0
        try:
            async for lines in read_lines(descriptor):
                for start in range(0, len(lines), CHUNK):
                    some = lines[start : start + CHUNK]
                    yield [self._message(body, number + i) for i, body in enumerate(some, 1)]
                    number += len(some)
        finally:
            if descriptor != _STDIN:
                os.close(descriptor)

    async def _repeated(self, body: bytes | None) -> AsyncGenerator[list[Message]]:
        at_once = 1 if self.interval_s else CHUNK
        for first in range(1, self.count + 1, at_once):
            if self.interval_s and first > 1:
                await asyncio.sleep(self.interval_s)
            numbers = range(first, min(first + at_once, self.count + 1))
            yield [self._message(body, number) for number in numbers]

    def _message(self, body: bytes | None, number: int) -> Message:
        topic = self.topic
        if self.template:
            topic = fill(topic.encode(), number).decode()
            body = None if body is None else fill(body, number)
        return topic, to_payload(body, self.kind)


def _names_file(body: str | None) -> bool:
    return body in (None, "-") or (body.startswith("@") and not body.startswith("@@"))
