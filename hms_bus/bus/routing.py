"""Which transport and which log a topic belongs to, decided once per topic."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hms_bus.abc import DeliveringLog, EventLog, Transport
from hms_bus.bus.requests import Inbox
from hms_bus.topics import Pattern, check_topic, covers, overlaps, parse_pattern

MAX_CACHED_TOPICS = 65_536
"""Topics that a bus remembers its decisions for; then it forgets them all and decides anew."""


class Link(Struct, frozen=True, kw_only=True, eq=False):
    """One open transport of a bus, with the inbox for its replies.

    `pattern` is the route that leads here, `None` for the default transport.
    """

    url: str
    transport: Transport
    inbox: Inbox
    pattern: Pattern | None = None

    @property
    def control_address(self) -> str:
        """Where this bus takes credit and cancellation of streams that it serves."""
        return f"{self.inbox.address}.control"


class Route(Struct, frozen=True, kw_only=True, eq=False):
    """Where messages on one topic go: a link, and the log that keeps them, if any.

    `delivering` is that log again when it is the one to deliver what it keeps.
    """

    link: Link
    publish: Any
    log: EventLog | None
    delivering: DeliveringLog | None


class Router:
    """Finds the route of a topic and the links that a pattern listens on."""

    def __init__(
        self, links: Sequence[Link], *, log: EventLog | None, logged: Sequence[str]
    ) -> None:
        self._links = links
        self._log = log
        self._logged = [parse_pattern(pattern) for pattern in logged]
        self.routes: dict[str, Route] = {}

    def route(self, topic: str) -> Route:
        """Return the route of `topic`. Raises `TopicError` for what is no topic."""
        known = self.routes.get(topic)
        if known is not None:
            return known
        check_topic(topic)
        link = next(
            link for link in self._links if link.pattern is None or link.pattern.matches(topic)
        )
        log = self.log_of(topic, link)
        route = Route(
            link=link,
            publish=link.transport.publish,
            log=log,
            delivering=self.delivering(log),
        )
        if len(self.routes) >= MAX_CACHED_TOPICS:
            self.routes.clear()
        self.routes[topic] = route
        return route

    def log_of(self, topic: str, link: Link) -> EventLog | None:
        """Return the log that keeps what is sent on `topic` over `link`."""
        log = self._log or link.transport.log
        if log is None or not any(pattern.matches(topic) for pattern in self._logged):
            return None
        return log

    def delivering(self, log: EventLog | None) -> DeliveringLog | None:
        """Return `log` if it delivers what it keeps: only the one behind a transport can."""
        return log if self._log is None and isinstance(log, DeliveringLog) else None

    def listening(self, pattern: Pattern) -> list[Link]:
        """Return links over which messages that match `pattern` may come, one per transport."""
        found: dict[Transport, Link] = {}
        for link in self._links:
            if link.pattern is None or overlaps(pattern.tokens, link.pattern.tokens):
                found.setdefault(link.transport, link)
            if link.pattern is not None and covers(link.pattern.tokens, pattern.tokens):
                break
        return list(found.values())
