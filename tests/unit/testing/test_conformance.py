"""The machinery of the suite: what is planned, what is run, and what is told of it."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from hms_bus.errors import ConfigError
from hms_bus.testing.conformance import CHECKS, Case, Check, Result, Subject, plan, run
from hms_bus.testing.conformance.suite import checks_of


def a_check(function: object) -> Check:
    return Check(
        name="made_here",
        statement="Made here.",
        part="transport",
        needs=frozenset(),
        survives=frozenset(),
        function=function,  # pyright: ignore[reportArgumentType] - each test gives a fitting one
    )


def case_of(function: object, url: str = "direct://") -> Case:
    return Case(check=a_check(function), url=url, codec="json")


def test_direct_is_planned_as_it_is_and_through_each_codec() -> None:
    cases = plan("direct://", codecs=["json", "cbor"], log=None, names=["a_bus_hears_itself"])
    assert [case.target for case in cases] == [
        "direct:// json",
        "direct://?codec=json",
        "direct://?codec=cbor",
    ]


def test_a_transport_on_a_wire_is_planned_for_each_codec() -> None:
    cases = plan(
        "faulty:direct://x", codecs=["json", "cbor"], log=None, names=["a_bus_hears_itself"]
    )
    assert [case.target for case in cases] == ["faulty:direct://x json", "faulty:direct://x cbor"]


def test_with_a_log_everything_of_a_bus_is_planned_twice() -> None:
    cases = plan("direct://x?codec=json", codecs=["json"])
    by_part = Counter((case.check.part, case.log is not None) for case in cases)
    count = Counter(check.part for check in CHECKS)
    assert by_part == {
        ("transport", False): count["transport"],
        ("transport", True): count["transport"],
        ("unlogged", False): count["unlogged"],
        ("logged", True): count["logged"],
        ("log", True): count["log"],
        ("codec", False): count["codec"],
    }


def test_ids_are_unique() -> None:
    ids = [str(case) for case in plan("direct://")]
    assert len(ids) == len(set(ids))


def test_a_check_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no_such_check"):
        plan("direct://", names=["no_such_check"])


async def test_a_report_tells_of_every_case() -> None:
    told: list[Result] = []
    names = ["a_bus_hears_itself", "a_log_that_was_closed_goes_on"]
    report = await run("direct://", codecs=["json"], names=names, on_result=told.append)
    assert report.results == told
    assert Counter(result.outcome for result in told) == {"passed": 4, "unsupported": 1}
    assert report.is_ok
    assert all(result.seconds >= 0 and result.problem is None for result in told)


async def test_a_failure_says_what_was_found_and_ends_nothing() -> None:
    report = await run(
        "faulty:direct://{name}?drop=1",
        codecs=["json"],
        log=None,
        names=["a_bus_hears_itself", "publishing_to_nobody_is_no_error"],
        patience_s=0.05,
    )
    assert [result.outcome for result in report.results] == ["failed", "passed"]
    assert not report.is_ok
    [failed] = report.failed
    assert failed.problem == "message 1 of 1 did not come: not within 0.05 s"


async def test_a_folder_is_made_when_a_url_asks_for_one() -> None:
    seen: list[str] = []

    async def look(subject: Subject) -> None:
        seen.append(subject.url)
        folder = Path(subject.url.removeprefix("direct://"))
        assert await asyncio.to_thread(folder.is_dir)

    await case_of(look, "direct://{folder}").prove()
    assert not Path(seen[0].removeprefix("direct://")).exists()


async def test_a_folder_that_is_given_is_kept(tmp_path: Path) -> None:
    async def look(subject: Subject) -> None:
        assert subject.url == f"direct://{tmp_path}"

    await case_of(look, "direct://{folder}").prove(folder=tmp_path)


async def test_names_differ_from_check_to_check() -> None:
    names: list[str] = []

    async def look(subject: Subject) -> None:
        names.append(subject.name)
        assert subject.name in subject.url
        assert subject.topic("a.b") == f"{subject.name}.a.b"

    for _ in range(3):
        await case_of(look, "direct://x-{name}").prove()
    assert len(set(names)) == 3


async def test_a_check_that_hangs_fails() -> None:
    async def hang(_: Subject) -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="did not end within"):
        await case_of(hang).prove(patience_s=0.01)


async def test_a_timeout_of_the_subject_is_not_taken_for_our_own() -> None:
    async def fail(_: Subject) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await case_of(fail).prove()


async def test_a_log_is_needed_to_check_one() -> None:
    async def open_it(subject: Subject) -> None:
        async with subject.open_log():
            pass

    with pytest.raises(ConfigError, match="no log behind"):
        await case_of(open_it).prove()


async def no_statement(_: Subject) -> None: ...


async def a_bus_hears_itself(_: Subject) -> None:
    """There is one of this name."""


async def needs_too_much(_: Subject) -> None:
    """Needs what is no capability."""


def test_a_check_states_what_it_proves_under_a_name_of_its_own() -> None:
    with pytest.raises(ConfigError, match="no docstring"):
        checks_of("log")()(no_statement)
    with pytest.raises(ConfigError, match="two checks"):
        checks_of("log")()(a_bus_hears_itself)
    with pytest.raises(ConfigError, match="no capability"):
        checks_of("log")("telepathy")(needs_too_much)


def test_every_statement_is_a_sentence() -> None:
    for check in CHECKS:
        assert check.statement[0].isupper() or check.statement[0] in "`0123456789"
        assert check.statement.endswith(".")
