"""What a log file's URL says."""

from pathlib import Path

import pytest

from hms_bus.errors import ConfigError
from hms_bus.log.settings import Settings, parse_settings
from hms_bus.plugins import parse_address


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("sqlite:run.db", Settings(path=Path("run.db"))),
        ("sqlite:/var/run.db", Settings(path=Path("/var/run.db"))),
        ("sqlite:///var/run.db", Settings(path=Path("/var/run.db"))),
        ("sqlite:a%20b/run%3F.db", Settings(path=Path("a b/run?.db"))),
        ("sqlite:~/run.db", Settings(path=Path.home() / "run.db")),
        ("sqlite:r.db?sync=EXTRA", Settings(path=Path("r.db"), sync="extra")),
        ("sqlite:r.db?readonly=true", Settings(path=Path("r.db"), is_read_only=True)),
        ("sqlite:r.db?readonly", Settings(path=Path("r.db"), is_read_only=True)),
        ("sqlite:r.db?readonly=0", Settings(path=Path("r.db"))),
        ("sqlite:r.db?busy=0&poll=1.5", Settings(path=Path("r.db"), busy_s=0, poll_s=1.5)),
        (
            "sqlite:r.db?max_bytes=1e9&checkpoint=1",
            Settings(path=Path("r.db"), max_bytes=10**9, checkpoint_pages=1),
        ),
    ],
)
def test_urls(url: str, settings: Settings) -> None:
    assert parse_settings(parse_address(url)) == settings


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:", "names no file"),
        ("sqlite::memory:", "memory:"),
        ("sqlite:r.db?mode=ro", "unknown option 'mode'"),
        ("sqlite:r.db?sync=off", "normal, full or extra"),
        ("sqlite:r.db?readonly=maybe", "true or false"),
        ("sqlite:r.db?busy=-1", "busy is a number"),
        ("sqlite:r.db?busy=nan", "busy is a number"),
        ("sqlite:r.db?max_bytes=inf", "max_bytes is a number"),
        ("sqlite:r.db?max_bytes=65535", "max_bytes is at least 65536, not 65535"),
        ("sqlite:r.db?max_bytes=0", "max_bytes is at least 65536, not 0"),
        ("sqlite:r.db?poll=soon", "poll is a number"),
    ],
)
def test_what_cannot_work_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(parse_address(url))
