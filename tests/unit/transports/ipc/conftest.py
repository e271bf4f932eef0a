"""A runtime folder for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_places import runtime_folder


@pytest.fixture
def runtime() -> Iterator[Path]:
    with runtime_folder() as folder:
        yield folder
