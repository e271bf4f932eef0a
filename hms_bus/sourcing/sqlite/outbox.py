"""The outbox: an application's rows and the messages about them, in one transaction of its own.

    with connection:
        connection.execute("INSERT INTO orders …")
        connection.execute(*outbox_insert("orders.1", Ordered(1), source="/agents/shop"))

The messages wait in the table `hms_outbox` of the application's file until a `Relay` has published
them. Their ids are made here, so a log that is told twice keeps each once.
"""

from typing import Any, Unpack, cast

from msgspec import UNSET

from hms_bus import jsonformat
from hms_bus.bus import PublishOptions
from hms_bus.bus.composing import Composer
from hms_bus.errors import ConfigError
from hms_bus.sourcing.personal import personal_fields
from hms_bus.topics import check_topic

OUTBOX_TABLE = """
CREATE TABLE IF NOT EXISTS hms_outbox (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, document BLOB NOT NULL
)
"""
"""The statement that makes the outbox in a file that has none."""

_INSERT = "INSERT INTO hms_outbox (id, document) VALUES (?, ?)"
_ANY_HOPS = 2**31 - 1
"""The bus that publishes the message says how many hops are too many."""


def outbox_insert(
    topic: str, data: Any = UNSET, *, source: str, **options: Unpack[PublishOptions]
) -> tuple[str, tuple[str, bytes]]:
    """Return the statement, and the values in it, that let a message go out with a transaction.

    For `execute` of any SQLite library, blocking or not. The first of the values is the message's
    id. `options` are those of `Bus.publish`. Within a handler the message is caused by the one that
    is being handled. Raises `TopicError`, `EncodeError`, and `ConfigError` for a personal event,
    which would wait unsealed.
    """
    cls = cast("type[object]", type(data))
    if personal_fields(cls):
        raise ConfigError(f"{cls.__name__} is personal: an outbox would keep it in the clear")
    composer = Composer(source=source, max_hops=_ANY_HOPS)
    envelope = composer.with_options(check_topic(topic), data, options)
    return _INSERT, (envelope.id, jsonformat.encode(envelope))
