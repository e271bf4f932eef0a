"""Running a hub in the foreground."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from hms_bus.cli.commands import DEBUG
from hms_bus.cli.hub.naming import listening_url
from hms_bus.cli.log.opening import to_url
from hms_bus.cli.running import report_on_stderr
from hms_bus.cli.screen import note
from hms_bus.config import read_toml
from hms_bus.hub.__main__ import loop_runner
from hms_bus.hub.server import serve
from hms_bus.hub.settings import HubSettings, load_settings
from hms_bus.plugins import absolute_log


def serve_here(
    *, listen: str | None, log: str | None, config: Path | None, tcp: bool, quiet: bool
) -> None:
    """Be the hub until a signal or `hub stop`. Blocks. Raises what `hms_bus.hub` raises."""
    report_on_stderr(debugging=bool(click.get_current_context().meta.get(DEBUG)))
    settings = load_hub_settings(listen=listen, log=log, config=config, tcp=tcp)

    def announce(url: str) -> None:
        note(f"hub {os.getpid()} listens at {url}")
        if sys.stderr.isatty():
            note(f"  an agent joins with Bus({url!r}), a shell with HMS_BUS_URL={url}")
            note(f"  hms-bus hub top {url} shows what it does; Ctrl-C drains and ends it")

    loop_runner()(serve(settings, ready=None if quiet else announce))


def load_hub_settings(
    *, listen: str | None, log: str | None, config: Path | None, tcp: bool = False
) -> HubSettings:
    """Return the settings: options, the file, where the configured bus is, defaults.

    The log's path counts from the working folder. Raises `ConfigError`, `UsageError`.
    """
    written: dict[str, Any] = {} if config is None else read_toml(config)
    return load_settings(
        config,
        listen=listening_url(listen) if listen or "listen" not in written else None,
        log=None if log is None else absolute_log(to_url(log)),
        tcp=tcp or None,
    )
