"""The group `hms-bus dlq`."""

import click

from hms_bus.cli.commands import LazyGroup

COMMANDS = {
    "ls": ("hms_bus.cli.dlq.ls:ls", "List what is dead, and why."),
    "show": ("hms_bus.cli.dlq.show:show", "Show a dead letter with the original."),
    "redrive": ("hms_bus.cli.dlq.redrive:redrive", "Let them be delivered again."),
}


@click.group(
    "dlq",
    cls=LazyGroup,
    lazy=COMMANDS,
    help="""Look at dead letters, and deliver them again.

    A record that a durable subscription has tried in vain, too often or once for all, becomes a
    dead letter: a record on the topic `$dlq.NAME` with the original and the reason. It is open
    until it is redriven, or the durable removed.

    A log is named as for `hms-bus durable`. `redrive` changes it: where another process is
    writing, it goes through the hub (--bus ipc://NAME).
    """,
    examples="""
    hms-bus dlq ls run.db
    hms-bus dlq show 17 run.db
    hms-bus dlq redrive billing run.db --code UNAVAILABLE
    """,
)
def dlq() -> None:
    """Hold the commands; they are in the modules beside this one."""
