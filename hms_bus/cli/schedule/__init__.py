"""`hms-bus schedule`: the messages that a log keeps for later."""

from hms_bus.cli.schedule.group import schedule

__all__ = ["schedule"]
