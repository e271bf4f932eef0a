"""The command line in a folder of its own, and a bus that its processes can share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.ipc.places import RUNTIME_DIR
from tests.support.command_line import CommandLine, relay_hub
from tests.support.hub_places import runtime_folder


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(folder=tmp_path)


@pytest.fixture
def machine(cli: CommandLine) -> Iterator[CommandLine]:
    """The command line with a runtime folder, and so hubs, of its own; HMS_BUS_URL is not set."""
    with runtime_folder() as folder:
        cli.settings[RUNTIME_DIR] = str(folder)
        yield cli


@pytest.fixture
def hub(machine: CommandLine) -> CommandLine:
    """The same with HMS_BUS_URL set to a bus whose hub the first client starts."""
    machine.settings["HMS_BUS_URL"] = "ipc://agents"
    return machine


@pytest.fixture(params=["ipc", "relay"])
def shared(request: pytest.FixtureRequest) -> Iterator[CommandLine]:
    """The command line with HMS_BUS_URL set to a bus between processes, ours or another's."""
    if request.param == "ipc":
        yield request.getfixturevalue("hub")
        return
    cli: CommandLine = request.getfixturevalue("cli")
    with relay_hub(cli.folder) as url:
        cli.settings["HMS_BUS_URL"] = url
        yield cli
