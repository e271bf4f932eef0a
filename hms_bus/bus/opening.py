"""Opening a bus: find what the configuration names, open it, and close all in order."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec.structs import replace

from hms_bus.abc import Transport
from hms_bus.attributes import check_attribute
from hms_bus.bus import context, protocol
from hms_bus.bus.declarations import Declaration
from hms_bus.bus.requests import Inbox
from hms_bus.bus.routing import Link
from hms_bus.bus.runtime import Hooks, Runtime
from hms_bus.bus.sharing import shared_log
from hms_bus.config import BusConfig, check_log_url
from hms_bus.errors import ConfigError, DecodeError, TopicError
from hms_bus.ids import stamp
from hms_bus.plugins import absolute_log, behind, get_codec, open_log, open_transport
from hms_bus.topics import parse_pattern


def check_plugins(config: BusConfig) -> None:
    """Find (and import) everything that `config` names. Raises `ConfigError`; opens nothing."""
    if config.source is not None:
        try:
            check_attribute("source", config.source)
        except DecodeError as error:
            raise ConfigError(f"source: {error}") from error
    codec = get_codec(config.codec)
    kept = None
    if config.log is not None:
        open_log(check_log_url(config.log))
        kept = behind(config.url, config.log)
    for url in (kept or config.url, *config.routes.values()):
        open_transport(url, codec=codec)
    for pattern in (*config.routes, *config.logged):
        try:
            parse_pattern(pattern)
        except TopicError as error:
            raise ConfigError(f"routes or logged: {error}") from error


@asynccontextmanager
async def open_runtime(
    config: BusConfig, source: str, hooks: Hooks, declarations: Sequence[Declaration]
) -> AsyncGenerator[Runtime]:
    """Open the log and the transports, subscribe, and close all in order when the scope ends."""
    config = await _log_placed(config)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(shared_log(config.log)) if config.log else None
        opener = context.opener.set(source)
        try:
            links = await _open_links(stack, config)
        finally:
            context.opener.reset(opener)
        runtime = Runtime(config, source, hooks, links, log)
        stack.callback(runtime.deadlines.close)
        try:
            await runtime.start(declarations)
            yield runtime
        finally:
            await runtime.stop()


async def _log_placed(config: BusConfig) -> BusConfig:
    """Return `config` with its log behind the default transport, if that is one that keeps logs.

    Then no log is opened here, and what is routed to other transports is not logged.
    """
    if config.log is None or behind(config.url, config.log) is None:
        return config
    # The hub may run in another folder; asking for ours blocks.
    log = await asyncio.to_thread(absolute_log, config.log)
    url = behind(config.url, log) or config.url
    routes = {
        pattern: url if routed == config.url else routed
        for pattern, routed in config.routes.items()
    }
    return replace(config, url=url, routes=routes, log=None)


async def _open_links(stack: AsyncExitStack, config: BusConfig) -> list[Link]:
    """Open each transport once, also when several routes lead to it; the default comes last."""
    codec = get_codec(config.codec)
    opened: dict[str, tuple[Transport, Inbox]] = {}
    for url in (*config.routes.values(), config.url):
        if url not in opened:
            transport = await stack.enter_async_context(open_transport(url, codec=codec))
            opened[url] = transport, Inbox(f"{protocol.INBOX_PREFIX}{stamp()[0]}")
    return [
        Link(
            url=url,
            transport=opened[url][0],
            inbox=opened[url][1],
            pattern=None if pattern is None else parse_pattern(pattern),
        )
        for pattern, url in [*config.routes.items(), (None, config.url)]
    ]
