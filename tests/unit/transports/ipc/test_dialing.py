"""Connecting to whoever listens at a place."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from hms_bus.errors import ConnectError
from hms_bus.filelock import FileLock, try_lock
from hms_bus.ipc.loopback import Loopback, write_loopback
from hms_bus.ipc.places import Place, find_place
from hms_bus.transports.ipc.dialing import dial
from tests.support.descriptors import open_descriptors
from tests.support.hub_places import as_another, private_place


@pytest.fixture
def place(runtime: Path) -> Place:
    runtime.mkdir(mode=0o700)
    return private_place(runtime)


@pytest.fixture
def door(place: Place) -> Iterator[socket.socket]:
    """A bound socket at the place; nobody listens at it yet."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place.socket))
        yield door


@pytest.fixture
def lock(place: Place) -> Iterator[FileLock]:
    """The lock of the place, as a hub holds it that lives."""
    lock = try_lock(place.lock, mode=0o600)
    assert isinstance(lock, FileLock)
    yield lock
    lock.release()


async def tell_port(place: Place, door: socket.socket, *, tokens: bool = False) -> None:
    told = Loopback(port=door.getsockname()[1], token="secret", tokens=tokens)
    await asyncio.to_thread(write_loopback, place.tcp, told)


async def test_a_hub_at_its_socket(place: Place, door: socket.socket) -> None:
    door.listen()
    reached = await dial(place)
    assert reached is not None
    with reached.socket, door.accept()[0] as other:
        assert reached.token is None
        assert reached.socket.getblocking() is False
        reached.socket.send(b"hello")
        assert other.recv(9) == b"hello"


async def test_nobody_is_there(place: Place, runtime: Path) -> None:
    before = open_descriptors()
    assert await dial(place) is None
    assert await dial(private_place(runtime / "nowhere")) is None
    place.socket.write_text("no socket")
    assert await dial(place) is None
    assert open_descriptors() == before


async def test_nobody_listens_at_a_socket(place: Place, door: socket.socket) -> None:
    before = open_descriptors()
    assert await dial(place) is None
    assert open_descriptors() == before


@pytest.mark.usefixtures("lock")
async def test_a_hub_without_a_socket(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        await tell_port(place, door)
        reached = await dial(place)
        assert reached is not None
        with reached.socket, door.accept()[0] as other:
            assert reached.token == "secret"
            assert reached.socket.getblocking() is False
            assert reached.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            reached.socket.send(b"hello")
            assert other.recv(9) == b"hello"


@pytest.mark.usefixtures("lock")
async def test_where_tokens_are_asked_for_the_one_of_the_port_is_none(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        await tell_port(place, door, tokens=True)
        reached = await dial(place)
        assert reached is not None
        with reached.socket:
            assert reached.token is None


async def test_who_has_got_the_port_of_a_hub_that_was_killed_is_not_trusted(place: Place) -> None:
    before = open_descriptors()
    place.lock.write_text("left behind")
    with socket.create_server(("127.0.0.1", 0)) as door:
        await tell_port(place, door)
        assert await dial(place) is None
        place.lock.unlink()
        assert await dial(place) is None
    assert open_descriptors() == before


async def test_a_port_that_the_next_hub_takes_back_is_not_trusted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the lock, and then the file away, while we are connecting."""
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def connect_slowly(line: socket.socket, address: tuple[str, int]) -> None:
        await connect(line, address)
        await asyncio.to_thread(place.tcp.unlink)

    monkeypatch.setattr(loop, "sock_connect", connect_slowly)
    lock = await asyncio.to_thread(try_lock, place.lock, mode=0o600)
    assert isinstance(lock, FileLock)
    with socket.create_server(("127.0.0.1", 0)) as door:
        await tell_port(place, door)
        assert await dial(place) is None
    await asyncio.to_thread(lock.release)


@pytest.mark.usefixtures("lock")
async def test_nobody_listens_at_the_port(place: Place) -> None:
    before = open_descriptors()
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        await tell_port(place, door)
        assert await dial(place) is None
    assert open_descriptors() == before


@pytest.mark.usefixtures("lock")
async def test_a_file_of_a_port_that_others_could_have_written_is_not_followed(
    place: Place,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        await tell_port(place, door)
        place.tcp.chmod(0o666)
        assert await dial(place) is None


async def test_a_hub_with_too_many_to_let_in_is_waited_for(
    place: Place, door: socket.socket
) -> None:
    door.listen(0)
    with ExitStack() as lines:
        while True:
            line = lines.enter_context(socket.socket(socket.AF_UNIX))
            line.settimeout(0)
            if line.connect_ex(str(place.socket)) != 0:
                break
        dialing = asyncio.create_task(dial(place))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not dialing.done()
        # Room for one, and that one is us.
        door.accept()[0].close()
        reached = await dialing
        assert reached is not None
        with closing(reached.socket):
            assert reached.socket.getpeername() == str(place.socket)


async def test_a_cancelled_wait_leaves_no_socket(place: Place, door: socket.socket) -> None:
    door.listen(0)
    with ExitStack() as lines:
        for _ in range(3):
            line = lines.enter_context(socket.socket(socket.AF_UNIX))
            line.settimeout(0)
            line.connect_ex(str(place.socket))
        before = open_descriptors()
        dialing = asyncio.create_task(dial(place))
        for _ in range(5):
            await asyncio.sleep(0)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        assert open_descriptors() == before


async def test_a_stranger_in_our_own_folder_is_not_trusted(
    place: Place, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    with as_another(monkeypatch) as stranger:
        door.listen()
    with pytest.raises(ConnectError, match=f"belongs to user {stranger}, not to you") as caught:
        await dial(place)
    assert caught.value.refused
    assert open_descriptors() == before


async def test_the_hub_of_another_user_is_trusted_if_that_user_is_named(
    place: Place, door: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared folder anybody may be the first to listen, and would get our token."""
    with as_another(monkeypatch) as stranger:
        door.listen()
    by_path = find_place(str(place.socket))
    for owner in (None, stranger + 1):
        with pytest.raises(ConnectError, match=rf"user, write ipc:///.*\?owner={stranger}$"):
            await dial(replace(by_path, owner=owner))
    reached = await dial(replace(by_path, owner=stranger))
    assert reached is not None
    reached.socket.close()


async def test_a_way_that_is_barred_is_an_error_with_the_place(place: Place) -> None:
    place.hub_log.touch()
    below_a_file = find_place(str(place.hub_log / "a.sock"))
    with pytest.raises(ConnectError, match=r"cannot connect to .* at .*a\.sock: Not a dir"):
        await dial(below_a_file)
    place.tcp.symlink_to(place.hub_log)
    with pytest.raises(ConnectError, match=r"at .*agents\.tcp: Too many levels"):
        await dial(place)


async def test_a_socket_of_another_kind_is_an_error(place: Place) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(os.fspath(place.socket))
        with pytest.raises(ConnectError, match="Protocol wrong type for socket"):
            await dial(place)
