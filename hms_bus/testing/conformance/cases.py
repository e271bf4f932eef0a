"""Cases: which checks there are to prove, on what, and how one is proven."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
    consumers,
    delivery,
    durables,
    envelopes,
    failures,
    groups,
    integrity,
    lifecycle,
    logged,
    patterns,
    payloads,
    projecting,
    queues,
    reading,
    redelivery,
    refusals,
    requests,
    scatter,
    schedules,
    sourcing,
    streams,
)
from hms_bus.testing.conformance.apart import Line, Worker
from hms_bus.testing.conformance.probes import patience_s as patience
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import CHECKS, REFUSALS, Check

_MODULES = (
    delivery, patterns, payloads, envelopes, causality, queues, groups, requests, failures, streams,
    scatter, lifecycle, logged, appending, integrity, reading, durables, consumers,
    redelivery, schedules, sourcing, projecting, codecs, refusals,
)  # fmt: skip
"""Importing them fills `CHECKS`; this is the order in which a reader should meet failures."""

CHECKS.sort(key=lambda check: [m.__name__ for m in _MODULES].index(check.function.__module__))

Outcome = Literal["passed", "failed", "unsupported"]


class Case(Struct, frozen=True, kw_only=True, eq=False):
    """One check on one combination of transport, codec and log (URLs with `{name}`, `{folder}`).

    With `apart` its publishers live in another process, see `Subject.publisher`.
    """

    check: Check
    url: str
    codec: str
    log: str | None = None
    apart: bool = False

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
                log = "" if self.log is None else f" + {parse_address(self.log).scheme}:"
                return f"{at}{log} apart" if self.apart else f"{at}{log}"

    def __str__(self) -> str:
        return f"{self.check.name}[{self.target}]"

    async def prove(
        self,
        *,
        folder: Path | None = None,
        patience_s: float = 10.0,
        worker: Worker | None = None,
    ) -> Outcome:
        """Run the check, or what holds where its capability is not claimed.

        `folder` is for `{folder}`, by default a temporary one; `worker` for a case that is `apart`,
        by default one of its own. Raises `AssertionError` or whatever else went wrong: this case
        failed.
        """
        async with (
            _folder(folder, wanted="{folder}" in f"{self.url}{self.log}") as place,
            _line(worker, 8 * patience_s, wanted=self.apart) as line,
        ):
            subject = Subject(
                self.url,
                codec=self.codec,
                log=self.log,
                folder=place,
                patience_s=patience_s,
                line=line,
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


@asynccontextmanager
async def _line(
    given: Worker | None, timeout_s: float, *, wanted: bool
) -> AsyncGenerator[Line | None]:
    if not wanted:
        yield None
        return
    async with AsyncExitStack() as ends:
        worker = await ends.enter_async_context(Worker()) if given is None else given
        yield await ends.enter_async_context(worker.line(timeout_s))


def plan(
    url: str,
    *,
    codecs: Sequence[str] | None = None,
    log: str | None = "memory:{name}",
    names: Collection[str] = (),
    apart: bool = False,
) -> list[Case]:
    """Return the cases that prove what is at `url`: every check × codec × with the log and without.

    `direct://` is tested as it is, and with the round trip through each codec. With `apart` the
    checks of buses have their publishers in another process; a log and a codec are opened in this
    one all the same. Raises `ConfigError` for a name that no check has, and for a transport that
    cannot be apart since it stays within one process.
    """
    if apart and _STAYS.match(url):
        raise ConfigError(
            f"{url!r} stays within one process: publishers in another one can only be heard at the "
            "URL of a transport between processes"
        )
    if unknown := set(names) - {check.name for check in CHECKS}:
        raise ConfigError(f"there is no check of the name {', '.join(sorted(unknown))}")
    wanted = [check for check in CHECKS if not names or check.name in names]
    chosen = plugin_names("codecs") if codecs is None else codecs
    return (
        [
            case
            for target in _targets(url, chosen)
            for check in wanted
            for case in _cases(check, target, log, apart=apart)
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


_STAYS = re.compile("([a-z][a-z0-9+.-]*:)*direct:", re.IGNORECASE)
"""`direct:`, also with something wrapped around it (`faulty:direct:`)."""


def _targets(url: str, codecs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield address and codec of each way in which the transport is tested."""
    address = parse_address(url)
    if address.scheme != "direct" or "codec" in address.options:
        yield from ((url, address.options.get("codec", codec)) for codec in codecs)
        return
    yield url, "json"
    sign = "&" if address.options else "?"
    yield from ((f"{url}{sign}codec={codec}", codec) for codec in codecs)


def _cases(
    check: Check, target: tuple[str, str], log: str | None, *, apart: bool
) -> Iterator[Case]:
    url, codec = target
    case = Case(check=check, url=url, codec=codec, apart=apart)
    if check.part in {"transport", "unlogged"}:
        yield case
    if check.part in {"transport", "logged"} and log is not None:
        yield replace(case, log=log)
