"""The hub's figures, as `hms-bus hub status` shows them; the shape stands in docs/guide/ipc.md."""

from typing import Any

from msgspec import to_builtins

from hms_bus.hub.desk import Desk
from hms_bus.ipc import session


async def status_of(desk: Desk) -> dict[str, Any]:
    """Return the figures of this moment, as builtins."""
    peers = list(desk.peers.values())
    counts = desk.switchboard.counts
    return {
        "hub": {
            "name": desk.info.name,
            "url": desk.settings.listen,
            "pid": desk.info.pid,
            "version": desk.info.version,
            "protocol": session.PROTOCOL[1],
            "started_ns": desk.info.started_ns,
            "spawned": desk.is_spawned,
            "idle_s": desk.settings.idle_s if desk.is_spawned else None,
        },
        "log": await _log_status(desk),
        "limits": to_builtins(desk.settings.limits),
        "totals": {
            "clients": len(peers),
            "subscriptions": sum(len(peer.subscriptions) for peer in peers),
            "received": counts.received,
            "delivered": counts.delivered + sum(peer.delivered for peer in peers),
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
            "dropped": counts.dropped + sum(peer.dropped for peer in peers),
            "returned": counts.returned,
            "refused": counts.refused,
            "appended": desk.journal.appended,
            "queued": sum(peer.queued for peer in peers),
            "queued_bytes": desk.switchboard.queued_bytes,
        },
        "clients": [peer.describe() for peer in peers],
    }


async def _log_status(desk: Desk) -> dict[str, Any] | None:
    info = desk.journal.info()
    if info is None or desk.journal.log is None:
        return None
    head = await desk.journal.log.head()
    return {
        "url": info.url,
        "position": head.position,
        "capabilities": info.capabilities,
    }
