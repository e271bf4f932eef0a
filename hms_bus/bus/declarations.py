"""What a bus is told before it runs: handlers with their patterns and options."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from hms_bus.bus.injection import Signature, read_signature
from hms_bus.bus.mailbox import check_overflow
from hms_bus.bus.middleware import Middleware
from hms_bus.bus.subscription import Options
from hms_bus.errors import ConfigError, UsageError
from hms_bus.topics import Pattern, parse_pattern

SERVICE_GROUP = "q"
"""The group of a service's members unless it names one; NATS services use the same."""


class Declaration(Struct, frozen=True, kw_only=True, eq=False):
    """One handler: where it listens, how it works, and whether it answers requests."""

    pattern: Pattern
    handler: Callable[..., Any]
    signature: Signature
    options: Options
    middleware: Sequence[Middleware]
    serves: bool


class Declarations:
    """All handlers of one bus, in the order in which they were declared."""

    def __init__(self, bus: object) -> None:
        self._bus = bus
        self._signatures: dict[object, Signature] = {}
        self.made: list[Declaration] = []

    def declare(
        self,
        pattern: str,
        handler: Callable[..., Any],
        *,
        options: Options,
        middleware: Sequence[Middleware],
        serves: bool,
        local: Mapping[str, Any],
    ) -> Declaration:
        """Check everything that can be wrong with a handler, and keep it.

        Raises `ConfigError`, `TopicError`.
        """
        parsed = parse_pattern(pattern)
        signature = self._signature(handler, parsed, local)
        if signature.streams and not serves:
            raise ConfigError(
                f"handler {signature.name} yields, but nobody reads what a subscriber yields: "
                "use @bus.serve, or publish from the handler"
            )
        declaration = Declaration(
            pattern=parsed,
            handler=handler,
            signature=signature,
            options=options,
            middleware=tuple(middleware),
            serves=serves,
        )
        self.made.append(declaration)
        return declaration

    def forget(self, handler: Callable[..., Any]) -> list[Declaration]:
        """Return the declarations of a handler, which is unknown from now on.

        A method is another handler for each object. Raises `UsageError` when there are none.
        """
        forgotten = [made for made in self.made if made.handler == handler]
        if not forgotten:
            name = getattr(handler, "__qualname__", repr(handler))
            raise UsageError(f"{name} is no handler of this bus (any more)")
        # A new list, for a bus that is being opened walks through the old one.
        self.made = [made for made in self.made if made not in forgotten]
        for made in forgotten:
            self._signatures.pop((made.handler, made.pattern.captures), None)
        return forgotten

    def _signature(
        self, handler: Callable[..., Any], pattern: Pattern, local: Mapping[str, Any]
    ) -> Signature:
        """Read a signature once for all the patterns that one handler is declared for."""
        if type(handler).__hash__ is None:  # pyright: ignore[reportUnnecessaryComparison] - may be
            return read_signature(handler, pattern, self._bus, local=local)
        key = (handler, pattern.captures)
        known = self._signatures.get(key)
        if known is None:
            known = read_signature(handler, pattern, self._bus, local=local)
            self._signatures[key] = known
        return known


@lru_cache(maxsize=64)
def make_options(*, group: str | None, concurrency: int, max_queue: int, overflow: Any) -> Options:
    """Return checked options. Raises `ConfigError`."""
    check_overflow(overflow)
    if concurrency < 1:
        raise ConfigError(f"concurrency is {concurrency}, at least 1 message is handled at once")
    if max_queue < 1:
        raise ConfigError(f"max_queue is {max_queue}, a queue holds at least 1 message")
    if group is not None and not group:
        raise ConfigError("the group's name is empty: leave it out, or name it")
    return Options(group=group, concurrency=concurrency, max_queue=max_queue, overflow=overflow)
