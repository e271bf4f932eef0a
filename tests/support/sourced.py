"""The events and aggregates that tests of event sourcing share."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from hms_bus.abc import Record
from hms_bus.sourcing import (
    Projection,
    Shredded,
    aggregate,
    applies,
    emit,
    event,
    personal,
    upcast,
)


class Opened(Struct, frozen=True):
    owner: str


class Deposited(Struct, frozen=True):
    amount: int


class Withdrawn(Struct, frozen=True):
    amount: int


class OverdrawnError(Exception):
    pass


@aggregate("accounts.{id}")
@dataclass
class Account:
    owner: str = ""
    balance: int = 0

    def open(self, owner: str) -> None:
        emit(self, Opened(owner))

    def deposit(self, amount: int) -> None:
        emit(self, Deposited(amount))

    def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise OverdrawnError
        emit(self, Withdrawn(amount))
        return self.balance

    @applies(Opened)
    def opened(self, event: Opened) -> None:
        self.owner = event.owner

    @applies(Deposited, Withdrawn)
    def moved(self, event: Deposited | Withdrawn) -> None:
        self.balance += event.amount if isinstance(event, Deposited) else -event.amount


@personal("customer", fields=["email", "address"])
class Registered(Struct, frozen=True):
    customer: str
    email: str | Shredded
    address: dict[str, str] | Shredded | None = None
    newsletter: bool = False


@personal("customer")
@event(version=2)
@dataclass(frozen=True)
class Moved:
    customer: str
    city: str | Shredded


@upcast(Moved, version=1)
def _(data: dict[str, object]) -> dict[str, object]:
    return {"customer": data["who"], "city": data["city"]}


@aggregate("customers.{id}")
@dataclass
class Customer:
    emails: list[str] = field(default_factory=list[str])

    def register(self, customer: str, email: str) -> None:
        emit(self, Registered(customer=customer, email=email))

    @applies(Registered)
    def registered(self, event: Registered) -> None:
        self.emails.append(str(event.email))


Rows = sqlite3.Connection


def balances(name: str = "balances", *, version: int = 1) -> Projection[Rows]:
    """Return a projection of deposits into the table `balances`: a row for each account."""
    projection: Projection[Rows] = Projection(name, "accounts.*", version=version)

    @projection.setup
    def create(rows: Rows) -> None:
        rows.execute("CREATE TABLE balances (account TEXT PRIMARY KEY, balance INTEGER NOT NULL)")

    @projection.reset
    def drop(rows: Rows) -> None:
        rows.execute("DROP TABLE balances")

    @projection.on(Deposited)
    def deposited(event: Deposited, rows: Rows, record: Record) -> None:
        rows.execute(
            "INSERT INTO balances VALUES (?, ?) "
            "ON CONFLICT (account) DO UPDATE SET balance = balance + excluded.balance",
            (record.envelope.topic, event.amount),
        )

    return projection


def rows_of(path: Path) -> dict[str, int]:
    """Return what another process reads in the table `balances`."""
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("SELECT account, balance FROM balances ORDER BY account"))
    finally:
        connection.close()
