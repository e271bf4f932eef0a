"""Packages that only some tools need: they come with an extra of this package."""

import importlib
from typing import Any

from hms_bus.errors import ConfigError


def need(module: str, *, extra: str, purpose: str) -> Any:
    """Import and return `module`. Raises `ConfigError` that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs the extra {extra!r}: pip install 'hms-bus[{extra}]'"
        ) from error
