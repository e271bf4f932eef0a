"""Counters of one subscription, and the picture of them that `Bus.stats` returns."""

from msgspec import Struct


class Counters:
    """What one subscription has done since it was opened. Changed in place by its lanes.

    A lane subtracts the time from `busy_ns` when it goes to work, and adds it when it is idle.
    """

    __slots__ = ("busy_ns", "dropped", "expired", "failed", "handled")

    def __init__(self) -> None:
        self.handled = self.failed = self.dropped = self.expired = self.busy_ns = 0


class SubscriptionStats(Struct, frozen=True, kw_only=True):
    """One subscription at one moment.

    `queued` messages wait, `in_progress` are in a handler. Of those that are through, `handled`
    succeeded, `failed` raised, `dropped` found the queue full and `expired` came too late.
    `mean_handler_s` is the time in the handler, waits included, divided by the messages.
    """

    pattern: str
    handler: str
    group: str | None
    queued: int
    in_progress: int
    handled: int
    failed: int
    dropped: int
    expired: int
    mean_handler_s: float


class BusStats(Struct, frozen=True, kw_only=True):
    """A bus at one moment: what it published, and each of its subscriptions."""

    published: int
    requests: int
    subscriptions: list[SubscriptionStats]

    @property
    def handled(self) -> int:
        """Messages that any handler has finished with success."""
        return sum(subscription.handled for subscription in self.subscriptions)
