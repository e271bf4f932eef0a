"""What a bus is told before it runs: handlers with their patterns and options."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypedDict

from msgspec import Struct

from hms_bus.abc import Durable
from hms_bus.bus.injection import Signature, read_signature
from hms_bus.bus.mailbox import check_overflow
from hms_bus.bus.middleware import Middleware
from hms_bus.bus.redelivery import AckMode, Backoff, Redelivery
from hms_bus.bus.subscription import Options
from hms_bus.durations import Duration, Moment, parse_duration, parse_moment
from hms_bus.errors import ConfigError, UsageError
from hms_bus.logrules import check_durable
from hms_bus.schedules import SCHEDULER
from hms_bus.topics import Pattern, parse_pattern

SERVICE_GROUP = "q"
"""The group of a service's members unless it names one; NATS services use the same."""


class DurableSettings(TypedDict, total=False):
    """What a durable subscription may be told.

    `start`: where one that is new begins, `"beginning"` (by default) or `"end"` of the log, at
    a position, or at a moment (aware datetime, RFC 3339 text, or a duration before now). `ack`:
    `"after"` the handler, or `"manual"`. `ack_wait` (30 s): how long a delivery may take before it
    is made again. `max_deliveries` (5, `None` is no limit): then it is a dead letter. `max_unacked`
    (1000): deliveries that are not settled, of all consumers together. `backoff`: the waits between
    deliveries of a message that fails.
    """

    start: Literal["beginning", "end"] | int | Moment
    ack: AckMode
    ack_wait: Duration
    max_deliveries: int | None
    max_unacked: int
    backoff: Backoff


class Declaration(Struct, frozen=True, kw_only=True, eq=False):
    """One handler: where it listens, how it works, and whether it answers requests."""

    pattern: Pattern
    handler: Callable[..., Any]
    signature: Signature
    options: Options
    middleware: Sequence[Middleware]
    serves: bool
    durable: tuple[Durable, Redelivery] | None = None


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
        durable: tuple[Durable, Redelivery] | None = None,
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
            durable=durable,
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


def make_durable(
    name: str, pattern: str, group: str | None, settings: DurableSettings
) -> tuple[Durable, Redelivery]:
    """Return a durable and how it delivers. Raises `UsageError` for what no durable can be."""
    if name == SCHEDULER.name:
        raise ConfigError(f"durable={name!r} runs the schedules of the log: take another name")
    ack = settings.get("ack", "after")
    if ack not in {"after", "manual"}:
        raise ConfigError(f"ack is {ack!r}: 'after' the handler, or 'manual'")
    backoff = settings.get("backoff", Backoff())
    if not isinstance(backoff, Backoff):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"backoff is {backoff!r}: give Backoff(first_s=1, factor=2, max_s=60)")
    start = settings.get("start", "beginning")
    at_position = isinstance(start, int) or start in {"beginning", "end"}
    plain: Any = "beginning" if not at_position else start
    durable = Durable(
        name=name,
        pattern=parse_pattern(pattern).plain,
        group=group,
        start=plain,
        start_ns=None if at_position else parse_moment(start),  # pyright: ignore[reportArgumentType]
        ack_wait_s=parse_duration(settings.get("ack_wait", 30.0)),
        max_deliveries=settings.get("max_deliveries", 5),
        max_unacked=settings.get("max_unacked", 1000),
    )
    check_durable(durable)
    return durable, Redelivery(ack=ack, backoff=backoff.check())
