"""Clients find a hub, or start one: a real one of which only the door is there."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from hms_bus.errors import ConfigError, ConnectError
from hms_bus.filelock import FileLock, read_holder, try_lock
from hms_bus.hub.listening import listen
from hms_bus.ipc.places import Place, find_place
from hms_bus.transports.ipc.reaching import reach
from hms_bus.transports.ipc.spawning import SpawnOptions
from tests.support.descriptors import open_descriptors
from tests.support.reach_program import SMALL_HUB, ask_who

ROOT = Path(__file__).parents[3]
NEVER_S = 50.0


@pytest.fixture
def place(runtime: Path) -> Place:
    return find_place("agents")


def program(text: str) -> SpawnOptions:
    return SpawnOptions(program=(sys.executable, "-c", text))


def with_arguments(*arguments: str) -> SpawnOptions:
    return replace(SMALL_HUB, arguments=arguments)


async def reach_and_ask(place: Place, spawn: SpawnOptions | None = SMALL_HUB) -> int:
    return await ask_who(await reach(place, spawn=spawn, timeout_s=NEVER_S))


async def wait_for_end(pid: int) -> None:
    """Wait until the hub `pid`, a child of ours, has ended and was waited for."""
    for thread in threading.enumerate():
        if thread.name == f"hms-bus-hub-{pid}":
            await asyncio.to_thread(thread.join)


async def holder_of(place: Place, *, after: int = 0) -> int:
    """Return the process that has taken the place, once one has that is not `after`."""

    def has_taken() -> bool:
        found = re.match(r"process (\d+) ", read_holder(place.lock) or "")
        pids.append(int(found[1]) if found else after)
        return pids[-1] != after

    pids: list[int] = []
    await until(has_taken)
    return pids[-1]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(NEVER_S):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - no event comes from there
            await asyncio.sleep(0.01)


def is_free(path: Path) -> bool:
    taken = try_lock(path, mode=0o600)
    if isinstance(taken, FileLock):
        taken.release()
    return isinstance(taken, FileLock)


def test_twenty_processes_at_once_start_one_hub(place: Place) -> None:
    command = [sys.executable, "-m", "tests.support.reach_program", "agents"]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(20)
        ]
        for client in clients:
            assert client.stdout
            assert client.stdout.readline() == "ready\n"
        for client in clients:
            assert client.stdin
            client.stdin.write("go\n")
            client.stdin.flush()
        answers = {client.communicate()[0].strip() for client in clients}
        assert [client.returncode for client in clients] == [0] * 20
    [hub] = answers
    assert place.hub_log.read_text() == f"hub {hub}\n"
    assert is_free(place.spawn)


async def test_the_hub_is_a_process_of_its_own_and_found_again(place: Place) -> None:
    hub = await reach_and_ask(place)
    assert hub != os.getpid()
    assert os.getsid(hub) == hub
    assert await reach_and_ask(place) == hub
    assert await reach_and_ask(place, spawn=None) == hub


async def test_a_hub_that_was_killed_is_replaced(place: Place) -> None:
    first = await reach_and_ask(place)
    os.kill(first, signal.SIGKILL)
    await wait_for_end(first)
    assert place.socket.exists()
    second = await reach_and_ask(place)
    assert second != first
    assert place.hub_log.read_text() == f"hub {first}\nhub {second}\n"


async def test_a_hub_that_ended_well_leaves_nothing_but_its_words(place: Place) -> None:
    hub = await reach_and_ask(place)
    os.kill(hub, signal.SIGTERM)
    await wait_for_end(hub)
    assert list(place.folder.iterdir()) == [place.hub_log]
    with pytest.raises(ProcessLookupError):
        os.kill(hub, 0)


async def test_a_hub_by_its_path(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    place = find_place(str(runtime / "what? 100%.sock"))
    hub = await reach_and_ask(place)
    assert await reach_and_ask(place, spawn=None) == hub


async def test_a_hub_without_a_socket(place: Place) -> None:
    reached = await reach(place, spawn=with_arguments("--tcp"), timeout_s=NEVER_S)
    assert reached.socket.family == socket.AF_INET
    assert reached.token is not None
    hub = await ask_who(reached)
    assert await reach_and_ask(place, spawn=None) == hub
    os.kill(hub, signal.SIGKILL)
    await wait_for_end(hub)
    assert place.tcp.exists()
    assert await reach_and_ask(place, spawn=with_arguments("--tcp")) != hub


async def test_without_a_spawn_it_says_how_to_start_one(place: Place) -> None:
    with pytest.raises(ConnectError) as caught:
        await reach(place, spawn=None, timeout_s=NEVER_S)
    assert caught.value.message == (
        "no hub runs at ipc://agents: start one with `hms-bus hub --listen ipc://agents`"
    )
    assert not place.folder.exists()


async def test_without_a_spawn_a_hub_that_is_just_starting_is_found(place: Place) -> None:
    async with listen(place, tcp=False, protocol_factory=asyncio.Protocol) as listening:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place.socket))
            reaching = asyncio.create_task(reach(place, spawn=None, timeout_s=NEVER_S))
            await asyncio.sleep(0)
        await listening.start()
        (await reaching).socket.close()


async def test_a_hub_that_fails_is_an_error_with_its_words(place: Place) -> None:
    failing = program("import sys; print('no log', 'at /x', sep='\\n', file=sys.stderr); exit(5)")
    with pytest.raises(ConnectError) as caught:
        await reach(place, spawn=failing, timeout_s=NEVER_S)
    assert caught.value.message == (
        "the hub that was started at ipc://agents ended with status 5: no log\nat /x"
    )
    assert caught.value.url == "ipc://agents"
    assert await asyncio.to_thread(is_free, place.spawn)


async def test_a_hub_that_crashes_is_an_error_with_the_signal(place: Place) -> None:
    crashing = program("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)")
    with pytest.raises(
        ConnectError, match=f"ended with signal {signal.SIGUSR1}: it has said nothing"
    ):
        await reach(place, spawn=crashing, timeout_s=NEVER_S)


async def test_a_file_in_the_way_is_an_error_in_the_words_of_the_hub(place: Place) -> None:
    place.folder.mkdir(mode=0o700)
    place.socket.write_text("years of work")
    with pytest.raises(ConnectError, match=r"status 3: small hub: .*agents\.sock is no socket"):
        await reach(place, spawn=SMALL_HUB, timeout_s=NEVER_S)
    assert place.socket.read_text() == "years of work"


async def test_a_folder_that_is_not_private_is_refused(place: Place) -> None:
    place.folder.mkdir()
    place.folder.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        await reach(place, spawn=SMALL_HUB, timeout_s=NEVER_S)
    assert list(place.folder.iterdir()) == []


async def test_a_spawn_lock_that_cannot_be_made_is_an_error(place: Place) -> None:
    place.spawn.mkdir(parents=True)
    place.folder.chmod(0o700)
    with pytest.raises(ConnectError, match=r"none can be started: .*agents\.spawn: Is a directory"):
        await reach(place, spawn=SMALL_HUB, timeout_s=NEVER_S)


async def test_a_hub_that_just_ends_is_waited_for_and_replaced(place: Place) -> None:
    """It holds the lock but listens no more; who is started meanwhile ends at once."""
    async with listen(place, tcp=False, protocol_factory=asyncio.Protocol):
        reaching = asyncio.create_task(reach_and_ask(place))
        await until(place.hub_log.exists)
        assert not reaching.done()
    hub = await reaching
    assert place.hub_log.read_text() == f"hub {hub}\n"


async def test_a_hub_that_was_told_to_end_before_it_was_ready_is_replaced(place: Place) -> None:
    mute = with_arguments("--mute")
    reaching = asyncio.create_task(reach(place, spawn=mute, timeout_s=NEVER_S))
    first = await holder_of(place)
    os.kill(first, signal.SIGKILL)
    await wait_for_end(first)
    second = await holder_of(place, after=first)
    reaching.cancel()
    await asyncio.wait([reaching])
    os.kill(second, signal.SIGKILL)


async def test_a_hub_that_is_not_ready_in_time_is_named(place: Place) -> None:
    waiting = program("import sys, time; time.sleep(50)")
    with pytest.raises(ConnectError) as caught:
        await reach(place, spawn=waiting, timeout_s=0.2)
    found = re.search(
        r"within 0\.2 s: .*, process (\d+), is not ready; see (.*)$", str(caught.value)
    )
    assert found
    assert found[2] == str(place.hub_log)
    os.kill(int(found[1]), signal.SIGKILL)
    await wait_for_end(int(found[1]))
    assert await asyncio.to_thread(is_free, place.spawn)


async def test_a_hub_that_lets_nobody_in_is_named(place: Place) -> None:
    async with listen(place, tcp=False, protocol_factory=asyncio.Protocol):
        spawn = await asyncio.to_thread(try_lock, place.spawn, mode=0o600)
        assert isinstance(spawn, FileLock)
        with pytest.raises(ConnectError, match=rf"process {os.getpid()} .* has taken the place"):
            await reach(place, spawn=SMALL_HUB, timeout_s=0.05)
        await asyncio.to_thread(spawn.release)


async def test_who_waits_for_another_to_start_a_hub_says_so(place: Place) -> None:
    place.folder.mkdir(mode=0o700)
    spawn = await asyncio.to_thread(try_lock, place.spawn, mode=0o600)
    assert isinstance(spawn, FileLock)
    with pytest.raises(ConnectError, match=r"others tried to start one; see .*agents\.hub\.log"):
        await reach(place, spawn=SMALL_HUB, timeout_s=0.05)
    await asyncio.to_thread(spawn.release)


async def test_a_cancelled_search_leaves_no_lock_and_no_socket(place: Place) -> None:
    await asyncio.to_thread(int)  # the pool's thread has descriptors of its own
    before = open_descriptors()
    hub = 0
    for delay_s in (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3):
        reaching = asyncio.create_task(reach(place, spawn=SMALL_HUB, timeout_s=NEVER_S))
        await asyncio.sleep(delay_s)
        if reaching.done():
            (await reaching).socket.close()
        reaching.cancel()
        await asyncio.wait([reaching])
        assert open_descriptors() == before
        assert not place.folder.exists() or await asyncio.to_thread(is_free, place.spawn)
    # What was started goes on, and is found.
    hub = await reach_and_ask(place)
    assert await holder_of(place) == hub


def test_a_client_that_ends_leaves_the_hub_and_no_warning(place: Place) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "tests.support.reach_program", "agents"],
        cwd=ROOT,
        input="go\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    hub = int(ended.stdout.split()[1])
    assert asyncio.run(reach_and_ask(place, spawn=None)) == hub
