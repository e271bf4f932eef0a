"""Installs the broken transports, logs and codecs as plug-ins."""

import sys
from collections.abc import Iterator

import pytest

from hms_bus import plugins
from tests.support import broken_codecs
from tests.support.plugins import install_plugins

CODECS = [kind.__name__ for kind in broken_codecs.KINDS]


@pytest.fixture(scope="module")
def broken_plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make `broken:` a scheme of transports and logs, and each broken codec a codec."""
    folder = tmp_path_factory.mktemp("plugins")
    install_plugins(
        folder,
        {
            "hms_bus.transports": {"broken": "tests.support.broken_transports:open_broken"},
            "hms_bus.logs": {
                "broken": "tests.support.broken_logs:open_broken",
                "broken-durables": "tests.support.broken_durables:open_broken_durables",
            },
            "hms_bus.codecs": {name: f"tests.support.broken_codecs:{name}" for name in CODECS},
        },
    )
    sys.path.append(str(folder))
    # Found once per process, and here no event loop is running that the disk could hold up.
    plugins.find("transports", "broken")
    plugins.find("logs", "broken")
    plugins.find("logs", "broken-durables")
    for name in CODECS:
        plugins.find("codecs", name)
    yield
    sys.path.remove(str(folder))
