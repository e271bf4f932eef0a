"""`hms-bus graph`."""

from collections.abc import Callable
from pathlib import Path

import click

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.cli.analysis.finding import find_record, read_around
from hms_bus.cli.analysis.reading import passing
from hms_bus.cli.commands import command
from hms_bus.cli.files import write_whole
from hms_bus.cli.log.opening import open_reading
from hms_bus.cli.options import log_argument
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.errors import UsageError
from hms_bus.replay.causality import Causality

Draw = Callable[..., str]


@command(
    "graph",
    examples="""
    hms-bus graph run.db --id 17
    hms-bus graph run.db --corr 01985b2e-7a3c-7000-8000-3b6c0a7f51d2 --kind tree
    hms-bus graph run.db --id 17 --format svg -o run.svg
    hms-bus graph run.db --id 17 --format mermaid > run.mmd
    """,
)
@log_argument
@click.option("--corr", metavar="ID", help="The conversation to draw (correlationid).")
@click.option("--id", "name", metavar="ID", help="An event, by position or start of its id.")
@click.option(
    "--kind",
    type=click.Choice(["sequence", "tree"]),
    default="sequence",
    help="Who said what to whom, or what came of what. [default: sequence]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "svg"]),
    default="text",
    help="How to draw. [default: text]",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    default=200,
    help="Draw so many events at most, the first ones. [default: 200]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. [default: stdout]",
)
def graph(
    *,
    log: str | None,
    corr: str | None,
    name: str | None,
    kind: str,
    form: str,
    count: int,
    output: Path | None,
) -> None:
    """Draw a conversation in LOG, or an event with its causes and all that followed.

    A sequence shows each event on its way to those who reacted to it, that is: sent something which
    it caused; what nobody reacted to goes to (nobody). A tree shows each event below its cause.
    """
    if (corr is None) == (name is None):
        raise UsageError(
            "what is to be drawn? Name a conversation, --corr ID, or an event, --id ID"
        )

    async def read() -> tuple[str, list[Record]]:
        async with open_reading(log) as opened:
            if corr is not None:
                return f"conversation {corr}", await _conversation(opened, corr)
            assert name is not None  # noqa: S101 - one of both is given
            return await _around(opened, name)

    title, records = run(read)
    if len(records) > count:
        note(f"drawn: the first {count} of {len(records)} events; --count draws more")
        title = f"{title}: the first {count} of {len(records)} events"
        records = records[:count]
    positions = [record.position for record in records]
    picture = _draw(kind, form)(
        [record.envelope for record in records], title=title, place=positions.__getitem__
    )
    if output is None:
        click.echo(picture, nl=False)
    else:
        write_whole(output, picture.encode())
        note(f"drew {len(records)} events into {output}")


async def _conversation(log: EventLog, correlation: str) -> list[Record]:
    records = [record async for record in passing(log, Selector(correlation=correlation))]
    if not records:
        raise UsageError(
            f"no event of the log has the correlationid {correlation!r}: `hms-bus log cat LOG -v` "
            "shows them; --id takes the start of an event's id, or its position"
        )
    return records


async def _around(log: EventLog, name: str) -> tuple[str, list[Record]]:
    """Return a title, and the event with its causes and effects, in recorded order."""
    record = await find_record(log, name)
    records = await read_around(log, record, effects=True)
    causality = Causality([r.envelope for r in records])
    at = causality.find(record.envelope.id)
    assert at is not None  # noqa: S101 - it is one of them
    chosen = {*causality.chain(at), *(index for index, _ in causality.descend(at))}
    title = f"{record.envelope.topic} at {record.position}, its causes and effects"
    return title, [records[index] for index in sorted(chosen)]


def _draw(kind: str, form: str) -> Draw:
    """Import and return what draws."""
    # ruff: noqa: PLC0415 - only one of them is needed
    if form == "svg":
        from hms_bus.replay.svg import svg_sequence, svg_tree

        return svg_tree if kind == "tree" else svg_sequence
    if form == "mermaid":
        from hms_bus.replay.mermaid import mermaid_sequence, mermaid_tree

        return mermaid_tree if kind == "tree" else mermaid_sequence
    from hms_bus.replay.textpictures import text_sequence, text_tree

    return text_tree if kind == "tree" else text_sequence
