"""Event sourcing on the bus's log: streams, aggregates, snapshots, projections, personal data.

What keeps something in SQLite files stands in `hms_bus.sourcing.sqlite`.
"""

from hms_bus.sourcing.aggregates import aggregate, applies, emit, recording
from hms_bus.sourcing.events import event, event_type, upcast
from hms_bus.sourcing.following import Following
from hms_bus.sourcing.keys import Key, Keys, MemoryKeys
from hms_bus.sourcing.personal import Shredded, personal
from hms_bus.sourcing.projections import Projection
from hms_bus.sourcing.repository import Loaded, Repository
from hms_bus.sourcing.snapshots import MemorySnapshots, Snapshot, Snapshots
from hms_bus.sourcing.streams import Stream, Streams, decide_again
from hms_bus.sourcing.vault import Vault
from hms_bus.sourcing.views import Cursor, Cursors, Elsewhere, MemoryCursors, Views

__all__ = [
    "Cursor",
    "Cursors",
    "Elsewhere",
    "Following",
    "Key",
    "Keys",
    "Loaded",
    "MemoryCursors",
    "MemoryKeys",
    "MemorySnapshots",
    "Projection",
    "Repository",
    "Shredded",
    "Snapshot",
    "Snapshots",
    "Stream",
    "Streams",
    "Vault",
    "Views",
    "aggregate",
    "applies",
    "decide_again",
    "emit",
    "event",
    "event_type",
    "personal",
    "recording",
    "upcast",
]
