"""Taking the place of a hub, and leaving it."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from hms_bus.errors import ConfigError, ConnectError, HubLockedError, StateError
from hms_bus.hub.listening import listen
from hms_bus.ipc.loopback import read_loopback
from hms_bus.ipc.places import Place, find_place
from tests.support.descriptors import open_descriptors
from tests.support.hub_places import private_place, runtime_folder


@pytest.fixture
def runtime() -> Iterator[Path]:
    with runtime_folder() as folder:
        yield folder


@pytest.fixture
def place(runtime: Path) -> Place:
    return private_place(runtime)


class Welcoming(asyncio.Protocol):
    """Says one word and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        line = cast("asyncio.Transport", transport)
        line.write(b"welcome")
        line.close()


async def read_from(*address: Any) -> bytes:
    if len(address) == 1:
        reader, writer = await asyncio.open_unix_connection(address[0])
    else:
        reader, writer = await asyncio.open_connection(*address)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def leave_stale_socket(path: Path) -> None:
    """What a hub leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_clients_are_let_in_from_start_to_stop(
    place: Place, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    async def be_a_hub() -> None:
        async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
            assert listening.token is None
            assert not place.socket.exists()
            await listening.start()
            assert await read_from(place.socket) == b"welcome"
            await listening.stop()
            assert not place.socket.exists()
            assert place.lock.exists()

    run(be_a_hub())
    assert list(place.folder.iterdir()) == []


async def test_everything_is_private_from_its_first_moment(place: Place) -> None:
    mask = os.umask(0)
    try:
        async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
            await listening.start()
            assert stat.S_IMODE(place.socket.lstat().st_mode) == 0o600
            assert stat.S_IMODE(place.lock.lstat().st_mode) == 0o600
            assert stat.S_IMODE(place.folder.lstat().st_mode) == 0o700
            assert os.umask(0) == 0
    finally:
        os.umask(mask)


async def test_a_second_hub_learns_who_is_there(place: Place) -> None:
    async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
        await listening.start()
        for tcp in (False, True):
            with pytest.raises(HubLockedError) as caught:
                async with listen(place, tcp=tcp, protocol_factory=Welcoming):
                    pass
            assert f"process {os.getpid()} on " in caught.value.holder
            assert caught.value.url == "ipc://agents"
        assert await read_from(place.socket) == b"welcome"
    async with listen(place, tcp=False, protocol_factory=Welcoming):
        pass


async def test_a_stale_socket_is_replaced(place: Place) -> None:
    place.folder.mkdir(mode=0o700)
    leave_stale_socket(place.socket)
    place.lock.write_text("left behind")
    async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
        assert place.socket.exists()
        await listening.start()
        assert await read_from(place.socket) == b"welcome"
    assert not place.socket.exists()


async def test_what_is_no_socket_is_left_alone(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    path = runtime / "thesis.txt"
    path.write_text("years of work")
    place = find_place(str(path))
    async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
        with pytest.raises(ConfigError, match=r"thesis\.txt is no socket, and is left alone"):
            await listening.start()
    assert path.read_text() == "years of work"
    assert not place.lock.exists()


async def test_a_link_to_a_socket_is_left_alone(place: Place) -> None:
    place.folder.mkdir(mode=0o700)
    leave_stale_socket(place.folder / "other.sock")
    place.socket.symlink_to(place.folder / "other.sock")
    async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
        with pytest.raises(ConfigError, match="is no socket"):
            await listening.start()
    assert place.socket.is_symlink()


@pytest.mark.parametrize("waiting", [0, 3])
async def test_the_socket_of_another_program_is_left_alone(place: Place, waiting: int) -> None:
    place.folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place.socket))
        other.listen(1)
        lines = [socket.socket(socket.AF_UNIX) for _ in range(waiting)]
        for line in lines:
            line.settimeout(0)
            line.connect_ex(str(place.socket))
        async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
            with pytest.raises(ConnectError, match="something listens at"):
                await listening.start()
        for line in lines:
            line.close()
    assert place.socket.exists()


@pytest.mark.parametrize("tcp", [False, True])
async def test_the_files_of_another_are_not_taken_away_at_the_end(place: Place, tcp: bool) -> None:
    path = place.tcp if tcp else place.socket
    async with listen(place, tcp=tcp, protocol_factory=Welcoming) as listening:
        await listening.start()
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


async def test_over_tcp_the_file_says_port_and_token(place: Place) -> None:
    async with listen(place, tcp=True, protocol_factory=Welcoming) as listening:
        assert not place.tcp.exists()
        await listening.start()
        told = read_loopback(place.tcp)
        assert told is not None
        assert told.token == listening.token
        assert stat.S_IMODE(place.tcp.stat().st_mode) == 0o600
        assert not place.socket.exists()
        assert await read_from("127.0.0.1", told.port) == b"welcome"
        await listening.stop()
        assert not place.tcp.exists()
    assert list(place.folder.iterdir()) == []


async def test_each_hub_has_a_token_of_its_own(place: Place) -> None:
    tokens: set[str | None] = set()
    for _ in range(2):
        async with listen(place, tcp=True, protocol_factory=Welcoming) as listening:
            tokens.add(listening.token)
    assert len(tokens) == 2


@pytest.mark.parametrize("tcp", [False, True])
async def test_what_a_hub_of_the_other_kind_has_left_is_cleared(place: Place, tcp: bool) -> None:
    place.folder.mkdir(mode=0o700)
    leave_stale_socket(place.socket)
    place.tcp.write_text('{"port":1,"token":"old"}')
    place.tcp.chmod(0o600)
    async with listen(place, tcp=tcp, protocol_factory=Welcoming) as listening:
        await listening.start()
        assert place.socket.exists() is not tcp
        assert place.tcp.exists() is tcp


async def test_the_port_of_a_hub_that_was_killed_is_forgotten_when_the_place_is_taken(
    place: Place,
) -> None:
    """It counts while the lock is held, and a hub may take its time until it starts."""
    place.folder.mkdir(mode=0o700)
    place.tcp.write_text('{"port":1,"token":"old"}')
    place.tcp.chmod(0o600)
    async with listen(place, tcp=True, protocol_factory=Welcoming):
        assert not place.tcp.exists()


@pytest.mark.parametrize("asks", [False, True])
async def test_the_file_of_the_port_says_whether_tokens_are_asked_for(
    place: Place, asks: bool
) -> None:
    async with listen(
        place, tcp=True, protocol_factory=Welcoming, asks_for_tokens=asks
    ) as listening:
        await listening.start()
        told = read_loopback(place.tcp)
        assert told is not None
        assert told.tokens is asks


async def test_a_file_that_is_not_ours_stays_beside_a_socket(place: Place) -> None:
    place.folder.mkdir(mode=0o700)
    place.tcp.write_text("a table of rates")
    async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
        await listening.start()
    assert place.tcp.read_text() == "a table of rates"


async def test_starting_twice_is_refused(place: Place) -> None:
    async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
        await listening.start()
        with pytest.raises(StateError, match="ipc://agents is listened at already"):
            await listening.start()
        assert await read_from(place.socket) == b"welcome"


async def test_a_folder_that_is_not_private_is_refused(place: Place) -> None:
    place.folder.mkdir()
    place.folder.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        async with listen(place, tcp=False, protocol_factory=Welcoming):
            pass
    assert list(place.folder.iterdir()) == []


async def test_a_lock_that_cannot_be_made_is_an_error_with_the_file(place: Place) -> None:
    place.lock.mkdir(parents=True)
    place.folder.chmod(0o700)
    with pytest.raises(ConnectError, match=r"cannot lock .*agents\.lock: Is a directory"):
        async with listen(place, tcp=False, protocol_factory=Welcoming):
            pass


async def test_a_file_that_cannot_be_replaced_is_an_error_with_the_file(place: Place) -> None:
    place.tcp.mkdir(parents=True)
    place.folder.chmod(0o700)
    async with listen(place, tcp=True, protocol_factory=Welcoming) as listening:
        with pytest.raises(ConnectError, match=r"cannot write .*agents\.tcp"):
            await listening.start()


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_cancelled_start_leaves_nothing_behind(place: Place, tcp: bool) -> None:
    before = open_descriptors()
    for turns in range(40):
        async with listen(place, tcp=tcp, protocol_factory=Welcoming) as listening:
            starting = asyncio.create_task(listening.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
        assert list(place.folder.iterdir()) == []
    await asyncio.sleep(0)
    assert open_descriptors() == before


async def test_a_cancelled_taking_leaves_nothing_behind(place: Place) -> None:
    async def be_a_hub() -> None:
        async with listen(place, tcp=False, protocol_factory=Welcoming) as listening:
            await listening.start()
            await asyncio.Event().wait()

    before = open_descriptors()
    for turns in range(40):
        being = asyncio.create_task(be_a_hub())
        for _ in range(turns):
            await asyncio.sleep(0)
        being.cancel()
        await asyncio.wait([being])
        assert not place.folder.exists() or list(place.folder.iterdir()) == []
    await asyncio.sleep(0)
    assert open_descriptors() == before
