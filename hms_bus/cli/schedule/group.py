"""The group `hms-bus schedule`."""

import click

from hms_bus.cli.commands import LazyGroup

COMMANDS = {
    "ls": ("hms_bus.cli.schedule.survey:ls", "List what is sent when."),
    "rm": ("hms_bus.cli.schedule.rm:rm", "End one before it is sent."),
}


@click.group(
    "schedule",
    cls=LazyGroup,
    lazy=COMMANDS,
    help="""Look at the messages that a log keeps for later, end them.

    They are those of publish(…, delay=…) and bus.schedule(…). A log is named by its file (run.db)
    or URL, or by the bus whose hub keeps it (--bus ipc://NAME); without a name it is the one of
    the configuration. `ls` reads a file also while another process is writing; `rm` then goes
    through the hub.
    """,
    examples="""
    hms-bus schedule ls run.db
    hms-bus schedule ls --bus ipc://agents
    hms-bus schedule rm tea run.db
    """,
)
def schedule() -> None:
    """Hold the commands; they are in the modules beside this one."""
