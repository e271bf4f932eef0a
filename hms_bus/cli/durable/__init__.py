"""`hms-bus durable`: the durable subscriptions of a log."""

from hms_bus.cli.durable.group import durable

__all__ = ["durable"]
