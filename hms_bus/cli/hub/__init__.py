"""`hms-bus hub`: run a hub, look into hubs, end them."""

from hms_bus.cli.hub.group import hub

__all__ = ["hub"]
