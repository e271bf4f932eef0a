"""Opening `ipc://NAME` and `ipc:///PATH.sock`: options, and the scope of the connection.

| option | |
|---|---|
| `spawn=false` | do not start a hub when there is none |
| `log=URL` | the log that the hub shall keep (a bus's `log=` ends up here) |
| `idle=30s` | how long a hub that this client starts stays without clients |
| `token=TEXT` | who this client is; without one, what `HMS_BUS_TOKEN` says. Then it starts no hub |
| `owner=UID` | the user whose hub may be there, besides our own and root |
| `tcp=true` | let a hub that this client starts listen on loopback TCP |
| `timeout=10s` | how long to try to connect |
| `buffer=8388608` | bytes that are kept while there is no connection |
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from msgspec.structs import replace

from hms_bus import plugins
from hms_bus.abc import Codec
from hms_bus.durations import parse_duration
from hms_bus.errors import ConfigError
from hms_bus.ipc.places import find_place
from hms_bus.plugins import Address
from hms_bus.transports.ipc.client import Client, Settings
from hms_bus.transports.ipc.spawning import SpawnOptions
from hms_bus.transports.ipc.transport import IpcTransport

OPTIONS = ("spawn", "log", "idle", "token", "owner", "tcp", "timeout", "buffer")


class IpcOpener:
    """Contract: `hms_bus.plugins.TransportOpener`, `hms_bus.plugins.KeepsLogs`."""

    def __call__(
        self, address: Address, *, codec: Codec
    ) -> AbstractAsyncContextManager[IpcTransport]:
        """Return the scope of a connection to the hub; it is started if there is none.

        Raises `ConfigError`. Entering the scope raises `ConnectError` when there is no hub and none
        can be started, or when it refuses.
        """
        return _scope(read_settings(address, codec), codec)

    def with_log(self, address: Address, log: Address) -> Address:
        """Return the address of the hub with `log` behind it. Raises `ConfigError` for another."""
        options = dict(address.options)
        if options.get("log", log.url) != log.url:
            raise ConfigError(
                f"{address.bare_url!r} names the log {options['log']}, and log= {log.url}: leave "
                "out one"
            )
        options["log"] = log.url
        return plugins.parse_address(f"{address.bare_url}?{urlencode(options)}")


open_ipc = IpcOpener()


@asynccontextmanager
async def _scope(settings: Settings, codec: Codec) -> AsyncGenerator[IpcTransport]:
    if settings.log is not None:
        # The hub has another working folder. Asking for ours may block.
        log = await asyncio.to_thread(plugins.absolute_log, settings.log)
        settings = replace(settings, log=log)
    client = Client(settings)
    transport = IpcTransport(client, codec)
    try:
        await client.open()
        yield transport
    finally:
        await transport.close()


def read_settings(address: Address, codec: Codec, *, spawns: bool = True) -> Settings:
    """Read the URL of a hub. Raises `ConfigError`."""
    options = address.only(*OPTIONS)
    log = options.get("log")
    if log is not None:
        plugins.open_log(log)  # finds what is wrong with it, and opens nothing
    if not address.url.lower().startswith("ipc://"):
        bare = address.bare_url
        raise ConfigError(
            f"{bare!r} is no place of a hub: did you mean ipc://{address.path.strip('/')}?"
        )
    token = options.get("token") or os.environ.get("HMS_BUS_TOKEN") or None
    spawn = _spawn_options(address)
    place = replace(find_place(address.path), owner=_uid(address))
    return Settings(
        url=address.bare_url,
        place=place,
        codecs=(codec.name, *(name for name in _CODECS if name != codec.name)),
        name=f"{Path(sys.argv[0]).name or 'python'}[{os.getpid()}]",
        token=token,
        log=log,
        # Who has a token expects a hub that asks for it; one that we start would let in anybody.
        spawn=spawn if spawns and token is None else None,
        connect_timeout_s=_duration(address, "timeout", 10.0),
        max_buffer_bytes=_count(address, "buffer", 8 * 2**20),
    )


_CODECS = ("json", "cbor", "protobuf")


def _spawn_options(address: Address) -> SpawnOptions | None:
    tcp = _switch(address, "tcp", otherwise=False)
    idle = address.options.get("idle")
    if not _switch(address, "spawn", otherwise=True):
        return None
    arguments = list[str]()
    if idle is not None:
        arguments += ["--idle", str(_duration(address, "idle", 30.0))]
    if tcp:
        arguments += ["--tcp"]
    return SpawnOptions(arguments=tuple(arguments))


def _switch(address: Address, name: Literal["spawn", "tcp"], *, otherwise: bool) -> bool:
    match address.options.get(name):
        case None:
            return otherwise
        case "true":
            return True
        case "false":
            return False
        case other:
            raise ConfigError(f"{address.bare_url!r}: {name} is true or false, not {other!r:.40}")


def _duration(address: Address, name: str, otherwise: float) -> float:
    text = address.options.get(name)
    try:
        return otherwise if text is None else parse_duration(text)
    except ConfigError as error:
        raise ConfigError(f"{address.bare_url!r}: {name}: {error}") from error


def _count(address: Address, name: str, otherwise: int) -> int:
    text = address.options.get(name)
    if text is None:
        return otherwise
    if not text.isdecimal() or len(text) > 15:  # noqa: PLR2004 - a petabyte
        raise ConfigError(f"{address.bare_url!r}: {name} is a number of bytes, not {text!r:.40}")
    return int(text)


def _uid(address: Address) -> int | None:
    text = address.options.get("owner")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 10:  # noqa: PLR2004 - 32 bits
        raise ConfigError(
            f"{address.bare_url!r}: owner is the number of a user, as `id -u` tells it, "
            f"not {text!r:.40}"
        )
    return int(text)
