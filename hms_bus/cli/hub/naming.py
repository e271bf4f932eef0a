"""Which hub is meant: by a name, a path or a URL, or by the configuration."""

from pathlib import Path
from urllib.parse import quote

from hms_bus.cli.log.opening import configured
from hms_bus.errors import UsageError
from hms_bus.hub.settings import HubSettings
from hms_bus.plugins import parse_address

SCHEME = "ipc"


def hub_url(name: str | None) -> str:
    """Return the URL by which to ask the hub `name`: a name, the path of a socket, a URL already.

    Without one it is where the configured bus is, if that is behind a hub, else the hub's own
    default. Raises `UsageError`.
    """
    if name is None:
        url = configured().url
        return url if is_behind_hub(url) else HubSettings().listen
    if "://" not in name:
        return f"{SCHEME}://{quote(str(Path(name).absolute()) if '/' in name else name)}"
    if not is_behind_hub(name):
        raise UsageError(
            f"{parse_address(name).bare_url} has no hub: write ipc://NAME, or the NAME alone"
        )
    return name


def listening_url(name: str | None) -> str:
    """Return where the hub `name` listens: the same without options, which are for clients."""
    return f"{SCHEME}://{quote(parse_address(hub_url(name)).path)}"


def is_behind_hub(url: str) -> bool:
    """Whether a bus at `url` has a hub. Raises `ConfigError`."""
    return parse_address(url).scheme == SCHEME
