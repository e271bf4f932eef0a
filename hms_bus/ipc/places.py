"""Where a hub is: the names of its files, and the folder in which they lie (spec/ipc.md).

`find_place` only makes names and touches no file. `prepare_folder` makes and checks the folder; it
blocks, so it belongs into a thread.
"""

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from hms_bus.errors import ConfigError, ConnectError

RUNTIME_DIR = "HMS_BUS_RUNTIME_DIR"
"""The environment variable that names the runtime folder."""

MAX_SOCKET_BYTES = 107 if sys.platform == "linux" else 103
"""Bytes of a socket's path at most: `sun_path` of unix(7) without the zero at its end."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SUFFIX = ".sock"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Place(Struct, frozen=True, kw_only=True):
    """Where one hub is. Two URLs of one socket have the same files.

    `name` is what people call it, `url` the address that every program understands, whatever its
    working folder. `has_own_folder` says that the files lie in the runtime folder, which is made
    and must be private. `owner` is the number of the user whose hub a client trusts there, besides
    its own user's and root's.
    """

    name: str
    url: str
    has_own_folder: bool
    socket: Path
    lock: Path
    spawn: Path
    tcp: Path
    hub_log: Path
    owner: int | None = None

    @property
    def folder(self) -> Path:
        """The folder that all files are in."""
        return self.socket.parent


def find_place(address_path: str, *, environment: Mapping[str, str] | None = None) -> Place:
    """Return the place of `ipc://address_path`: a name, or an absolute path of a socket.

    `environment` defaults to the process's. Raises `ConfigError`.
    """
    if address_path.startswith("/"):
        return _make_place(address_path, _check_path(address_path), has_own_folder=False)
    environment = os.environ if environment is None else environment
    name = _check_name(address_path)
    socket = _find_runtime_folder(environment) / f"{name}{_SUFFIX}"
    return _make_place(name, socket, has_own_folder=True)


def _make_place(name: str, socket: Path, *, has_own_folder: bool) -> Place:
    _check_length(socket, has_own_folder=has_own_folder)
    stem = socket.name.removesuffix(_SUFFIX)
    return Place(
        name=name,
        url=f"ipc://{quote(name)}",
        has_own_folder=has_own_folder,
        socket=socket,
        lock=socket.with_name(f"{stem}.lock"),
        spawn=socket.with_name(f"{stem}.spawn"),
        tcp=socket.with_name(f"{stem}.tcp"),
        hub_log=socket.with_name(f"{stem}.hub.log"),
    )


def _check_path(path: str) -> Path:
    if path.endswith("/") or Path(path).name in {"..", _SUFFIX} or "\0" in path:
        raise ConfigError(
            f"ipc://{path!r:.120} names no socket: write the path of one, ipc:///PATH.sock"
        )
    return Path(path)


def _check_name(name: str) -> str:
    if not name:
        raise ConfigError("ipc:// names no hub: write ipc://NAME, as in ipc://agents")
    if "/" in name:
        raise ConfigError(
            f"ipc://{name} is a relative path: write a name without '/', as in ipc://agents, or "
            "an absolute path with three slashes, ipc:///PATH.sock"
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"ipc://{name:.80} is no name of a hub: it takes 1 to 64 of A-Z a-z 0-9 . _ -"
        )
    return name


def _check_length(socket: Path, *, has_own_folder: bool) -> None:
    if (length := len(os.fsencode(socket))) <= MAX_SOCKET_BYTES:
        return
    way_out = (
        f"take a shorter name, or set {RUNTIME_DIR} to a shorter folder"
        if has_own_folder
        else "take a shorter path"
    )
    raise ConfigError(
        f"the path of the socket {socket} has {length} bytes, and the system allows "
        f"{MAX_SOCKET_BYTES}: {way_out}"
    )


def _find_runtime_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of this user's hubs. Asks no disk. Raises `ConfigError`."""
    has_users = hasattr(os, "getuid")
    temporary = f"hms-bus-{os.getuid()}" if has_users else "hms-bus"
    folders = {RUNTIME_DIR: "", "XDG_RUNTIME_DIR": "hms-bus", "TMPDIR": temporary}
    if not has_users:
        folders["LOCALAPPDATA"] = temporary  # Windows: only the user and administrators come in
    for variable, own in folders.items():
        if text := environment.get(variable):
            # A hub that is started has another working folder than its clients.
            if not Path(text).is_absolute():
                raise ConfigError(f"{variable} is {text!r:.80}: it takes an absolute path")
            return Path(text, own)
    if not has_users:
        raise ConfigError(f"{RUNTIME_DIR} is not set: set it to a folder of your own")
    return Path("/tmp", temporary)  # noqa: S108 - only used if it is ours and private


def prepare_folder(place: Place) -> None:
    """Make the runtime folder if there is none, with mode 0700, and refuse one that is not private.

    Of a socket that was named by its path the folder must exist, and stays as it is. Blocks.
    Raises `ConfigError` with the next step, `ConnectError` when the disk refuses.
    """
    try:
        if place.has_own_folder:
            _make_private(place.folder)
        elif not place.folder.is_dir():
            raise _missing(place.folder)
    except OSError as error:
        raise ConnectError(
            f"{place.url}: the folder {place.folder} cannot be used: {error.strerror}; "
            f"{RUNTIME_DIR} may name another one",
            url=place.url,
        ) from error


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise _missing(folder.parent) from None
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        problem = f"is a symbolic link: remove it, or set {RUNTIME_DIR} to where it leads"
    elif not stat.S_ISDIR(status.st_mode):
        problem = f"is no folder: remove it, or set {RUNTIME_DIR} to another one"
    elif not hasattr(os, "geteuid"):
        return  # there are no owners and modes to look at
    elif status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}: set {RUNTIME_DIR} to a folder of your own"
    elif status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        problem = f"is open to other users (mode {mode:04o}): chmod 700 {folder}"
    else:
        return
    raise ConfigError(f"the runtime folder {folder} {problem}")


def _missing(folder: Path) -> ConfigError:
    return ConfigError(f"the folder {folder} does not exist: mkdir -p {folder}")
