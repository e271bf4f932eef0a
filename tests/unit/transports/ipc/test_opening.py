"""What a URL of a hub says, and that what is wrong with it is told without its token."""

from pathlib import Path

import pytest

from hms_bus import plugins
from hms_bus.errors import ConfigError
from hms_bus.transports.ipc.client import Settings
from hms_bus.transports.ipc.opening import open_ipc, read_settings

pytestmark = pytest.mark.usefixtures("runtime")


def settings_of(url: str) -> Settings:
    return read_settings(plugins.parse_address(url), plugins.get_codec("json"))


def test_the_user_whose_hub_is_trusted_is_told_by_the_url(runtime: Path) -> None:
    assert settings_of("ipc://x?owner=1007").place.owner == 1007
    assert settings_of("ipc://x?owner=0").place.owner == 0
    settings = settings_of(f"ipc://{runtime}/x.sock")
    assert settings.place.owner is None
    assert settings.place.socket == runtime / "x.sock"


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("spawn=maybe", "spawn is true or false, not 'maybe'"),
        ("tcp=1", "tcp is true or false, not '1'"),
        ("timeout=abc", "timeout: "),
        ("idle=abc", "idle: "),
        ("buffer=-1", "buffer is a number of bytes, not '-1'"),
        ("owner=bob", "owner is the number of a user, as `id -u` tells it, not 'bob'"),
        ("owner=99999999999", "owner is the number of a user"),
        ("owner=", "owner is the number of a user"),
        ("colour=red", "unknown option 'colour'"),
    ],
)
def test_a_mistake_is_told_without_the_token(option: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(f"ipc://x?token=SECRET&{option}")
    assert "ipc://x" in caught.value.message
    assert told in caught.value.message
    assert "SECRET" not in caught.value.message


def test_two_logs_are_told_without_the_token() -> None:
    address = plugins.parse_address("ipc://x?token=SECRET&log=memory:a")
    with pytest.raises(ConfigError, match=r"^'ipc://x' names the log memory:a, and") as caught:
        open_ipc.with_log(address, plugins.parse_address("memory:b"))
    assert "SECRET" not in caught.value.message
