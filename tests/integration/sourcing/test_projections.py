"""Projections over every kind of log: positions, transactions, rebuilds, catch-up then live."""

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hms_bus import Bus, Record, Selector
from hms_bus.abc import EventLog
from hms_bus.errors import (
    ConfigError,
    DecodeError,
    ProjectionError,
    StateError,
    StoreError,
    UsageError,
)
from hms_bus.log.tools import Rule, compact_in_place
from hms_bus.sourcing import (
    Cursors,
    Elsewhere,
    MemoryCursors,
    MemoryKeys,
    Projection,
    Streams,
    Vault,
    Views,
)
from hms_bus.sourcing.sqlite import open_keys, open_views
from tests.support import killed_projection
from tests.support.killed_projection import Last
from tests.support.sourced import Deposited, Opened, Registered, Rows, balances, rows_of


async def deposit(bus: Bus, count: int, account: str = "accounts.1") -> int:
    """Publish so many deposits of 1 and return the position of the last one."""
    receipts = await bus.publish_many([(account, Deposited(1))] * count)
    return receipts[-1].position or 0


async def place(cursors: Views[Any] | Cursors, name: str) -> tuple[int, int] | None:
    """Return the position and the version of a cursor."""
    cursor = await cursors.cursor(name)
    return None if cursor is None else (cursor.position, cursor.version)


async def test_rows_and_cursor_follow_from_the_log(bus: Bus, tmp_path: Path) -> None:
    await deposit(bus, 100)
    await bus.publish("other.1", Deposited(50))
    last = await deposit(bus, 5, "accounts.2")
    async with open_views(tmp_path / "views.db") as views:
        projection = balances()
        assert await projection.run(bus.log, views) == last
        assert rows_of(tmp_path / "views.db") == {"accounts.1": 100, "accounts.2": 5}
        assert await projection.run(bus.log, views) == last
        await deposit(bus, 1)
        assert await projection.run(bus.log, views) == last + 1
        assert rows_of(tmp_path / "views.db") == {"accounts.1": 101, "accounts.2": 5}


async def test_the_cursor_is_that_of_a_record_that_was_handled_and_never_the_end(
    bus: Bus, tmp_path: Path
) -> None:
    handled = await deposit(bus, 3)
    await bus.publish("other.1", Deposited(1))
    async with open_views(tmp_path / "views.db") as views:
        await balances().run(bus.log, views)
        assert await place(views, "balances") == (handled, 1)
        assert await views.cursor("another") is None


async def test_what_is_appended_is_caught_up_and_then_followed(bus: Bus, tmp_path: Path) -> None:
    await deposit(bus, 2000)
    async with open_views(tmp_path / "views.db") as views:
        async with balances().running(bus.log, views) as rows:
            await rows.reached(2000)
            for _ in range(5):
                receipt = await bus.publish("accounts.2", Deposited(1))
                assert receipt.position is not None
                await rows.reached(receipt.position)
                assert rows.position == receipt.position
            assert rows_of(tmp_path / "views.db") == {"accounts.1": 2000, "accounts.2": 5}
        assert await place(views, "balances") == (2005, 1)


async def test_publishing_under_a_running_projection_loses_and_doubles_nothing(
    bus: Bus, tmp_path: Path
) -> None:
    async with open_views(tmp_path / "views.db") as views:
        async with balances().running(bus.log, views) as rows:
            lasts = await asyncio.gather(
                *(deposit(bus, size, f"accounts.{size}") for size in range(1, 40))
            )
            await rows.reached(max(lasts))
        assert rows_of(tmp_path / "views.db") == {f"accounts.{n}": n for n in range(1, 40)}


async def test_a_failing_handler_stops_at_its_record_with_all_before_it_handled(
    bus: Bus, tmp_path: Path
) -> None:
    await deposit(bus, 5)
    bad = (await bus.publish("accounts.1", Opened("eve"))).position
    await deposit(bus, 5)
    projection = balances()
    fails = True

    @projection.on(Opened)
    def opened(event: Opened, rows: Rows) -> None:
        rows.execute("INSERT INTO balances VALUES ('half', 1)")
        if fails:
            raise ValueError(event.owner)

    async with open_views(tmp_path / "views.db") as views:
        for _ in range(2):
            with pytest.raises(ProjectionError, match="ValueError: eve") as caught:
                await projection.run(bus.log, views)
            assert (caught.value.position, caught.value.type) == (bad, "Opened")
            assert caught.value.topic == "accounts.1"
            assert caught.value.name == "balances"
            assert isinstance(caught.value.__cause__, ValueError)
            assert rows_of(tmp_path / "views.db") == {"accounts.1": 5}
            assert await place(views, "balances") == (5, 1)
        fails = False
        assert await projection.run(bus.log, views) == 11
        assert rows_of(tmp_path / "views.db") == {"accounts.1": 10, "half": 1}


async def test_a_payload_that_does_not_fit_stops_it_as_well(bus: Bus, tmp_path: Path) -> None:
    await bus.publish("accounts.1", {"amount": "much"}, type="Deposited")
    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(ProjectionError, match=r"\$\.amount|amount") as caught:
            await balances().run(bus.log, views)
    assert caught.value.position == 1


async def test_a_rebuild_gives_the_same_rows(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    await deposit(bus, 30)
    async with open_views(path) as views:
        await balances().run(bus.log, views)
        before = rows_of(path)
        assert await balances().rebuild(bus.log, views) == 30
        assert rows_of(path) == before


async def test_rows_of_an_older_version_are_to_be_rebuilt(bus: Bus, tmp_path: Path) -> None:
    await deposit(bus, 3)
    async with open_views(tmp_path / "views.db") as views:
        await balances().run(bus.log, views)
        newer = balances(version=2)
        with pytest.raises(UsageError, match="version 1"):
            await newer.run(bus.log, views)
        await newer.rebuild(bus.log, views)
        assert await place(views, "balances") == (3, 2)


async def test_rows_that_were_never_made_can_be_rebuilt(bus: Bus, tmp_path: Path) -> None:
    await deposit(bus, 3)
    async with open_views(tmp_path / "views.db") as views:
        assert await balances().rebuild(bus.log, views) == 3
    assert rows_of(tmp_path / "views.db") == {"accounts.1": 3}


async def test_a_projection_does_not_go_on_in_a_log_that_was_compacted(tmp_path: Path) -> None:
    log, path = tmp_path / "events.db", tmp_path / "views.db"
    async with open_views(path) as views:
        async with Bus("direct://", log=f"sqlite:{log}") as bus:
            await deposit(bus, 10)
            await balances().run(bus.log, views)
        await asyncio.to_thread(compact_in_place, log, [Rule(max_records=1)], by="/test")
        async with Bus("direct://", log=f"sqlite:{log}") as bus:
            with pytest.raises(StateError, match=r"position 10 .* rebuild"):
                await balances().run(bus.log, views)
            await deposit(bus, 20)
            with pytest.raises(StateError, match=r"position 10 .* rebuild"):
                await balances().run(bus.log, views, follow=True)
            assert rows_of(path) == {"accounts.1": 10}
            await balances().rebuild(bus.log, views)
            assert rows_of(path) == {"accounts.1": 21}


async def test_a_projection_goes_on_behind_a_compaction_that_left_its_place(
    tmp_path: Path,
) -> None:
    log, path = tmp_path / "events.db", tmp_path / "views.db"
    async with open_views(path) as views:
        async with Bus("direct://", log=f"sqlite:{log}") as bus:
            last = await deposit(bus, 10)
            await bus.publish("other.1", 1)
            await balances().run(bus.log, views)
        rule = Rule(pattern="other.>", max_records=0)
        await asyncio.to_thread(compact_in_place, log, [rule], by="/test")
        async with Bus("direct://", log=f"sqlite:{log}") as bus:
            await deposit(bus, 5)
            assert await balances().run(bus.log, views) > last
            assert rows_of(path) == {"accounts.1": 15}


async def test_what_cannot_remove_its_rows_cannot_be_rebuilt(bus: Bus, tmp_path: Path) -> None:
    projection: Projection[Rows] = Projection("bare")
    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(UsageError, match="reset"):
            await projection.rebuild(bus.log, views)


async def test_two_who_run_one_projection_do_not_count_twice(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    await deposit(bus, 500)
    async with open_views(path) as one, open_views(path) as other:
        await balances().run(bus.log, one)
        await deposit(bus, 3000)
        ends = await asyncio.gather(
            balances().run(bus.log, one), balances().run(bus.log, other), return_exceptions=True
        )
        refused = [end for end in ends if isinstance(end, Exception)]
        assert all(isinstance(end, StateError) for end in refused)
        assert len(refused) < 2
        await balances().run(bus.log, one)
    assert rows_of(path) == {"accounts.1": 3500}


async def test_a_handler_that_commits_is_found_out(bus: Bus, tmp_path: Path) -> None:
    await deposit(bus, 1)
    projection: Projection[Rows] = Projection("committing", "accounts.*")

    @projection.on(Deposited)
    def commit(event: Deposited, rows: Rows) -> None:
        rows.execute("COMMIT")

    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(StateError, match="transaction"):
            await projection.run(bus.log, views)
        assert await place(views, "committing") == (0, 1)


async def test_cancelling_leaves_rows_and_cursor_in_step(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    await deposit(bus, 5000)
    async with open_views(path) as views:
        for _ in range(10):
            task = asyncio.create_task(balances().run(bus.log, views))
            for _ in range(random.randint(1, 60)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            cursor = await views.cursor("balances")
            if cursor is not None:
                assert sum(rows_of(path).values()) == cursor.position
        assert await balances().run(bus.log, views) == 5000
    assert rows_of(path) == {"accounts.1": 5000}


async def test_personal_events_are_handled_opened_or_shredded(bus: Bus, tmp_path: Path) -> None:
    async with open_keys(tmp_path / "keys.db") as keys:
        vault = Vault(keys)
        streams = Streams(bus, [Registered], vault=vault)
        await streams.append(
            "customers.1",
            [Registered(customer=name, email=f"{name}@x") for name in ("ann", "bob")],
            expect=0,
        )
        seen: list[str] = []
        projection: Projection[list[str]] = Projection("emails", "customers.*", vault=vault)

        @projection.on(Registered)
        def registered(event: Registered, into: list[str]) -> None:
            into.append(str(event.email))

        await projection.run(bus.log, Elsewhere(seen))
        await vault.forget("ann")
        await projection.run(bus.log, Elsewhere(seen))
        assert seen == ["ann@x", "bob@x", "(shredded)", "bob@x"]


async def seal_two_and_change_the_second(bus: Bus, vault: Vault) -> int:
    """Append two personal events, and a third whose box is that of the second, changed."""
    streams = Streams(bus, [Registered], vault=vault)
    people = [Registered(customer=name, email=f"{name}@x") for name in ("ann", "bob")]
    await streams.append("customers.1", people, expect=0)
    data = (await streams.load("customers.1")).records[1].envelope.decode(dict[str, Any])
    data["email"]["box"] = data["email"]["box"][::-1]
    receipt = await bus.publish("customers.1", data, type="Registered")
    return receipt.position or 0


@pytest.mark.parametrize("is_transactional", [True, False])
async def test_a_box_that_does_not_open_stops_it_with_all_before_it_handled(
    bus: Bus, tmp_path: Path, *, is_transactional: bool
) -> None:
    vault = Vault(MemoryKeys())
    bad = await seal_two_and_change_the_second(bus, vault)
    projection: Projection[object] = Projection("emails", "customers.*", vault=vault)
    seen: list[object] = []

    @projection.on(Registered)
    def registered(event: Registered, target: object) -> None:
        seen.append(event.email)

    async with open_views(tmp_path / "views.db") as rows:
        views: Views[Any] = rows if is_transactional else Elsewhere(object())
        with pytest.raises(ProjectionError, match="not what was sealed") as caught:
            await projection.run(bus.log, views)
        assert caught.value.position == bad
        assert isinstance(caught.value.__cause__, DecodeError)
        assert seen == ["ann@x", "bob@x"]
        assert await place(views, "emails") == (bad - 1, 1)


async def test_what_is_not_personal_may_look_as_if_it_were_sealed(bus: Bus) -> None:
    projection: Projection[list[object]] = Projection("all", vault=Vault(MemoryKeys()))
    seen: list[object] = []

    @projection.on(Deposited)
    def deposited(event: Deposited, into: list[object]) -> None:
        into.append(event.amount)

    await bus.publish("foreign", {"note": {"$sealed": "by hand"}}, type="Foreign")
    await bus.publish("accounts.1", {"amount": 1, "note": {"$sealed": 1}}, type="Deposited")
    assert await projection.run(bus.log, Elsewhere(seen)) == 2
    assert seen == [1]


async def test_another_target_is_written_at_least_once_and_may_be_awaited(bus: Bus) -> None:
    await deposit(bus, 4)
    await bus.publish("accounts.1", Opened("eve"))
    cursors = MemoryCursors()
    seen: list[int] = []
    projection: Projection[list[int]] = Projection("seen", "accounts.*")

    @projection.setup
    async def clear(into: list[int]) -> None:
        into.clear()

    @projection.on(Deposited)
    async def deposited(event: Deposited, into: list[int], record: Record) -> None:
        await asyncio.sleep(0)
        into.append(record.position)

    @projection.on(Opened)
    async def opened(event: Opened, into: list[int]) -> None:
        raise KeyError(event.owner)

    for _ in range(2):
        with pytest.raises(ProjectionError, match="eve"):
            await projection.run(bus.log, Elsewhere(seen, cursors))
        assert seen == [1, 2, 3, 4]
        assert await place(cursors, "seen") == (4, 1)


async def test_cursors_of_other_targets_may_be_kept_in_a_file(bus: Bus, tmp_path: Path) -> None:
    seen: list[int] = []
    projection: Projection[list[int]] = Projection("seen", "accounts.*")

    @projection.on(Deposited)
    def deposited(event: Deposited, into: list[int]) -> None:
        into.append(event.amount)

    for _ in range(3):
        await deposit(bus, 2)
        async with open_views(tmp_path / "cursors.db") as cursors:
            await projection.run(bus.log, Elsewhere(seen, cursors))
    assert seen == [1] * 6


@pytest.mark.parametrize("where", ["memory", "file"])
async def test_two_who_run_one_projection_elsewhere_are_found_out(
    bus: Bus, tmp_path: Path, where: str
) -> None:
    both = asyncio.Barrier(2)
    seen: list[int] = []
    projection: Projection[list[int]] = Projection("seen", "accounts.*")

    @projection.on(Deposited)
    async def deposited(event: Deposited, into: list[int]) -> None:
        if not into:
            await both.wait()
        into.append(event.amount)

    async with open_views(tmp_path / "cursors.db") as file:
        views = Elsewhere(seen, file if where == "file" else MemoryCursors())
        await projection.run(bus.log, views)
        await deposit(bus, 1)
        ends = await asyncio.gather(
            projection.run(bus.log, views), projection.run(bus.log, views), return_exceptions=True
        )
        assert sorted(map(type, ends), key=str) == [StateError, int]
        assert seen == [1, 1]
        await deposit(bus, 1)
        assert await projection.run(bus.log, views) == 2
        assert seen == [1, 1, 1]


class OneByOne:
    """A log of another maker, which has no `read_batches`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        return self._log.read(selector, follow=follow)

    def __getattr__(self, name: str) -> object:
        if name == "read_batches":
            raise AttributeError(name)
        return getattr(self._log, name)


async def test_a_log_that_reads_one_by_one_will_do(bus: Bus, tmp_path: Path) -> None:
    await deposit(bus, 3000)
    log: EventLog = OneByOne(bus.log)  # type: ignore[assignment]
    async with open_views(tmp_path / "views.db") as views:
        assert await balances().run(log, views) == 3000
        async with balances().running(log, views) as rows:
            await rows.reached(await deposit(bus, 2))
        assert rows_of(tmp_path / "views.db") == {"accounts.1": 3002}


async def test_who_waits_for_a_projection_learns_that_it_failed(bus: Bus, tmp_path: Path) -> None:
    projection = balances()

    @projection.on(Opened)
    def opened(event: Opened, rows: Rows) -> None:
        raise ValueError(event.owner)

    async def wait() -> None:
        async with projection.running(bus.log, views) as rows:
            await bus.publish("accounts.1", Opened("eve"))
            with pytest.raises(ProjectionError):
                await rows.reached(1)

    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(ProjectionError, match="eve"):
            await wait()


def test_a_declaration_that_cannot_work_is_refused() -> None:
    projection: Projection[Rows] = Projection("declared")

    def too_few(event: Deposited) -> None: ...
    def handler(event: Deposited, rows: Rows) -> None: ...

    with pytest.raises(ConfigError, match="parameters"):
        projection.on(Deposited)(too_few)
    projection.on(Deposited)(handler)
    with pytest.raises(ConfigError, match="already"):
        projection.on(Deposited)(handler)
    with pytest.raises(ConfigError, match="name"):
        Projection("")


async def test_what_is_awaited_and_what_is_personal_is_checked_before_it_runs(
    bus: Bus, tmp_path: Path
) -> None:
    awaited: Projection[Rows] = Projection("awaited")
    sealed: Projection[Rows] = Projection("sealed")

    @awaited.on(Deposited)
    async def deposited(event: Deposited, rows: Rows) -> None: ...

    @sealed.on(Registered)
    def registered(event: Registered, rows: Rows) -> None: ...

    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(ConfigError, match="asynchronous"):
            await awaited.run(bus.log, views)
        with pytest.raises(ConfigError, match="vault"):
            await sealed.run(bus.log, views)


class Awaited:
    """A handler that is an object, and asynchronous."""

    def __init__(self, seen: list[object]) -> None:
        self.seen = seen

    async def __call__(self, event: Deposited, target: object) -> None:
        await asyncio.sleep(0)
        self.seen.append(event)


@pytest.mark.parametrize("is_partial", [False, True])
async def test_an_object_that_is_awaited_is_told_before_it_runs(
    bus: Bus, tmp_path: Path, *, is_partial: bool
) -> None:
    seen: list[object] = []
    handler = partial(Awaited(seen)) if is_partial else Awaited(seen)
    projection: Projection[object] = Projection("awaited")
    projection.on(Deposited)(handler)
    await deposit(bus, 3)
    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(ConfigError, match="Awaited is asynchronous"):
            await projection.run(bus.log, views)
        assert await views.cursor("awaited") is None
    assert await projection.run(bus.log, Elsewhere(object())) == 3
    assert len(seen) == 3


async def test_what_turns_out_to_be_awaited_fails_and_moves_no_cursor(
    bus: Bus, tmp_path: Path
) -> None:
    handler = Awaited([])
    hidden: Projection[Rows] = Projection("hidden")
    prepared: Projection[Rows] = Projection("prepared")

    @hidden.on(Deposited)
    def deposited(event: Deposited, rows: Rows) -> Awaitable[None]:
        return handler(event, rows)

    @prepared.setup
    def create(rows: Rows) -> Awaitable[None]:
        return handler(Deposited(1), rows)

    await deposit(bus, 3)
    async with open_views(tmp_path / "views.db") as views:
        with pytest.raises(ProjectionError, match="asynchronous") as caught:
            await hidden.run(bus.log, views)
        assert caught.value.position == 1
        assert await place(views, "hidden") == (0, 1)
        with pytest.raises(ConfigError, match="asynchronous"):
            await prepared.run(bus.log, views)
        assert await views.cursor("prepared") is None
    assert await hidden.run(bus.log, Elsewhere(sqlite3.connect(":memory:"))) == 3
    assert len(handler.seen) == 3


async def test_a_closed_or_broken_file_says_so(bus: Bus, tmp_path: Path) -> None:
    async with open_views(tmp_path / "views.db") as views:
        pass
    with pytest.raises(StateError, match="closed"):
        await balances().run(bus.log, views)
    with pytest.raises(StoreError):
        async with open_views(tmp_path):
            pass
    async with open_views(tmp_path / "views.db") as views:
        other = sqlite3.connect(tmp_path / "views.db")
        other.execute("DROP TABLE hms_cursors")
        other.close()
        with pytest.raises(StoreError, match="hms_cursors"):
            await balances().run(bus.log, views)


@pytest.mark.timeout(120)
async def test_kill_9_in_the_middle_of_a_transaction_counts_nothing_twice(tmp_path: Path) -> None:
    log_url, views_path = f"sqlite:{tmp_path / 'events.db'}", tmp_path / "views.db"
    deadly = sorted(random.sample(range(2, 3000), 6))
    async with Bus("direct://", log=log_url) as bus:
        await bus.publish_many(
            [
                ("accounts.1", Last(0) if position in deadly else Deposited(1))
                for position in range(1, 3001)
            ]
        )
    for position in deadly:
        ended = await run_killed(f"{log_url}?readonly=true", views_path, position)
        assert ended == -signal.SIGKILL
        # Whole batches only, and the one that was under way is not among them.
        assert "never" not in rows_of(views_path)
    assert await run_killed(f"{log_url}?readonly=true", views_path, 0) == 0
    assert rows_of(views_path) == {"accounts.1": 3000 - len(deadly)}


async def run_killed(log_url: str, views_path: Path, position: int) -> int:
    """Run the projection in a process that dies at `position`; return how it ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        killed_projection.__name__,
        log_url,
        str(views_path),
        str(position),
        stdout=subprocess.DEVNULL,
    )
    return await process.wait()
