"""Forgetting a person: the log stays as it is, and nobody can read what was sealed."""

import stat
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.errors import ConfigError, StoreError
from hms_bus.sourcing import Repository, Shredded, Streams, Vault
from hms_bus.sourcing.sqlite import open_keys
from tests.support.sourced import Customer, Moved, Registered

EVENTS = [Registered, Moved]


def all_bytes(folder: Path) -> bytes:
    """Return what stands in all files of `folder`."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


async def test_a_forgotten_subject_is_unreadable_and_the_chain_is_sound(
    bus: Bus, tmp_path: Path
) -> None:
    ann = Registered(customer="ann", email="ann@example.org", address={"city": "Ulm"})
    bob = Registered(customer="bob", email="bob@example.org")
    async with open_keys(tmp_path / "keys.db") as keys:
        vault = Vault(keys)
        streams = Streams(bus, EVENTS, vault=vault)
        last = await streams.append("customers.1", [ann, Moved("ann", "Bonn"), bob], expect=0)
        before = await bus.log.head()
        assert (await streams.load("customers.1")).events == (ann, Moved("ann", "Bonn"), bob)
        assert await vault.forget("ann")
        gone = Shredded("ann")
        assert (await streams.load("customers.1")).events == (
            Registered(customer="ann", email=gone, address=gone),
            Moved("ann", gone),
            bob,
        )
        again = await streams.append("customers.1", [Moved("ann", "Kiel")], expect=last)
        assert (await streams.load("customers.1", first=again)).events == (Moved("ann", "Kiel"),)
        found = await bus.log.verify(expected=before)
        assert (found.problem, found.records) == (None, 4)


async def test_nothing_personal_reaches_the_disk_and_no_key_stays_on_it(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "keys").mkdir()
    async with (
        Bus("direct://", log=f"sqlite:{tmp_path / 'log' / 'events.db'}") as bus,
        open_keys(tmp_path / "keys" / "keys.db") as keys,
    ):
        vault = Vault(keys)
        ann = Registered(customer="ann", email="ann@example.org")
        await Streams(bus, EVENTS, vault=vault).append("customers.1", [ann], expect=0)
        secret = (await keys.provide(["ann"]))["ann"].secret
        assert b"customers.1" in all_bytes(tmp_path / "log")
        assert b"ann@example.org" not in all_bytes(tmp_path / "log")
        assert secret in all_bytes(tmp_path / "keys")
        await vault.forget("ann")
        assert secret not in all_bytes(tmp_path / "keys")


async def test_keys_outlive_the_process_and_belong_to_their_user(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    async with open_keys(path) as keys:
        made = await keys.provide(["ann", "bob"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert made["ann"].secret.hex() not in repr(made["ann"])
    async with open_keys(path) as keys:
        assert await keys.provide(["ann", "bob", "ann"]) == made
        ids = [key.id for key in made.values()]
        assert await keys.find([*ids, "unknown"]) == {key.id: key for key in made.values()}


async def test_what_one_forgets_is_unreadable_to_the_others_at_once(
    bus: Bus, tmp_path: Path
) -> None:
    async with open_keys(tmp_path / "keys.db") as ours, open_keys(tmp_path / "keys.db") as theirs:
        streams = Streams(bus, EVENTS, vault=Vault(ours))
        await streams.append("customers.1", [Moved("ann", "Ulm")], expect=0)
        assert (await streams.load("customers.1")).events == (Moved("ann", "Ulm"),)
        await Vault(theirs).forget("ann")
        assert (await streams.load("customers.1")).events == (Moved("ann", Shredded("ann")),)


async def test_an_aggregate_goes_on_without_what_was_forgotten(bus: Bus, tmp_path: Path) -> None:
    async with open_keys(tmp_path / "keys.db") as keys:
        vault = Vault(keys)
        repository = Repository(bus, vault=vault)
        async with repository.edit(Customer, "1") as customer:
            customer.register("ann", "ann@example.org")
            customer.register("bob", "bob@example.org")
        await vault.forget("ann")
        loaded = await repository.load(Customer, "1")
        assert loaded.state.emails == ["(shredded)", "bob@example.org"]


async def test_personal_events_need_a_vault(bus: Bus) -> None:
    with pytest.raises(ConfigError, match="vault"):
        Streams(bus, EVENTS)
    with pytest.raises(ConfigError, match="vault"):
        await Repository(bus).load(Customer, "1")


async def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.touch(mode=0o600)
    path.chmod(0o640)
    with pytest.raises(StoreError, match=r"mode 0640.*chmod 600 .*keys\.db"):
        async with open_keys(path):
            pass
    assert path.stat().st_size == 0


async def test_a_place_without_rights_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"keys\.db"):
        async with open_keys(tmp_path / "nowhere" / "keys.db"):
            pass
