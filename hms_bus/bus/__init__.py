"""The bus: publishing, subscribing, requests and streams over any transport."""

from hms_bus.abc import Overflow
from hms_bus.bus.bus import Bus
from hms_bus.bus.composing import PublishOptions, SendOptions
from hms_bus.bus.declarations import DurableSettings
from hms_bus.bus.message import Message
from hms_bus.bus.middleware import (
    Handler,
    Middleware,
    Publish,
    PublishMiddleware,
    retry,
    timeout,
)
from hms_bus.bus.redelivery import Backoff
from hms_bus.bus.requests import Reply, ReplyStream
from hms_bus.bus.stats import BusStats, SubscriptionStats
from hms_bus.bus.streams import MessageStream

__all__ = [
    "Backoff",
    "Bus",
    "BusStats",
    "DurableSettings",
    "Handler",
    "Message",
    "MessageStream",
    "Middleware",
    "Overflow",
    "Publish",
    "PublishMiddleware",
    "PublishOptions",
    "Reply",
    "ReplyStream",
    "SendOptions",
    "SubscriptionStats",
    "retry",
    "timeout",
]
