"""Taking the place of a hub: its lock, then its socket, or a port where there are no sockets.

Whoever holds the lock is the hub. Only then it may put aside what a hub that was killed has left,
and it takes its own socket away before it lets the lock go: so a socket is never taken from a hub
that lives.
"""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from hms_bus.errors import ConfigError, ConnectError, HubLockedError, StateError
from hms_bus.filelock import FileLock, try_lock
from hms_bus.ipc.loopback import LOOPBACK, Loopback, make_token, read_loopback, write_loopback
from hms_bus.ipc.places import Place, prepare_folder
from hms_bus.threads import opened_in_thread, run_to_end

BACKLOG = 1024
_PRIVATE_MODE = 0o600
_ALL_BUT_PRIVATE = 0o177
_ALL_BUT_SHARED = 0o111
"""With users that are allowed besides the hub's own: each is looked at when it connects."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Listening:
    """A place that is taken; clients are let in from `start` to `stop`. Made by `listen`.

    `token` is what each client must say in its HELLO; `None` at a socket, whose mode and peers say
    who may talk.
    """

    def __init__(
        self,
        place: Place,
        protocol_factory: ProtocolFactory,
        *,
        tcp: bool,
        shared: bool,
        asks_for_tokens: bool,
    ) -> None:
        self.token = make_token() if tcp else None
        self._mask = _ALL_BUT_SHARED if shared else _ALL_BUT_PRIVATE
        self._asks_for_tokens = asks_for_tokens
        self._place = place
        self._protocol_factory = protocol_factory
        self._server: asyncio.Server | None = None
        self._files = ExitStack()
        self._doors = ExitStack()

    async def start(self) -> None:
        """Let clients in; they can connect when it returns.

        Raises `ConfigError` for a file in the way, `ConnectError` when the system refuses or
        something listens there that has no lock, `StateError` the second time.
        """
        if self._server is not None:
            raise StateError(f"{self._place.url} is listened at already")
        if self.token is None:
            await self._start_at_socket()
        else:
            await self._start_at_port(self.token)

    async def stop(self) -> None:
        """Let nobody in any more; connections stay. Takes the socket away if it is still ours."""
        try:
            # While the socket is open, its inode is no other file's, so that ours can be told.
            await run_to_end(self._files.close)
        finally:
            if self._server is not None:
                self._server.close()
            self._doors.close()

    async def _start_at_socket(self) -> None:
        door = await run_to_end(
            partial(_open_socket, self._place, self._mask, self._doors, self._files)
        )
        loop = asyncio.get_running_loop()
        # Known before it serves, so that a cancellation leaves no server behind.
        self._server = await loop.create_unix_server(
            self._protocol_factory, sock=door, backlog=BACKLOG, start_serving=False
        )
        await self._server.start_serving()

    async def _start_at_port(self, token: str) -> None:
        door = await run_to_end(partial(_open_port, self._place, self._doors))
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol_factory, sock=door, backlog=BACKLOG, start_serving=False
        )
        await self._server.start_serving()
        # Last: who finds the file shall find somebody at the port.
        port = door.getsockname()[1]
        told = Loopback(port=port, token=token, tokens=self._asks_for_tokens)
        await run_to_end(partial(_tell_port, self._place, told, self._files))


@asynccontextmanager
async def listen(
    place: Place,
    *,
    tcp: bool,
    protocol_factory: ProtocolFactory,
    shared: bool = False,
    asks_for_tokens: bool = False,
) -> AsyncGenerator[Listening]:
    """Be the one hub at `place` for as long as the scope lasts.

    Clients are let in after `Listening.start`; `protocol_factory` makes the hub's end of each
    connection. With `tcp`, or where the system has no Unix sockets, they come over 127.0.0.1.
    `shared` lets other users come as far as the socket, if its folder does: whoever welcomes them
    looks at who they are. `asks_for_tokens` lets clients know that it is their own tokens that
    count, not the one of the port. Leaving the scope ends the listening, not the connections, and
    gives the place free.

    Raises `HubLockedError` when another hub is there, `ConfigError` and `ConnectError` for a folder
    that cannot be used.
    """
    use_tcp = tcp or not hasattr(socket, "AF_UNIX")
    async with opened_in_thread(partial(_take_place, place)):
        listening = Listening(
            place, protocol_factory, tcp=use_tcp, shared=shared, asks_for_tokens=asks_for_tokens
        )
        try:
            yield listening
        finally:
            await listening.stop()


# -- what blocks, in threads -------------------------------------------------------------------


def _take_place(place: Place, undo: ExitStack) -> None:
    prepare_folder(place)
    try:
        taken = try_lock(place.lock, mode=_PRIVATE_MODE)
    except OSError as error:
        raise _refused(place, f"cannot lock {place.lock}", error) from error
    if not isinstance(taken, FileLock):
        raise HubLockedError(url=place.url, holder=taken)
    undo.callback(taken.release)
    # At once: a port that is told counts while the lock is held, and this one was another hub's.
    try:
        _forget_port(place)
    except OSError as error:
        raise _refused(place, f"cannot clear {place.folder}", error) from error


def _open_socket(place: Place, hidden: int, doors: ExitStack, files: ExitStack) -> socket.socket:
    """Return the socket, bound; from its first moment its mode has nothing of `hidden`."""
    _clear_away(place)
    door = doors.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    # The mode that a socket is made with follows from the mask alone, on every system. Other
    # threads that make a file just now get a stricter mode; nobody gets a laxer one.
    mask = os.umask(hidden)
    try:
        door.bind(str(place.socket))
    except OSError as error:
        raise _refused(place, f"cannot make the socket {place.socket}", error) from error
    finally:
        os.umask(mask)
    files.callback(_remove_socket, place.socket, place.socket.lstat())
    return door


def _open_port(place: Place, doors: ExitStack) -> socket.socket:
    _clear_away(place)
    door = doors.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    try:
        door.bind((LOOPBACK, 0))
    except OSError as error:
        raise _refused(place, f"cannot listen on {LOOPBACK}", error) from error
    return door


def _tell_port(place: Place, told: Loopback, files: ExitStack) -> None:
    try:
        write_loopback(place.tcp, told)
    except OSError as error:
        raise _refused(place, f"cannot write {place.tcp}", error) from error
    files.callback(_remove_told, place.tcp, told)


def _clear_away(place: Place) -> None:
    """Remove what a hub that was killed has left. Only for the holder of the lock."""
    try:
        if _is_stale_socket(place):
            place.socket.unlink(missing_ok=True)
        _forget_port(place)
    except OSError as error:
        raise _refused(place, f"cannot clear {place.folder}", error) from error


def _forget_port(place: Place) -> None:
    # A file that says something else is nobody's door, and stays.
    if read_loopback(place.tcp) is not None:
        place.tcp.unlink(missing_ok=True)


def _is_stale_socket(place: Place) -> bool:
    """Whether a socket is there that nobody listens at. Raises `ConfigError`, `ConnectError`."""
    try:
        mode = place.socket.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{place.socket} is no socket, and is left alone: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(0)
        try:
            knock.connect(str(place.socket))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except BlockingIOError:
            pass  # More wait there than fit: somebody listens.
    raise ConnectError(
        f"something listens at {place.socket} that does not hold {place.lock}: is it another "
        "program's socket? Stop it, or choose another path",
        url=place.url,
    )


def _remove_socket(path: Path, own: os.stat_result) -> None:
    with suppress(OSError):
        if os.path.samestat(path.lstat(), own):
            path.unlink()


def _remove_told(path: Path, own: Loopback) -> None:
    with suppress(OSError):
        if read_loopback(path) == own:
            path.unlink()


def _refused(place: Place, what: str, error: OSError) -> ConnectError:
    return ConnectError(f"{place.url}: {what}: {error.strerror}", url=place.url)
