"""`hms-bus dlq`: what durables could not deliver."""

from hms_bus.cli.dlq.group import dlq

__all__ = ["dlq"]
