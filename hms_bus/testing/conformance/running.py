"""Running a whole suite, and what came of it."""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from msgspec import Struct

from hms_bus.testing.conformance.apart import Worker
from hms_bus.testing.conformance.cases import Case, Outcome, plan


class Result(Struct, frozen=True, kw_only=True):
    """What came of one case. `problem` tells what was found instead, when it failed.

    `apart` says whether a bus was opened in another process, as `case.apart` asks for.
    """

    case: Case
    outcome: Outcome
    seconds: float
    problem: str | None = None
    apart: bool = False


class Report(Struct, frozen=True, kw_only=True):
    """What came of all."""

    results: list[Result]

    @property
    def is_ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> list[Result]:
        """The cases that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    @property
    def apart(self) -> list[Result]:
        """The cases whose publishers were in another process."""
        return [result for result in self.results if result.apart]


async def run(
    url: str,
    *,
    codecs: Sequence[str] | None = None,
    log: str | None = "memory:{name}",
    names: Collection[str] = (),
    folder: Path | None = None,
    patience_s: float = 10.0,
    on_result: Callable[[Result], None] | None = None,
    apart: bool = False,
) -> Report:
    """Prove all of `plan`, one after another, and tell `on_result` of each.

    A case that fails ends nothing else. Raises `ConfigError` for what cannot be planned.
    """
    report = Report(results=[])
    async with Worker() as worker:
        for case in plan(url, codecs=codecs, log=log, names=names, apart=apart):
            result = await _result(case, folder, patience_s, worker)
            report.results.append(result)
            if on_result is not None:
                on_result(result)
    return report


async def _result(case: Case, folder: Path | None, patience_s: float, worker: Worker) -> Result:
    started = time.perf_counter()
    opened, problem = worker.opened, None
    try:
        outcome = await case.prove(folder=folder, patience_s=patience_s, worker=worker)
    except Exception as error:  # noqa: BLE001 - whatever a broken implementation raises, it failed
        outcome = "failed"
        problem = str(error) if type(error) is AssertionError else repr(error)
    seconds = time.perf_counter() - started
    return Result(
        case=case,
        outcome=outcome,
        seconds=seconds,
        problem=problem,
        apart=worker.opened > opened,
    )
