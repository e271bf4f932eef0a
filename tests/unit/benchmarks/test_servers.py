"""Servers of contenders: started, reached, ended; missing ones and broken ones say so."""

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.model import PeerMissingError
from benchmarks.stage import cpu_seconds
from benchmarks.worker import WorkerError


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_server_takes_connections_while_its_scope_lasts() -> None:
    async with servers.nats_server() as server:
        host, port = server.address.removeprefix("nats://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert (await reader.readline()).startswith(b"INFO ")
        writer.close()
        await writer.wait_closed()
    assert not is_running(server.pid)


async def test_a_program_that_is_nowhere_makes_the_peer_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(PeerMissingError, match="no nats-server in"):
        async with servers.nats_server():
            pass
    assert await servers.program_version("nats-server") is None


async def test_a_server_that_does_not_start_is_told_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho out of memory\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(servers.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(WorkerError, match="out of memory"):
        async with servers.redis_server():
            pass


async def test_the_version_of_a_program_is_what_it_says() -> None:
    assert "nats-server" in (await servers.program_version("nats-server") or "")


def test_folders_on_disk_are_removed() -> None:
    with servers.disk_folder() as folder:
        (folder / "file").touch()
    assert not folder.exists()


async def test_the_time_of_a_process_grows_while_it_works() -> None:
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) == before:
        pass


async def test_a_process_that_has_ended_has_no_time() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    with pytest.raises(WorkerError, match="no process"):
        cpu_seconds(process.pid)
