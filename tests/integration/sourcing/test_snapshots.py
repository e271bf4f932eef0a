"""Snapshots are a cache: with them, without them and with wrong ones, all is the same."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hms_bus import Bus
from hms_bus.errors import ConfigError, StoreError
from hms_bus.sourcing import (
    MemoryKeys,
    MemorySnapshots,
    Repository,
    Snapshot,
    Snapshots,
    Vault,
    aggregate,
    applies,
    emit,
)
from hms_bus.sourcing.sqlite import open_snapshots
from tests.support.sourced import Account, Customer, Deposited, Opened


@pytest.fixture(params=["memory", "sqlite"])
async def snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Snapshots]:
    if request.param == "memory":
        yield MemorySnapshots()
        return
    async with open_snapshots(tmp_path / "snapshots.db") as opened:
        yield opened


async def deposit(repository: Repository, times: int) -> None:
    for _ in range(times):
        async with repository.edit(Account, "1") as account:
            account.deposit(1)


async def kept(snapshots: Snapshots, topic: str = "accounts.1") -> Snapshot:
    snapshot = await snapshots.load(topic)
    assert snapshot is not None
    return snapshot


async def test_a_snapshot_is_kept_after_so_many_events_and_loading_starts_from_it(
    bus: Bus, snapshots: Snapshots
) -> None:
    repository = Repository(bus, snapshots=snapshots, snapshot_every=3)
    await deposit(repository, 2)
    assert await snapshots.load("accounts.1") is None
    await deposit(repository, 3)
    first = await kept(snapshots)
    assert (first.position, first.state) == (3, b'{"owner":"","balance":3}')
    # Only here can it be seen that the snapshot is used: the log does not say 1003.
    await snapshots.drop()
    await snapshots.save(replace(first, state=b'{"owner":"","balance":1003}'))
    assert (await repository.load(Account, "1")).state.balance == 1005
    await deposit(repository, 1)
    assert (await kept(snapshots)).position == 6


async def test_deleting_snapshots_changes_nothing(bus: Bus, snapshots: Snapshots) -> None:
    repository = Repository(bus, snapshots=snapshots, snapshot_every=1)
    await deposit(repository, 3)
    with_it = await repository.load(Account, "1")
    await snapshots.drop()
    assert await repository.load(Account, "1") == with_it
    assert with_it.state == Account(balance=3)
    assert await Repository(bus).load(Account, "1") == with_it


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "other code"},
        {"event_id": "of another log"},
        {"position": 99},
        {"state": b'{"balance":"many"}'},
        {"state": b"\0"},
    ],
)
async def test_a_snapshot_that_does_not_fit_code_or_log_is_dropped(
    bus: Bus, snapshots: Snapshots, wrong: dict[str, Any]
) -> None:
    repository = Repository(bus, snapshots=snapshots, snapshot_every=1)
    await deposit(repository, 2)
    right = await kept(snapshots)
    await snapshots.drop("accounts.1")
    await snapshots.save(replace(right, **wrong))
    assert (await repository.load(Account, "1")).state == Account(balance=2)
    assert await snapshots.load("accounts.1") is None


async def test_an_older_snapshot_does_not_replace_a_newer_one(snapshots: Snapshots) -> None:
    newer = Snapshot(topic="a", version="1", position=5, event_id="x", state=b"1")
    await snapshots.save(newer)
    await snapshots.save(replace(newer, position=4))
    assert await snapshots.load("a") == newer
    await snapshots.save(replace(newer, version="2", position=4))
    assert (await kept(snapshots, "a")).position == 4


def versioned(version: str | None, add: Callable[[Any, Deposited], None]) -> type[Any]:
    """Return a class of always the same name and fields, that adds up by `add`."""
    members = {"__annotations__": {"total": int}, "total": 0, "add": add}
    return aggregate("versioned.{id}", version=version)(dataclass(type("Total", (), members)))


@applies(Deposited)
def once(state: Any, event: Deposited) -> None:
    state.total += event.amount


@applies(Deposited)
def twice(state: Any, event: Deposited) -> None:
    state.total += 2 * event.amount


@pytest.mark.parametrize(
    ("before", "after", "total"), [(None, None, 20), ("1", "2", 20), ("1", "1", 10)]
)
async def test_changed_code_takes_a_snapshot_only_if_its_author_says_so(
    bus: Bus, before: str | None, after: str | None, total: int
) -> None:
    repository = Repository(bus, snapshots=MemorySnapshots(), snapshot_every=1)
    async with repository.edit(versioned(before, once), "1") as old:
        emit(old, Deposited(10))
    changed = await repository.load(versioned(after, twice), "1")
    assert changed.state.total == total


async def test_a_class_without_fields_cannot_be_kept(bus: Bus) -> None:
    @aggregate("loose.{id}")
    class Loose:
        @applies(Opened)
        def opened(self, event: Opened) -> None: ...

    assert (await Repository(bus).load(Loose, "1")).position == 0
    with pytest.raises(ConfigError, match="dataclass"):
        await Repository(bus, snapshots=MemorySnapshots()).load(Loose, "1")


async def test_a_state_that_would_not_come_back_is_not_kept(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    @aggregate("lossy.{id}")
    @dataclass
    class Lossy:
        seen: object = None

        @applies(Deposited)
        def add(self, event: Deposited) -> None:
            self.seen = {1, 2, object}

    snapshots = MemorySnapshots()
    async with Repository(bus, snapshots=snapshots, snapshot_every=1).edit(Lossy, "1") as lossy:
        emit(lossy, Deposited(1))
    assert await snapshots.load("lossy.1") is None
    assert "no snapshot" in caplog.text


async def test_what_is_personal_is_never_kept_in_a_snapshot(bus: Bus) -> None:
    snapshots = MemorySnapshots()
    vault = Vault(MemoryKeys())
    repository = Repository(bus, snapshots=snapshots, snapshot_every=1, vault=vault)
    async with repository.edit(Customer, "1") as customer:
        customer.register("ann", "ann@example.org")
    assert await snapshots.load("customers.1") is None


async def test_an_edit_succeeds_although_its_snapshot_cannot_be_written(
    bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_snapshots(tmp_path / "snapshots.db") as snapshots:
        repository = Repository(bus, snapshots=snapshots, snapshot_every=1)
    await deposit(repository, 2)
    assert (await Repository(bus).load(Account, "1")).state.balance == 2
    assert "snapshot" in caplog.text


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "snapshots.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"snapshots\.db") as caught:
        async with open_snapshots(path):
            pass
    assert caught.value.path == str(path)
