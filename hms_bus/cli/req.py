"""`hms-bus req`."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from hms_bus.bus import Reply
from hms_bus.cli.bodies import Kind, parse_headers, read_body, to_payload
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.connecting import OTHER_BUS, load, make_bus, require_others
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.options import (
    DURATION,
    TOPIC,
    bus_options,
    format_option,
    header_option,
    kind_option,
)
from hms_bus.cli.records import escape, highlight, value_text
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.errors import UsageError


@command(
    "req",
    examples="""
    hms-bus req quotes.get '{"symbol": "HMS"}' --timeout 2s --bus ipc://agents
    hms-bus req status.get --replies 3 --bus ipc://agents
    hms-bus req files.list '"/srv"' --stream --bus ipc://agents | head -3
    """,
    endings={1: "no answer, or an error as the answer"},
)
@click.argument("topic", type=TOPIC)
@click.argument("body", required=False)
@click.option("--timeout", type=DURATION, help="How long to wait. [default: 5s]")
@click.option(
    "--replies",
    type=click.IntRange(0),
    help="Ask everyone and print so many answers; 0: all that come in time.",
)
@click.option("--stream", is_flag=True, help="Print an answer of many items as they come.")
@kind_option
@header_option
@click.option("--raw", is_flag=True, help="Print octets as they are.")
@format_option("text", "json")
@bus_options
def req(
    *,
    topic: str,
    body: str | None,
    timeout: float | None,
    replies: int | None,
    stream: bool,
    kind: Kind,
    headers: tuple[str, ...],
    raw: bool,
    form: str,
    settings: Mapping[str, Any],
    config: str | None,
) -> int:
    """Ask on TOPIC and print the answer's payload.

    BODY is the payload itself, @FILE, or - for stdin. Without --replies or --stream one agent is
    asked. When nobody serves the topic that is said at once.

    It needs a bus that other processes can join, such as --bus ipc://agents: direct:// stays within
    one process.
    """
    if stream and replies is not None:
        raise UsageError("--stream asks one agent, --replies asks all: choose one")
    chosen = load(settings, config)
    require_others(chosen, topic, "asking an agent in", instead=f"ask from inside it; {OTHER_BUS}")
    data = to_payload(read_body(body), kind)
    options: dict[str, Any] = {**parse_headers(headers), "timeout": timeout}
    answers = Answers(raw=raw, form=form)

    async def ask() -> int:
        async with make_bus(chosen) as bus:
            if stream:
                async with bus.request_stream(topic, data, **options) as items:
                    async for item in items:
                        answers.show(item)
                return OK
            if replies is not None:
                found = await bus.request_many(topic, data, count=replies or None, **options)
                return answers.show_replies(found, wanted=max(replies, 1))
            answers.show(await bus.request(topic, data, **options))
            return OK

    return run(ask)


class Answers:
    """Prints answers on stdout, each as soon as it is there."""

    def __init__(self, *, raw: bool, form: str) -> None:
        self._is_raw = raw
        self._is_json = form == "json"
        self._is_coloured = is_coloured(sys.stdout)

    def show(self, value: Any) -> None:
        """Print one payload: octets as their number unless raw, text as text, the rest as JSON."""
        if isinstance(value, bytes):
            self._show_octets(value)
        elif self._is_json or not isinstance(value, str):
            self._line(highlight(_json(value)) if self._is_coloured else _json(value))
        elif self._is_coloured:
            self._line("\n".join(map(escape, value.split("\n"))))
        else:
            self._line(value)

    def show_replies(self, replies: Sequence[Reply[Any]], *, wanted: int) -> int:
        """Print each of several answers with its sender; return the exit status.

        Errors among them, or fewer than `wanted`, are a negative result.
        """
        for reply in replies:
            self._show_reply(reply)
        if len(replies) < wanted:
            note(f"{len(replies)} of {wanted} answers came in time")
        failed = len(replies) < wanted or any(reply.error for reply in replies)
        return NEGATIVE if failed else OK

    def _show_reply(self, reply: Reply[Any]) -> None:
        error = reply.error
        if self._is_json:
            told = None if error is None else {"code": error.code, "message": error.message}
            self._line(_json({"source": reply.source, "value": reply.value, "error": told}))
        elif error is not None:
            self._line(f"{reply.source}\terror: {error.code}: {escape(error.message)}")
        else:
            self._line(f"{reply.source}\t{escape(value_text(reply.value))}")

    def _show_octets(self, octets: bytes) -> None:
        if self._is_raw:
            sys.stdout.buffer.write(octets)
            sys.stdout.buffer.flush()
        elif self._is_json:
            self._line(_json(octets))
        else:
            self._line(f"<{len(octets)} bytes: --raw writes them>")

    @staticmethod
    def _line(text: str) -> None:
        click.echo(text)


def _json(value: Any) -> str:
    """Return JSON; octets become base64 text, as CloudEvents has it."""
    return msgspec.json.encode(value).decode()
