"""Which hub is meant when it is named, and when it is not."""

from pathlib import Path

import pytest

from hms_bus.cli.hub.naming import hub_url, listening_url
from hms_bus.cli.hub.serving import load_hub_settings
from hms_bus.errors import ConfigError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make it the working folder: no configuration of whoever runs the tests counts."""
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "LOG", "CONFIG"):
        monkeypatch.delenv(f"HMS_BUS_{name}", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("shop", "ipc://shop"),
        ("ipc://shop", "ipc://shop"),
        ("ipc://shop?token=t", "ipc://shop?token=t"),
        ("/run/shop.sock", "ipc:///run/shop.sock"),
        ("/run/my shop.sock", "ipc:///run/my%20shop.sock"),
    ],
)
def test_a_hub_is_named_by_name_path_or_url(name: str, url: str) -> None:
    assert hub_url(name) == url


def test_a_path_counts_from_the_working_folder(folder: Path) -> None:
    assert hub_url("./shop.sock") == f"ipc://{folder}/shop.sock"


def test_a_bus_without_a_hub_is_refused() -> None:
    with pytest.raises(UsageError, match="direct://shop has no hub: write ipc://NAME"):
        hub_url("direct://shop")


def test_without_a_name_it_is_the_hub_of_the_configured_bus(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_url(None) == "ipc://agents"
    (folder / "hms-bus.toml").write_text('url = "ipc://shop?spawn=false"\n')
    assert hub_url(None) == "ipc://shop?spawn=false"
    monkeypatch.setenv("HMS_BUS_URL", "direct://")
    assert hub_url(None) == "ipc://agents"


def test_a_hub_listens_without_the_options_of_its_clients(folder: Path) -> None:
    (folder / "hms-bus.toml").write_text('url = "ipc://shop?spawn=false"\n')
    assert listening_url(None) == "ipc://shop"
    assert listening_url("ipc:///run/my%20shop.sock?token=t") == "ipc:///run/my%20shop.sock"


def test_options_win_over_the_file_and_the_file_over_the_configured_bus(folder: Path) -> None:
    (folder / "hms-bus.toml").write_text('url = "ipc://shop"\n')
    file = folder / "hub.toml"
    file.write_text('log = "sqlite:/var/hub.db"\n[limits]\nmax_clients = 7\n')
    settings = load_hub_settings(listen=None, log="run.db", config=file)
    assert (settings.listen, settings.limits.max_clients) == ("ipc://shop", 7)
    assert settings.log == f"sqlite://{folder}/run.db"
    file.write_text('listen = "ipc://bakery"\ntcp = true\n')
    settings = load_hub_settings(listen=None, log=None, config=file)
    assert (settings.listen, settings.tcp, settings.log) == ("ipc://bakery", True, None)
    assert load_hub_settings(listen="kiosk", log=None, config=file).listen == "ipc://kiosk"


def test_a_key_that_a_hub_does_not_know_is_refused(folder: Path) -> None:
    (folder / "hub.toml").write_text("max_client = 7\n")
    with pytest.raises(ConfigError, match=r"hub\.toml: unknown key 'max_client'"):
        load_hub_settings(listen=None, log=None, config=folder / "hub.toml")
