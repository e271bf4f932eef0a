"""What is being handled right now, carried by context variables.

A handler's task and every task that it starts see the message that caused them, so that what they
publish gets its `causationid` and `correlationid` without the user's help.
"""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from hms_bus.abc import EventLog
from hms_bus.envelope import Envelope

cause: ContextVar[Envelope | None] = ContextVar("hms_bus.cause", default=None)
"""The envelope that is being handled, if any."""


attempt: ContextVar[int] = ContextVar("hms_bus.attempt", default=1)
"""Which delivery of that envelope it is, to a durable subscription."""


class Deadline(Protocol):
    """That of a request, for all that is done to answer it."""

    due: float
    """When the answer is due, in seconds of the event loop's clock."""
    ended: bool
    """Whether it was answered. Tasks that its handler has left behind are not bound any more."""


deadline: ContextVar[Deadline | None] = ContextVar("hms_bus.deadline", default=None)
"""The deadline of the request that is being handled, if it has one."""

lane: ContextVar[asyncio.Task[Any]] = ContextVar("hms_bus.lane")
"""The task that runs the handler; cheaper to read than `asyncio.current_task`."""


class Running(Protocol):
    """The open bus whose handler runs, as far as what is called in the handler needs it."""

    @property
    def log(self) -> EventLog | None:
        """Its log, if it has one."""
        ...

    @property
    def links(self) -> Sequence[Any]:
        """Its transports (`hms_bus.bus.routing.Link`)."""
        ...

    @property
    def composer(self) -> Any:
        """What builds its envelopes (`hms_bus.bus.composing.Composer`)."""
        ...


running: ContextVar[Running | None] = ContextVar("hms_bus.running", default=None)
"""The bus whose handler runs."""

opener: ContextVar[str] = ContextVar("hms_bus.opener", default="")
"""The `source` of the bus that is being opened, for transports that treat agents differently."""
