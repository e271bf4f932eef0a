"""Who is at the other end of a socket."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from hms_bus.ipc.peers import (
    PeerInfo,
    is_welcome,
    peer_of,
    peer_of_socket,
    read_ucred,
    read_xucred,
)

OURSELVES = PeerInfo(pid=os.getpid(), uid=os.geteuid(), gid=os.getegid())


def test_the_peer_of_a_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of_socket(one) == OURSELVES


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_peer_of_a_transport(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    async def ask() -> PeerInfo | None:
        one, other = socket.socketpair()
        with other:
            _, writer = await asyncio.open_unix_connection(sock=one)
            try:
                return peer_of(writer.transport)
            finally:
                writer.close()
                await writer.wait_closed()

    assert run(ask()) == OURSELVES


def test_nobody_tells_over_tcp() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as line,
    ):
        assert peer_of_socket(line) is None


def test_the_owner_and_root_are_welcome() -> None:
    def user(uid: int) -> PeerInfo:
        return PeerInfo(pid=5, uid=uid, gid=0)

    other = os.geteuid() + 1
    assert is_welcome(OURSELVES)
    assert is_welcome(user(0))
    assert not is_welcome(user(other))
    assert is_welcome(user(other), (other,))
    assert is_welcome(None)


def test_a_process_that_cannot_be_seen_has_no_number() -> None:
    content = struct.pack("=iII", 0, 1000, 4_294_967_295)
    assert read_ucred(content) == PeerInfo(pid=None, uid=1000, gid=4_294_967_295)


def test_the_credentials_of_macos() -> None:
    content = struct.pack("=IIhxx16I", 0, 501, 2, 20, 12, *[0] * 14)
    assert read_xucred(content, pid=77) == PeerInfo(pid=77, uid=501, gid=20)
