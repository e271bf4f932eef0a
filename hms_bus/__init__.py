"""hms-bus: an event-sourced message bus for agents."""

from hms_bus.__about__ import __version__
from hms_bus.abc import Receipt, Record, Selector
from hms_bus.attributes import new_envelope
from hms_bus.bus import Backoff, Bus, BusStats, Message, Reply, ReplyStream, retry, timeout
from hms_bus.config import BusConfig
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    ConflictError,
    DeadlineExceededError,
    DecodeError,
    NoRespondersError,
    QueueFullError,
    RemoteError,
    StatusError,
)
from hms_bus.replay.effects import effect

__all__ = [
    "Backoff",
    "Bus",
    "BusConfig",
    "BusError",
    "BusStats",
    "ConflictError",
    "DeadlineExceededError",
    "DecodeError",
    "Envelope",
    "Message",
    "NoRespondersError",
    "QueueFullError",
    "Receipt",
    "Record",
    "RemoteError",
    "Reply",
    "ReplyStream",
    "Selector",
    "StatusError",
    "__version__",
    "effect",
    "new_envelope",
    "retry",
    "timeout",
]
