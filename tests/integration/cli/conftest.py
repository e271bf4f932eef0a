"""The command line in a folder of its own, and a bus that its processes can share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, relay_hub


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(folder=tmp_path)


@pytest.fixture
def shared(cli: CommandLine) -> Iterator[CommandLine]:
    """The command line with HMS_BUS_URL set to a bus between processes."""
    with relay_hub(cli.folder) as url:
        cli.settings["HMS_BUS_URL"] = url
        yield cli
