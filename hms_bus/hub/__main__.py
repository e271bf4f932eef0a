"""`python -m hms_bus.hub`: the hub as clients start it; people use `hms-bus hub`."""

import argparse
import asyncio
import importlib
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from hms_bus.errors import BusError, HubLockedError
from hms_bus.hub.server import serve
from hms_bus.hub.settings import load_settings


def main() -> int:
    """Run a hub with the arguments of the process; return its exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = load_settings(
            arguments.config,
            listen=arguments.listen,
            log=arguments.log,
            tcp=arguments.tcp or None,
            idle_s=arguments.idle,
        )
        loop_runner()(serve(settings, spawned=arguments.spawned))
    except HubLockedError:
        return 0  # another one was quicker, and clients find that one
    except KeyboardInterrupt:
        return 130  # asked for twice: it does not wait for its clients any more
    except BusError as error:
        print(f"hms-bus hub: {error}", file=sys.stderr)  # noqa: T201 - the program's own words
        return 2
    return 0


def loop_runner() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return what runs the event loop: uvloop's where it is installed, else asyncio's."""
    try:
        return importlib.import_module("uvloop").run
    except ImportError:
        return asyncio.run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hms_bus.hub", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="URL")
    parser.add_argument("--log", metavar="URL")
    parser.add_argument("--config", metavar="FILE")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--idle", type=float, metavar="SECONDS")
    parser.add_argument("--spawned", action="store_true", help="end when no client is left")
    return parser


if __name__ == "__main__":
    sys.exit(main())
