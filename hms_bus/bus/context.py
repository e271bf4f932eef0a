"""What is being handled right now, carried by context variables.

A handler's task and every task that it starts see the message that caused them, so that what they
publish gets its `causationid` and `correlationid` without the user's help.
"""

import asyncio
from contextvars import ContextVar
from typing import Any

from hms_bus.envelope import Envelope

cause: ContextVar[Envelope | None] = ContextVar("hms_bus.cause", default=None)
"""The envelope that is being handled, if any."""

deadline: ContextVar[float | None] = ContextVar("hms_bus.deadline", default=None)
"""When the request that is being handled is due, in seconds of the event loop's clock."""

lane: ContextVar[asyncio.Task[Any]] = ContextVar("hms_bus.lane")
"""The task that runs the handler; cheaper to read than `asyncio.current_task`."""
