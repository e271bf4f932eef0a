"""What a check works on: buses that share an address, a log, and names that nobody else uses."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from hms_bus.abc import Capability, Codec, EventLog
from hms_bus.bus import Bus
from hms_bus.errors import ConfigError
from hms_bus.plugins import absolute_log, behind, get_codec, open_log, open_transport, parse_address
from hms_bus.testing.conformance.apart import Line
from hms_bus.testing.conformance.remote import LocalBus, Publisher


class Subject:
    """One check's view of what is tested. Opens nothing by itself.

    `given_url` is the address as it was asked for, `url` one that several buses can share, `codec`
    the codec that is sent (and, in the checks of codecs, proven). The buses of a check live on
    different connections, and with a `line` its publishers in another process: a check must not
    rely on the identity of objects, nor on effects before it has waited for them.
    """

    def __init__(
        self,
        url: str,
        *,
        codec: str = "json",
        log: str | None = None,
        folder: Path | None = None,
        patience_s: float = 10.0,
        line: Line | None = None,
    ) -> None:
        """Fill `{name}` and `{folder}` in the URLs. Raises `ConfigError` for what is no URL."""
        self.name = f"c{secrets.token_hex(6)}"
        self.patience_s = patience_s
        self.codec: Codec = get_codec(codec)
        self.given_url = self._fill(url, folder)
        self.url = _shareable(self.given_url, self.name)
        self.log_url = None if log is None else self._fill(log, folder)
        self._line = line

    def _fill(self, url: str, folder: Path | None) -> str:
        if "{folder}" in url and folder is None:
            raise ConfigError(f"{url!r} asks for a folder, and none is given")
        return url.replace("{name}", self.name).replace("{folder}", str(folder))

    def topic(self, rest: str) -> str:
        """Return the topic (or pattern) `rest` below a token of this check's own."""
        return f"{self.name}.{rest}"

    @property
    def source(self) -> str:
        """A sender's name that no other check uses."""
        return f"/conformance/{self.name}"

    def bus(self, **settings: Any) -> Bus:
        """Return a bus at the shared address, not open yet, without a log."""
        return Bus.from_config(self._defaults | settings, environment={})

    def publisher(self, **settings: Any) -> Bus:
        """Return a bus at the shared address, with the log if there is one: one in each check.

        When the suite runs apart it lives in another process, unless it is given a handler or
        middleware before it is opened: these cannot be sent there. What it is given is pickled, so
        the classes of payloads are those of a module; and it tells no `stats`.
        """
        given = self._defaults | {"log": self.log_url} | settings
        bus = LocalBus.from_config(given, environment={})
        if self._line is None:
            return bus
        return cast("Bus", Publisher(bus, self._line))  # it has what a check needs of one

    @property
    def _defaults(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "codec": self.codec.name,
            "request_timeout_s": self.patience_s,
            "drain_timeout_s": self.patience_s,
        }

    @asynccontextmanager
    async def open_log(self) -> AsyncGenerator[EventLog]:
        """Open the log: beside the transport, unless it is the transport that keeps it."""
        url = self.url
        if self.log_url is not None:
            log = await asyncio.to_thread(absolute_log, self.log_url)
            kept = behind(self.url, log)
            if kept is None:
                async with open_log(self.log_url) as log:
                    yield log
                return
            url = kept
        async with open_transport(url, codec=self.codec) as transport:
            if transport.log is None:
                raise ConfigError(f"there is no log behind {self.url!r}, and none was given")
            yield transport.log

    async def claims(self) -> frozenset[Capability]:
        """Return the capabilities of the transport at the given address and of the log."""
        async with open_transport(self.given_url, codec=self.codec) as transport:
            claimed = transport.capabilities
            if self.log_url is None and transport.log is None:
                return claimed
        async with self.open_log() as log:
            return claimed | log.capabilities


def _shareable(url: str, name: str) -> str:
    """Name the address of a transport that is private to its bus as long as it has no name."""
    address = parse_address(url)
    if address.scheme != "direct" or address.path:
        return url
    _, mark, options = url.partition("?")
    return f"direct://{name}{mark}{options}"
