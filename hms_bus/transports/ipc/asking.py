"""Asking a hub a question, without being one of those who talk through it."""

import asyncio
from typing import Any

from hms_bus import plugins
from hms_bus.errors import ConnectError, DisconnectedError
from hms_bus.transports.ipc.client import Client
from hms_bus.transports.ipc.opening import read_settings


async def ask(url: str, op: str, *, timeout_s: float = 5.0, **members: Any) -> dict[str, Any]:
    """Return the hub's answer to ASK (spec/ipc.md, "Other questions"); never starts a hub.

    Raises `ConfigError` for what is no `ipc://` URL, `ConnectError` when no hub is there, or it
    refuses, or does not answer, or ends meanwhile, and what it answers instead (`DeniedError`,
    `UnsupportedError`).
    """
    address = plugins.parse_address(url)
    client = Client(read_settings(address, plugins.get_codec("json"), spawns=False))
    try:
        async with asyncio.timeout(timeout_s):
            await client.open()
            return await client.ask(op, **members)
    except TimeoutError:
        text = f"{address.bare_url}: no answer within {timeout_s:g} s"
        raise ConnectError(text, url=address.bare_url) from None
    except DisconnectedError as error:
        text = f"{address.bare_url}: no answer: {error}"
        raise ConnectError(text, url=address.bare_url) from error
    finally:
        await client.close(politely=False)
