"""The tables of commands say what the commands themselves say."""

import importlib

import click
import pytest

from hms_bus.cli.app import COMMANDS, cli
from hms_bus.cli.log.group import COMMANDS as LOG_COMMANDS


@pytest.mark.parametrize(("name", "target"), [*COMMANDS.items(), *LOG_COMMANDS.items()])
def test_every_listed_command_exists_under_its_name(name: str, target: tuple[str, str]) -> None:
    module, _, attribute = target[0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    assert command.name == name
    assert command.help
    assert target[1].endswith(".")


def test_every_option_is_explained() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts}"
