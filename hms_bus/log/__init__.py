"""Logs: an append-only, hash-chained sequence of envelopes, in memory or in a SQLite file."""

from hms_bus.log.heads import format_head, parse_head

__all__ = ["format_head", "parse_head"]
