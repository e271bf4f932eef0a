"""Connecting to the hub at a place, if there is one."""

import asyncio
import socket

from msgspec import Struct

from hms_bus.errors import ConnectError
from hms_bus.filelock import is_held
from hms_bus.ipc.loopback import LOOPBACK, Loopback, read_loopback
from hms_bus.ipc.peers import is_welcome, peer_of_socket
from hms_bus.ipc.places import Place
from hms_bus.threads import run_to_end

_CROWDED_PAUSE_S = 0.02
_SELF_CONNECTED = "it was its own peer"
_LEFT_BEHIND = "the hub that had this port has ended"


class Reached(Struct, frozen=True, kw_only=True):
    """A connection to a hub: a socket that does not block, for its new owner to close.

    `token` is what the HELLO must say in place of the client's own token. It is `None` where that
    one counts: at a Unix socket, and where the hub asks for tokens.
    """

    socket: socket.socket
    token: str | None


async def dial(place: Place) -> Reached | None:
    """Connect to the hub; `None` when nobody listens. Waits while a hub has too many to let in.

    What is told in `NAME.tcp` counts only while the hub that wrote it lives: the port of one that
    was killed may be anybody's now.

    Raises `ConnectError` when the way is barred, or the hub is a stranger's: it would get our token
    and all that we say. Strangers are all but our own user, root, and `place.owner`. Cancelled, it
    leaves no socket behind.
    """
    if hasattr(socket, "AF_UNIX") and (reached := await _dial_socket(place)):
        return reached
    try:
        told = await run_to_end(lambda: read_loopback(place.tcp))
    except OSError as error:
        raise _barred(place, str(place.tcp), error) from error
    return None if told is None else await _dial_port(place, told)


async def _dial_socket(place: Place) -> Reached | None:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(0)
        await _connect(line, place)
        _check_owner(line, place)
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    except OSError as error:
        line.close()
        raise _barred(place, str(place.socket), error) from error
    except BaseException:
        line.close()
        raise
    return Reached(socket=line, token=None)


async def _connect(line: socket.socket, place: Place) -> None:
    # Not the loop's sock_connect: it takes EAGAIN for a connection under way, though here it says
    # that the hub's backlog is full, and returns a socket that is connected to nobody.
    while True:
        try:
            return line.connect(str(place.socket))
        except BlockingIOError:
            await asyncio.sleep(_CROWDED_PAUSE_S)


def _check_owner(line: socket.socket, place: Place) -> None:
    """Raise `ConnectError` if a stranger serves there: in a shared folder anybody may be first."""
    peer = peer_of_socket(line)
    if not is_welcome(peer, () if place.owner is None else (place.owner,)):
        uid = peer.uid if peer else None
        raise ConnectError(
            f"the hub at {place.socket} belongs to user {uid}, not to you: it is not trusted. If "
            f"you know that user, write {place.url}?owner={uid}",
            url=place.url,
            refused=True,
        )


async def _dial_port(place: Place, told: Loopback) -> Reached | None:
    line = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        line.settimeout(0)
        await asyncio.get_running_loop().sock_connect(line, (LOOPBACK, told.port))
        # From a free port of the same number a connection to nobody succeeds (RFC 9293, 3.5).
        if line.getsockname() == line.getpeername():
            raise ConnectionRefusedError(_SELF_CONNECTED)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Only now: while nobody listens the lock is left alone, which a hub may be about to take.
        if not await run_to_end(lambda: _is_alive(place, told)):
            raise ConnectionRefusedError(_LEFT_BEHIND)
    except ConnectionRefusedError:
        line.close()
        return None
    except OSError as error:
        line.close()
        raise _barred(place, f"{LOOPBACK} port {told.port}", error) from error
    except BaseException:
        line.close()
        raise
    return Reached(socket=line, token=None if told.tokens else told.token)


def _is_alive(place: Place, told: Loopback) -> bool:
    """Whether the hub that has told its port lives: the next one takes the file away first."""
    return is_held(place.lock) and read_loopback(place.tcp) == told


def _barred(place: Place, where: str, error: OSError) -> ConnectError:
    return ConnectError(
        f"cannot connect to the hub {place.url} at {where}: {error.strerror}", url=place.url
    )
