"""`hms-bus pub`."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import click
import msgspec

from hms_bus.abc import Expect, Receipt
from hms_bus.bus import Bus
from hms_bus.cli.bodies import parse_headers
from hms_bus.cli.commands import command
from hms_bus.cli.connecting import OTHER_BUS, load, make_bus, require_others
from hms_bus.cli.feed import Feed, Message
from hms_bus.cli.options import (
    DURATION,
    Parsed,
    bus_options,
    format_option,
    header_option,
    kind_option,
    template_option,
)
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.errors import UsageError


def _parse_expect(text: str) -> Expect:
    if text in ("any", "none"):
        return text
    if not text.isdecimal():
        raise UsageError(f"{text!r} is no expectation: write none, any, or a position")
    return int(text)


@command(
    "pub",
    examples="""
    hms-bus pub orders.created '{"id": 1}' --bus ipc://agents
    hms-bus pub orders.created '{"id": 1}' --log run.db
    hms-bus pub notes.new 'plain text' -H subject=today -H urgency:=3 --log run.db
    hms-bus pub orders.created --lines --log run.db < orders.jsonl
    hms-bus pub load.test '{"n": {{count}}}' --template --count 1000 --log run.db
    hms-bus pub files.found @picture.png --as bytes -H datacontenttype=image/png --log run.db
    """,
    endings={1: "a message could not be published"},
)
@click.argument("topic")
@click.argument("body", required=False)
@click.option("--lines", is_flag=True, help="Publish every line of stdin (or of @FILE).")
@click.option("-c", "--count", type=click.IntRange(1), default=1, help="Publish it so many times.")
@click.option("--interval", type=DURATION, help="Wait so long between messages.")
@template_option
@kind_option
@header_option
@click.option("--type", "event_type", help="The event type. [default: the topic]")
@click.option("--corr", metavar="ID", help="The conversation (correlationid).")
@click.option("--key", help="Messages with one key stay in order (partitionkey).")
@click.option("--ttl", type=DURATION, help="How long it may wait to be handled.")
@click.option(
    "--expect",
    type=Parsed("position", _parse_expect),
    default="any",
    help="Only if the topic's last position in the log is this one; `none`: if there is none.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when it worked.")
@format_option("text", "json")
@bus_options
def pub(
    *,
    event_type: str | None,
    corr: str | None,
    key: str | None,
    ttl: float | None,
    headers: tuple[str, ...],
    expect: Expect,
    quiet: bool,
    form: str,
    settings: Mapping[str, Any],
    config: str | None,
    interval: float | None,
    **what: Any,
) -> None:
    """Publish BODY on TOPIC.

    BODY is the payload itself, @FILE, or - for stdin; without one the message has no payload. What
    is JSON is sent as JSON, other text as text, the rest as octets (see --as).

    With --log the messages are appended to the log first; behind --bus ipc://NAME the hub keeps
    it, and delivers what it has committed. On a direct:// bus appending is all that can
    be done from here, for nobody outside this process can subscribe.
    """
    chosen = load(settings, config)
    feed = Feed(interval_s=interval, **what)
    feed.check()
    if chosen.log is None:
        require_others(
            chosen,
            ">",
            "publishing to",
            instead=f"add --log run.db to append to a log; {OTHER_BUS}",
        )
    if expect != "any" and (feed.lines or feed.count > 1):
        raise UsageError("--expect is for one message: leave out --lines and --count")
    flags = {"type": event_type, "correlationid": corr, "partitionkey": key, "ttl": ttl}
    options = parse_headers(headers) | {k: v for k, v in flags.items() if v is not None}
    tally = Tally(feed.topic, is_listing=form == "json")

    async def publish() -> None:
        async with make_bus(chosen) as bus, aclosing(feed.chunks()) as chunks:
            with progress("publishing", "messages") as advance:
                async for chunk in chunks:
                    tally.add(await _publish(bus, chunk, options, expect))
                    advance(tally.count, None)

    try:
        run(publish)
    finally:
        if form == "text" and not quiet and tally.count:
            click.echo(tally.summary())


async def _publish(
    bus: Bus, messages: list[Message], options: Mapping[str, Any], expect: Expect
) -> list[Receipt]:
    """Publish all at once, in order, so that a log commits them together."""
    calls = [bus.publish(topic, data, expect=expect, **options) for topic, data in messages]
    return await asyncio.gather(*calls)


class Tally:
    """What was published so far, and where it stands in the log."""

    def __init__(self, topic: str, *, is_listing: bool) -> None:
        self.count = 0
        self._topic = topic
        self._is_listing = is_listing
        self._last_id = ""
        self._first: int | None = None
        self._last: int | None = None
        self._duplicates = 0

    def add(self, receipts: list[Receipt]) -> None:
        """Count the receipts, and print them as JSON lines if that is wanted."""
        self.count += len(receipts)
        for receipt in receipts:
            self._last_id = receipt.id
            self._duplicates += receipt.duplicate
            if receipt.position is not None and not receipt.duplicate:
                self._first = self._first or receipt.position
                self._last = receipt.position
        if self._is_listing:
            sys.stdout.write("".join(msgspec.json.encode(r).decode() + "\n" for r in receipts))
            sys.stdout.flush()

    def summary(self) -> str:
        """Return one line in words."""
        what = self._last_id if self.count == 1 else f"{self.count} messages"
        text = f"published {what} on {self._topic}"
        if self._first is not None:
            is_one = self._first == self._last
            span = (
                f"position {self._first}" if is_one else f"positions {self._first} to {self._last}"
            )
            text += f" at {span}"
        if self._duplicates:
            text += f"; {self._duplicates} not appended again, the log had them"
        return text
