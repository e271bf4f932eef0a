"""Accounts as aggregates: decided by events, projected into a table, and forgotten on request.

Ten tellers pay out of one account at once; each decides on what is true. A projection keeps the
balances in an SQLite file, its cursor beside them. The owner's name is sealed with a key of her
own: once it is deleted, nobody can read the name, and the log's chain is as sound as before.

Prints:
    7 paid, 3 refused
    accounts.42 0
    the rows again, from nothing: accounts.42 0
    owner Ann
    owner (shredded)
    the chain of 9 records is sound: True
"""

import asyncio
import sqlite3
from dataclasses import dataclass

from msgspec import Struct

from hms_bus import Bus, Record
from hms_bus.sourcing import (
    Projection,
    Repository,
    Shredded,
    Vault,
    aggregate,
    applies,
    emit,
    personal,
)
from hms_bus.sourcing.sqlite import SqliteViews, open_keys, open_views


@personal("customer", fields=["name"])
class Opened(Struct, frozen=True):
    """An account was opened; the name is sealed."""

    customer: str
    name: str | Shredded


class Moved(Struct, frozen=True):
    """Money came in, or went out."""

    amount: int


class NoMoneyError(Exception):
    """There is not enough."""


@aggregate("accounts.{id}")
@dataclass
class Account:
    """What the events of one account add up to."""

    owner: str | Shredded = ""
    balance: int = 0

    def open(self, customer: str, name: str) -> None:
        """Decide to open it."""
        emit(self, Opened(customer, name), Moved(70))

    def pay_out(self, amount: int) -> None:
        """Decide to pay out, or refuse."""
        if amount > self.balance:
            raise NoMoneyError
        emit(self, Moved(-amount))

    @applies(Opened)
    def opened(self, event: Opened) -> None:
        """Change the state."""
        self.owner = event.name

    @applies(Moved)
    def moved(self, event: Moved) -> None:
        """Change the state."""
        self.balance += event.amount


balances: Projection[sqlite3.Connection] = Projection("balances", "accounts.*")


@balances.setup
def create(rows: sqlite3.Connection) -> None:
    """Make the table before the first event."""
    rows.execute("CREATE TABLE balances (account TEXT PRIMARY KEY, balance INTEGER)")


@balances.reset
def drop(rows: sqlite3.Connection) -> None:
    """Remove the table before a rebuild."""
    rows.execute("DROP TABLE balances")


@balances.on(Moved)
def count(event: Moved, rows: sqlite3.Connection, record: Record) -> None:
    """Count one event, in one transaction with the cursor."""
    rows.execute(
        "INSERT INTO balances VALUES (?, ?) "
        "ON CONFLICT (account) DO UPDATE SET balance = balance + excluded.balance",
        (record.envelope.topic, event.amount),
    )


def show(title: str = "") -> None:
    """Read the table as any other program would."""
    connection = sqlite3.connect("views.db")
    for account, balance in connection.execute("SELECT account, balance FROM balances"):
        print(f"{title}{account} {balance}")
    connection.close()


async def pay(repository: Repository) -> bool:
    """Pay out 10, deciding again whenever another teller was faster."""
    try:
        await repository.change(Account, "42", lambda account: account.pay_out(10), attempts=20)
    except NoMoneyError:
        return False
    return True


async def project(bus: Bus, views: SqliteViews) -> None:
    """Bring the table up to date, look at it, and make it again from nothing."""
    await balances.run(bus.log, views)
    show()
    await balances.rebuild(bus.log, views)
    show("the rows again, from nothing: ")


async def main() -> None:
    """Open an account with 70, let ten tellers pay out 10 each, and look at what is left."""
    async with (
        Bus("direct://", log="sqlite:accounts.db", source="/agents/bank") as bus,
        open_keys("keys.db") as keys,
        open_views("views.db") as views,
    ):
        vault = Vault(keys)
        repository = Repository(bus, vault=vault)
        async with repository.edit(Account, "42") as account:
            account.open("customer-7", "Ann")
        paid = await asyncio.gather(*(pay(repository) for _ in range(10)))
        print(f"{paid.count(True)} paid, {paid.count(False)} refused")
        await project(bus, views)
        print("owner", (await repository.load(Account, "42")).state.owner)
        await vault.forget("customer-7")
        print("owner", (await repository.load(Account, "42")).state.owner)
        found = await bus.log.verify()
        print(f"the chain of {found.records} records is sound: {found.is_sound}")


if __name__ == "__main__":
    asyncio.run(main())
