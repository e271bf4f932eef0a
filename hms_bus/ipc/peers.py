"""Who is at the other end of a socket, as the system says it."""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

_UCRED = struct.Struct("=iII")
"""`struct ucred` of unix(7): pid, uid, gid."""

_XUCRED = struct.Struct("=IIh2xI60x")
"""`struct xucred` of macOS and FreeBSD: version, uid, number of groups, the first of 16 groups."""

_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_LOCAL_PEERPID = 2


class PeerInfo(Struct, frozen=True, kw_only=True):
    """The process at the other end when the connection was made. `pid` is `None` if unknown."""

    pid: int | None
    uid: int
    gid: int


class Asked(Protocol):
    """A socket, or what asyncio and uvloop give out in its place."""

    @property
    def family(self) -> int:
        """The address family."""
        ...

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        """Return the option's bytes."""
        ...


def peer_of(transport: asyncio.BaseTransport) -> PeerInfo | None:
    """Return who is at the other end of a connection; see `peer_of_socket`."""
    return peer_of_socket(transport.get_extra_info("socket"))


def peer_of_socket(end: Asked) -> PeerInfo | None:
    """Return who is at the other end of a connected socket.

    `None` where the system does not tell: over TCP, and on systems without such an option. There
    the token, or the socket's mode, says who may talk. Raises `OSError`.
    """
    if end.family != socket.AF_UNIX:
        return None
    if sys.platform == "linux":
        return read_ucred(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if sys.platform == "darwin":
        pid = end.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4)
        return read_xucred(
            end.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size),
            pid=int.from_bytes(pid, sys.byteorder),
        )
    return None


def is_welcome(peer: PeerInfo | None, allowed: Collection[int] = ()) -> bool:
    """Whether the peer is our own user, root, or a user of `allowed`; or nobody can tell."""
    return peer is None or peer.uid in {os.geteuid(), 0, *allowed}


def read_ucred(content: bytes) -> PeerInfo:
    """Read what `SO_PEERCRED` gives."""
    pid, uid, gid = _UCRED.unpack(content)
    # 0 stands for a process of a namespace that is not seen from here.
    return PeerInfo(pid=pid or None, uid=uid, gid=gid)


def read_xucred(content: bytes, *, pid: int | None) -> PeerInfo:
    """Read what `LOCAL_PEERCRED` gives."""
    _, uid, _, gid = _XUCRED.unpack(content)
    return PeerInfo(pid=pid, uid=uid, gid=gid)
