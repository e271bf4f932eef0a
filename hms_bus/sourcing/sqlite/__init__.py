"""Views, snapshots, keys and an outbox in SQLite files."""

from hms_bus.sourcing.sqlite.keys import SqliteKeys, open_keys
from hms_bus.sourcing.sqlite.outbox import OUTBOX_TABLE, outbox_insert
from hms_bus.sourcing.sqlite.relaying import Relay, open_relay
from hms_bus.sourcing.sqlite.snapshots import SqliteSnapshots, open_snapshots
from hms_bus.sourcing.sqlite.views import SqliteViews, open_views

__all__ = [
    "OUTBOX_TABLE",
    "Relay",
    "SqliteKeys",
    "SqliteSnapshots",
    "SqliteViews",
    "open_keys",
    "open_relay",
    "open_snapshots",
    "open_views",
    "outbox_insert",
]
