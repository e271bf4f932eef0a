"""The conformance suite: what transports, logs and codecs promise, as checks that anybody can run.

`run` proves everything at a URL, as `hms-bus conformance URL` does:

    report = await run("direct://", codecs=["json", "cbor"], log="memory:{name}")
    report.is_ok, report.failed             # bool, list[Result]

    async def run(
        url: str,
        *,
        codecs: Sequence[str] | None = None,            # None: every codec that is installed
        log: str | None = "memory:{name}",              # None: no log, and no checks of one
        names: Collection[str] = (),                    # only the checks with these names
        folder: Path | None = None,                     # for {folder}, default: a temporary one
        patience_s: float = 10.0,                       # how long a check waits for an effect
        on_result: Callable[[Result], None] | None = None,
        apart: bool = False,                            # publishers in another process
    ) -> Report

`plan(url, codecs=…, log=…, names=…, apart=…)` returns the cases that `run` would prove, for a
progress bar's total and for one parametrized pytest function (docs/testing.md):

    @pytest.mark.parametrize("case", plan("pigeon://{name}", log="memory:{name}"), ids=str)
    async def test_conformance(case: Case) -> None:
        await case.prove()

A `Result` has `case` (`case.check.name`, `case.check.statement`, `case.check.needs`,
`case.target`), `outcome` ("passed", "failed" or "unsupported"), `problem` (text, `None` unless
failed), `seconds`, and `apart`: whether a publisher was in another process. "unsupported" says that
a capability is not claimed and, where there is an operation that needs it, that asking for it
raises `UnsupportedError`; it is no failure.

With `apart` the publishers of a check live in a process of their own, one `Worker` for all checks,
as far as that can be (see `Subject.publisher`).

In URLs `{name}` stands for a name that no other check uses and `{folder}` for a folder, so that
the suite runs on a shared server and leaves its logs where they are told to be. `direct://`, which
no two buses share, is tested as `direct://{name}`.
"""

from hms_bus.testing.conformance.apart import Worker
from hms_bus.testing.conformance.cases import Case, Outcome, plan
from hms_bus.testing.conformance.running import Report, Result, run
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import CHECKS, Check, Fault, Part

__all__ = [
    "CHECKS",
    "Case",
    "Check",
    "Fault",
    "Outcome",
    "Part",
    "Report",
    "Result",
    "Subject",
    "Worker",
    "plan",
    "run",
]
