"""`--into MODULE:FUNCTION`: the function that makes the agents, and what is wrong with it."""

import inspect
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from hms_bus.cli.analysis.loading import load_function
from hms_bus.errors import BusError, LogError, UsageError
from hms_bus.replay.rerunning import Rerun, open_rerun
from hms_bus.replay.settings import ReplaySettings

_SHAPE = "it is given the URL of the bus of its agents, and returns them: def build(url: str): …"


def load_build(name: str) -> Callable[[str], Any]:
    """Import the function `module:name`. Raises `UsageError`, also when it takes no URL."""
    build = load_function(name)
    try:
        inspect.signature(build).bind("replay://run")
    except TypeError as error:
        raise UsageError(f"{name} cannot be called with a URL, {error}: {_SHAPE}") from error
    except ValueError:  # what is written in C may not tell
        pass
    return build


@asynccontextmanager
async def opened(
    settings: ReplaySettings, name: str, build: Callable[[str], Any]
) -> AsyncGenerator[Rerun]:
    """Open the replay, in which the function `name` makes the agents.

    Raises `UsageError` when the record cannot be opened or the function fails: 1 is said of what
    was replayed.
    """
    async with AsyncExitStack() as stack:
        try:
            rerun = await stack.enter_async_context(open_rerun(settings, build))
        except LogError as error:
            raise UsageError(str(error)) from error
        except BusError:
            raise
        except Exception as error:
            raise UsageError(
                f"{name} failed{_place(error, build)} with {type(error).__name__}: {error}; "
                "--debug shows the traceback"
            ) from error
        yield rerun


def _place(error: BaseException, build: Callable[[str], Any]) -> str:
    """Return where the error was raised: in the code around the function, if it came from there."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(inspect.unwrap(build), "__code__", None)
    folder = None if code is None else Path(code.co_filename).parent
    own = [frame for frame in frames if folder in Path(frame.filename).parents]
    if not own:
        return ""
    return f" at {own[-1].filename}:{own[-1].lineno}"
