"""Which entries a log takes: a batch by batch decision on duplicates and on `expect`.

Shared by all logs, so that they decide alike. Nothing here does I/O.
"""

from collections.abc import Sequence
from typing import Protocol

from hms_bus.abc import Expect, Receipt
from hms_bus.errors import ConflictError
from hms_bus.log.documents import Entry


class Ledger(Protocol):
    """What a log's writer knows of all records before, those of the running batch included."""

    def find(self, source: str, id: str) -> int | None:  # noqa: A002 - the attribute's name
        """Return the position of the record with this (`source`, `id`)."""
        ...

    def last_on(self, topic: str) -> int:
        """Return the position of the topic's last record, 0 without one."""
        ...


def admit(
    entries: Sequence[Entry], expect: Expect, ledger: Ledger, head: int
) -> tuple[list[Receipt], list[Entry]]:
    """Decide on one batch: its receipts, and the entries to append behind position `head`.

    Changes nothing. A batch that the log holds already as a whole is answered with duplicates
    whatever `expect` says, so that a repeated append gets the answer that was lost. Raises
    `ConflictError`.
    """
    receipts: list[Receipt] = []
    fresh: list[Entry] = []
    inside: dict[tuple[str, str], int] = {}
    for entry in entries:
        position = ledger.find(entry.source, entry.id)
        if position is None and inside:
            position = inside.get((entry.source, entry.id))
        if position is not None:
            receipts.append(Receipt(id=entry.id, position=position, duplicate=True))
            continue
        fresh.append(entry)
        position = head + len(fresh)
        if len(entries) > 1:
            inside[entry.source, entry.id] = position
        receipts.append(Receipt(id=entry.id, position=position))
    if fresh and expect != "any":
        _check_last(entries[0].topic, 0 if expect == "none" else expect, ledger)
    return receipts, fresh


def _check_last(topic: str, expected: int, ledger: Ledger) -> None:
    actual = ledger.last_on(topic)
    if actual != expected:
        raise ConflictError(topic=topic, expected=expected, actual=actual)
