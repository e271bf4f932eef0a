"""`hms-bus log`: everything that is done with a log from a shell."""

from hms_bus.cli.log.group import log

__all__ = ["log"]
