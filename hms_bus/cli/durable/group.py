"""The group `hms-bus durable`."""

import click

from hms_bus.cli.commands import LazyGroup

COMMANDS = {
    "ls": ("hms_bus.cli.durable.survey:ls", "List them: how far they are, what is behind."),
    "show": ("hms_bus.cli.durable.survey:show", "Tell all that is known of one."),
    "rm": ("hms_bus.cli.durable.rm:rm", "Remove one with its cursor."),
}


@click.group(
    "durable",
    cls=LazyGroup,
    lazy=COMMANDS,
    help="""Look at the durable subscriptions of a log, remove them.

    A log is named by its file (run.db) or URL, or by the bus whose hub keeps it (--bus ipc://NAME);
    without a name it is the one of the configuration. `ls` and `show` read a file also while
    another process is writing; `rm` then goes through the hub.
    """,
    examples="""
    hms-bus durable ls run.db
    hms-bus durable show billing --bus ipc://agents
    hms-bus durable rm billing run.db
    """,
)
def durable() -> None:
    """Hold the commands; they are in the modules beside this one."""
