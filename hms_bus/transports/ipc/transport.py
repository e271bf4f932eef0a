"""`ipc://`: between the processes of one machine, through the hub that joins them (spec/ipc.md)."""

from collections.abc import Awaitable

from hms_bus.abc import Capability, Codec, Sink, Unsubscribe
from hms_bus.envelope import Envelope
from hms_bus.errors import StateError
from hms_bus.ipc.session import Welcome
from hms_bus.transports.ipc.client import Client
from hms_bus.transports.ipc.hub_log import HubLog
from hms_bus.transports.ipc.receiving import Inlet
from hms_bus.transports.ipc.sending import Outbox

_LAST_CHANCE_S = 3.0
"""How long closing waits for a connection when there are still messages to send."""

CAPABILITIES: frozenset[Capability] = frozenset(
    {
        "groups",
        "group-balance",
        "no-responders",
        "no-servers",
        "backpressure",
        "publisher-order",
    }
)


class IpcTransport:
    """Contract: `hms_bus.abc.Transport`. Made by `open_ipc`.

    When the connection is lost, it connects again, starts a hub if there is none, subscribes again,
    and sends what was published meanwhile (`?buffer=` bytes; beyond that `publish` raises
    `DisconnectedError`). Requests that were under way fail with `DisconnectedError`: what came of
    them is not known.
    """

    capabilities = CAPABILITIES

    def __init__(self, client: Client, codec: Codec) -> None:
        self._client = client
        self._codec = codec
        self._is_open = True
        self._outbox = Outbox(client, codec.encode)
        self._inlet = Inlet(client, codec)
        self.log: HubLog | None = None
        client.up.append(self._on_up)

    def _on_up(self, welcome: Welcome) -> None:
        if self.log is None and welcome.log is not None:
            self.log = HubLog(self._client, self._codec, welcome.log)
        self._outbox.send_buffered()

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        """Send one envelope; see `hms_bus.abc.Transport.publish`.

        The first message to a topic, and each one while its subscribers have no room, waits for the
        hub. Raises `DisconnectedError` when there is no connection and the buffer is full.
        """
        return self._outbox.publish(envelope, to or envelope.topic, reply_to)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        """Subscribe `sink` at the hub; see `hms_bus.abc.Transport.subscribe`."""
        if not self._is_open:
            raise StateError("the connection to the hub is closed")
        return await self._inlet.subscribe(pattern, sink, group)

    async def close(self) -> None:
        """Pass on what was sent, and part.

        For what waits for a connection, it waits for one, a few seconds at most; what cannot be
        sent is logged as an error.
        """
        self._is_open = False
        self._outbox.flush()
        try:
            if not self._outbox.is_empty:
                await self._client.is_connected(_LAST_CHANCE_S)
        finally:
            await self._client.close()
