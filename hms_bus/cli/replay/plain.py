"""A replay without a terminal: a line for each record and each output."""

import click

from hms_bus.abc import Record
from hms_bus.cli.records import payload_text
from hms_bus.cli.replay.breaking import Break
from hms_bus.cli.screen import note
from hms_bus.envelope import Envelope
from hms_bus.ids import format_time
from hms_bus.replay.rerunning import Rerun


async def play_plain(rerun: Rerun, *, breaks: Break | None, shows: bool) -> bool:
    """Play to the end, or to a record at which it `breaks`: nobody could let it go on.

    Returns whether it broke off. With `shows` each record that an agent gets is printed, and what
    they say.
    """
    if breaks is None and not shows:
        await rerun.play()
        return False
    while upcoming := await rerun.stage.upcoming():
        if breaks is not None and breaks(upcoming[0]):
            note(f"ended before position {upcoming[0].position}: --break holds")
            return True
        before = rerun.stage.played
        record = await rerun.step()
        outputs = rerun.take_outputs()
        if shows and record is not None and (outputs or rerun.stage.played > before):
            click.echo("\n".join([line_in(record), *map(line_out, outputs)]))
    return False


def line_in(record: Record) -> str:
    """Return the line that tells of a record."""
    envelope = record.envelope
    time = format_time(record.recorded_ns)
    return "\t".join(
        ("in", str(record.position), time, envelope.topic, envelope.source, payload_text(envelope))
    )


def line_out(envelope: Envelope) -> str:
    """Return the line that tells of an output."""
    return "\t".join(
        ("out", "-", envelope.time or "-", envelope.topic, envelope.source, payload_text(envelope))
    )
