"""`hms-bus replay`."""

from hms_bus.cli.replay.command import replay

__all__ = ["replay"]
