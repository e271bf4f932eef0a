"""Running checks: which ones, on what, and what came of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from hms_bus.errors import ConfigError
from hms_bus.plugins import names as plugin_names
from hms_bus.plugins import parse_address
from hms_bus.testing.conformance import (
    appending,
    causality,
    codecs,
    delivery,
    envelopes,
    failures,
    groups,
    integrity,
    lifecycle,
    logged,
    patterns,
    payloads,
    queues,
    reading,
    refusals,
    requests,
    scatter,
    streams,
)
from hms_bus.testing.conformance.probes import patience_s as patience
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import CHECKS, REFUSALS, Check

_MODULES = (
    delivery, patterns, payloads, envelopes, causality, queues, groups, requests, failures, streams,
    scatter, lifecycle, logged, appending, integrity, reading, codecs, refusals,
)  # fmt: skip
"""Importing them fills `CHECKS`; this is the order in which a reader should meet failures."""

CHECKS.sort(key=lambda check: [m.__name__ for m in _MODULES].index(check.function.__module__))

Outcome = Literal["passed", "failed", "unsupported"]


class Case(Struct, frozen=True, kw_only=True, eq=False):
    """One check on one combination of transport, codec and log (URLs with `{name}`, `{folder}`)."""

    check: Check
    url: str
    codec: str
    log: str | None = None

    @property
    def target(self) -> str:
        """What is tested, for people: `direct://{name}?codec=json + sqlite`."""
        match self.check.part:
            case "codec":
                return self.codec
            case "log":
                return self.log or self.url
            case _:
                at = self.url if "codec=" in self.url else f"{self.url} {self.codec}"
                return at if self.log is None else f"{at} + {parse_address(self.log).scheme}:"

    def __str__(self) -> str:
        return f"{self.check.name}[{self.target}]"

    async def prove(self, *, folder: Path | None = None, patience_s: float = 10.0) -> Outcome:
        """Run the check, or what holds where its capability is not claimed.

        `folder` is for `{folder}`, by default a temporary one. Raises `AssertionError` or whatever
        else went wrong: this case failed.
        """
        async with _folder(folder, wanted="{folder}" in f"{self.url}{self.log}") as place:
            subject = Subject(
                self.url, codec=self.codec, log=self.log, folder=place, patience_s=patience_s
            )
            token = patience.set(patience_s)
            try:
                return await _bounded(self._prove(subject), 6 * patience_s)
            finally:
                patience.reset(token)

    async def _prove(self, subject: Subject) -> Outcome:
        needs = self.check.needs
        missing = needs - await subject.claims() if needs else needs
        if not missing:
            await self.check.function(subject)
            return "passed"
        for capability in sorted(missing):
            if refusal := REFUSALS.get(capability):
                await refusal(subject)
        return "unsupported"


async def _bounded(proof: Awaitable[Outcome], timeout_s: float) -> Outcome:
    scope = asyncio.timeout(timeout_s)
    try:
        async with scope:
            return await proof
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise AssertionError(f"the check did not end within {timeout_s:g} s") from error


@asynccontextmanager
async def _folder(given: Path | None, *, wanted: bool) -> AsyncGenerator[Path | None]:
    if given is not None or not wanted:
        yield given
        return
    temporary = await asyncio.to_thread(TemporaryDirectory)
    try:
        yield Path(temporary.name)
    finally:
        await asyncio.to_thread(temporary.cleanup)


class Result(Struct, frozen=True, kw_only=True):
    """What came of one case. `problem` tells what was found instead, when it failed."""

    case: Case
    outcome: Outcome
    seconds: float
    problem: str | None = None


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


def plan(
    url: str,
    *,
    codecs: Sequence[str] | None = None,
    log: str | None = "memory:{name}",
    names: Collection[str] = (),
) -> list[Case]:
    """Return the cases that prove what is at `url`: every check × codec × with the log and without.

    `direct://` is tested as it is, and with the round trip through each codec. Raises `ConfigError`
    for a name that no check has.
    """
    if unknown := set(names) - {check.name for check in CHECKS}:
        raise ConfigError(f"there is no check of the name {', '.join(sorted(unknown))}")
    wanted = [check for check in CHECKS if not names or check.name in names]
    chosen = plugin_names("codecs") if codecs is None else codecs
    return (
        [
            case
            for target in _targets(url, chosen)
            for check in wanted
            for case in _cases(check, target, log)
        ]
        + [
            Case(check=check, url=url, codec="json", log=log)
            for check in wanted
            if check.part == "log" and log is not None
        ]
        + [
            Case(check=check, url=url, codec=codec)
            for codec in chosen
            for check in wanted
            if check.part == "codec"
        ]
    )


def _targets(url: str, codecs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield address and codec of each way in which the transport is tested."""
    address = parse_address(url)
    if address.scheme != "direct" or "codec" in address.options:
        yield from ((url, address.options.get("codec", codec)) for codec in codecs)
        return
    yield url, "json"
    sign = "&" if address.options else "?"
    yield from ((f"{url}{sign}codec={codec}", codec) for codec in codecs)


def _cases(check: Check, target: tuple[str, str], log: str | None) -> Iterator[Case]:
    url, codec = target
    case = Case(check=check, url=url, codec=codec)
    if check.part in {"transport", "unlogged"}:
        yield case
    if check.part in {"transport", "logged"} and log is not None:
        yield replace(case, log=log)


async def run(
    url: str,
    *,
    codecs: Sequence[str] | None = None,
    log: str | None = "memory:{name}",
    names: Collection[str] = (),
    folder: Path | None = None,
    patience_s: float = 10.0,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """Prove all of `plan`, one after another, and tell `on_result` of each.

    A case that fails ends nothing else. Raises `ConfigError` for what cannot be planned.
    """
    report = Report(results=[])
    for case in plan(url, codecs=codecs, log=log, names=names):
        result = await _result(case, folder, patience_s)
        report.results.append(result)
        if on_result is not None:
            on_result(result)
    return report


async def _result(case: Case, folder: Path | None, patience_s: float) -> Result:
    started = time.perf_counter()
    problem = None
    try:
        outcome = await case.prove(folder=folder, patience_s=patience_s)
    except Exception as error:  # noqa: BLE001 - whatever a broken implementation raises, it failed
        outcome = "failed"
        problem = str(error) if type(error) is AssertionError else repr(error)
    seconds = time.perf_counter() - started
    return Result(case=case, outcome=outcome, seconds=seconds, problem=problem)
