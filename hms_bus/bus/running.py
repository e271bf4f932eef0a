"""An agent's whole life in one call: open, run, stop on a signal, drain."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from signal import SIGINT, SIGTERM


async def run_until_signal(
    scope: AbstractAsyncContextManager[object], main: Callable[[], Awaitable[object]]
) -> None:
    """Run `main()` inside `scope` until it ends or a signal cancels it.

    The contract is `Bus.run`. A second signal is not caught, so that it ends the drain.
    """
    loop = asyncio.get_running_loop()
    async with scope:
        work = asyncio.ensure_future(main())
        for number in (SIGINT, SIGTERM):
            # Loops without signal handlers (Windows) leave Ctrl-C to asyncio.run.
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, work.cancel)
        try:
            with suppress(asyncio.CancelledError):
                await work
        finally:
            for number in (SIGINT, SIGTERM):
                with suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
