"""The tables of commands say what the commands themselves say."""

import importlib
from collections.abc import Iterator

import click
import pytest

from hms_bus.cli.app import COMMANDS, cli
from hms_bus.cli.dlq.group import COMMANDS as DLQ_COMMANDS
from hms_bus.cli.durable.group import COMMANDS as DURABLE_COMMANDS
from hms_bus.cli.hub.group import COMMANDS as HUB_COMMANDS
from hms_bus.cli.log.group import COMMANDS as LOG_COMMANDS


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *COMMANDS.items(),
        *DLQ_COMMANDS.items(),
        *DURABLE_COMMANDS.items(),
        *HUB_COMMANDS.items(),
        *LOG_COMMANDS.items(),
    ],
)
def test_every_listed_command_exists_under_its_name(name: str, target: tuple[str, str]) -> None:
    module, _, attribute = target[0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    assert command.name == name
    assert command.help
    assert target[1].endswith(".")


def test_every_option_is_explained() -> None:
    for command in _commands(cli):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{command.name} {parameter.opts}"


def _commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from _commands(command)
