"""The group `hms-bus log`."""

import click

from hms_bus.cli.commands import LazyGroup

COMMANDS = {
    "ls": ("hms_bus.cli.log.survey:ls", "List the topics."),
    "cat": ("hms_bus.cli.log.cat:cat", "Print records."),
    "info": ("hms_bus.cli.log.survey:info", "Tell size, span, sources and types."),
    "tail": ("hms_bus.cli.log.cat:tail", "Print the last records, and follow."),
    "verify": ("hms_bus.cli.log.verify:verify", "Check the hash chain."),
    "export": ("hms_bus.cli.log.transfer:export", "Write records as JSON lines."),
    "import": ("hms_bus.cli.log.transfer:import_", "Append JSON lines to a log."),
}


@click.group(
    "log",
    cls=LazyGroup,
    lazy=COMMANDS,
    help="""Look into a log, check it, copy it.

    A log is named by its file (run.db) or URL (sqlite:run.db); without a name it is the one of the
    configuration (HMS_BUS_LOG, hms-bus.toml). Only `import` writes. All others may be used while
    another process is writing.
    """,
    examples="""
    hms-bus log ls run.db
    hms-bus log cat run.db --topic 'orders.>' --since 1h --format json
    hms-bus log tail -f run.db
    hms-bus log verify run.db --head run.head
    """,
)
def log() -> None:
    """Hold the commands; they are in the modules beside this one."""
