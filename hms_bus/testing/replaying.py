"""A plug-in of pytest: a recorded run becomes a regression test.

    def test_friday_is_answered_as_it_was(replays):
        replays("friday.db", build)

`build` is given the URL of a bus and returns the agents on it, as `hms_bus.replay.rerun` takes it.
The test fails when they say something else than they did in the record, with the differences as its
message. pytest loads this module by itself where hms-bus is installed; what it needs it imports
when the fixture is used.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from hms_bus.abc import Selector
    from hms_bus.replay import Comparison, Outcome
    from hms_bus.replay.rerunning import Build
    from hms_bus.replay.settings import Effects


class Replays(Protocol):
    """What the fixture `replays` is."""

    def __call__(
        self,
        run: str | Path,
        build: "Build",
        *,
        ignore: Sequence[str] = (),
        only: Iterable[str] = (),
        selector: "Selector | None" = None,
        effects: "Effects" = "strict",
        remap: Mapping[str, str] | None = None,
        limit: int | None = 20,
    ) -> "Outcome":
        """Let the agents that `build` makes handle the record `run`, and compare what they say.

        `run` is a file, seen from the folder of the test or from the working directory, or a log's
        URL. `ignore` is as in `hms_bus.replay.compare`, the rest as in `hms_bus.replay.rerun`; but
        by default nothing is asked outside the record: an answer that it lacks fails the test.
        `limit` is how many differences each part of the message may list.

        Fails the test when something differs, when nothing was played, and when the record cannot
        be read. Returns what came of it otherwise. Raises `UsageError` in a running event loop, and
        what `rerun` raises.
        """
        ...


@pytest.fixture
def replays(request: pytest.FixtureRequest) -> Replays:
    """Replay a record into agents, and fail with the differences if there are any."""
    folder = request.path.parent

    def check(
        run: str | Path,
        build: "Build",
        *,
        ignore: Sequence[str] = (),
        limit: int | None = 20,
        **settings: Any,
    ) -> "Outcome":
        from hms_bus.errors import LogError, UnrecordedError  # noqa: PLC0415 - see the module
        from hms_bus.replay import rerun  # noqa: PLC0415 - as above

        _refuse_running_loop()
        settings = {"effects": "strict", **settings}
        try:
            outcome = asyncio.run(rerun(_find(run, folder), build, **settings))
        except UnrecordedError as error:
            pytest.fail(f"{run} does not replay: {error}", pytrace=False)
        except LogError as error:
            pytest.fail(f"{run} cannot be read: {error}", pytrace=False)
        if not outcome.played:
            pytest.fail(f"{run} was not replayed: no record of it reached an agent", pytrace=False)
        comparison = outcome.compare(ignore=ignore)
        if not comparison.is_same:
            pytest.fail(_message(run, comparison, outcome, limit), pytrace=False)
        return outcome

    return check


def _refuse_running_loop() -> None:
    from hms_bus.errors import UsageError  # noqa: PLC0415 - as above

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "replays(…) runs an event loop of its own: call it in a plain test (def, not async def), "
        "or await hms_bus.replay.rerun(…) and compare yourself"
    )


def _find(run: str | Path, folder: Path) -> str:
    beside = folder / run
    return str(beside if beside.exists() else run)


def _message(
    run: str | Path, comparison: "Comparison", outcome: "Outcome", limit: int | None
) -> str:
    from hms_bus.replay.describing import describe  # noqa: PLC0415 - as above

    lines = [
        f"what the agents say now differs from {run}",
        describe(
            comparison,
            names=("recorded", "now"),
            places=(outcome.positions.__getitem__, None),
            limit=limit,
        ),
    ]
    if outcome.damage is not None:
        lines.append(f"{outcome.damage}; what was said behind it is not compared")
    lines += (
        f"a handler failed on {failure.topic} {failure.cause}: "
        f"{type(failure.error).__name__}: {failure.error}"
        for failure in outcome.failures[:limit]
    )
    return "\n".join(lines)
