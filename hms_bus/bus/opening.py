"""Opening a bus: find what the configuration names, open it, and close all in order."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from hms_bus.abc import Transport
from hms_bus.attributes import check_attribute
from hms_bus.bus import protocol
from hms_bus.bus.declarations import Declaration
from hms_bus.bus.requests import Inbox
from hms_bus.bus.routing import Link
from hms_bus.bus.runtime import Hooks, Runtime
from hms_bus.bus.sharing import shared_log
from hms_bus.config import BusConfig, check_log_url
from hms_bus.errors import ConfigError, DecodeError, TopicError
from hms_bus.ids import stamp
from hms_bus.plugins import get_codec, open_log, open_transport
from hms_bus.topics import parse_pattern


def check_plugins(config: BusConfig) -> None:
    """Find (and import) everything that `config` names. Raises `ConfigError`; opens nothing."""
    if config.source is not None:
        try:
            check_attribute("source", config.source)
        except DecodeError as error:
            raise ConfigError(f"source: {error}") from error
    codec = get_codec(config.codec)
    for url in (config.url, *config.routes.values()):
        open_transport(url, codec=codec)
    for pattern in (*config.routes, *config.logged):
        try:
            parse_pattern(pattern)
        except TopicError as error:
            raise ConfigError(f"routes or logged: {error}") from error
    if config.log is not None:
        open_log(check_log_url(config.log))


@asynccontextmanager
async def open_runtime(
    config: BusConfig, source: str, hooks: Hooks, declarations: Sequence[Declaration]
) -> AsyncGenerator[Runtime]:
    """Open the log and the transports, subscribe, and close all in order when the scope ends."""
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(shared_log(config.log)) if config.log else None
        links = await _open_links(stack, config)
        runtime = Runtime(config, source, hooks, links, log)
        stack.callback(runtime.deadlines.close)
        try:
            await runtime.start(declarations)
            yield runtime
        finally:
            await runtime.stop()


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
