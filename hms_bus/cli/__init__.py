"""The command line: `hms-bus`. The only part of the package that knows click and rich."""

from hms_bus.cli.app import main

__all__ = ["main"]
