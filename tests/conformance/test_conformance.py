"""Every check on every transport × codec × log that this package has."""

from pathlib import Path

import pytest

from hms_bus.testing.conformance import CHECKS, Case, plan

CODECS = ["json", "cbor", "protobuf"]

CASES = plan("direct://", codecs=CODECS, log="memory:{name}") + [
    case
    for case in plan("direct://", codecs=CODECS, log="sqlite:{folder}/{name}.db")
    if case.log is not None
]

UNCLAIMED = {
    ("memory:{name}", "a_log_that_was_closed_goes_on"),
    ("memory:{name}", "a_durable_outlives_the_log_that_is_closed"),
    ("memory:{name}", "a_schedule_outlives_its_bus"),
    ("memory:{name}", "a_bus_that_only_listens_sends_what_is_due"),
    ("memory:{name}", "publishers_that_choose_ids_do_not_replace_each_other"),
    ("memory:{name}", "an_aggregate_outlives_the_log_that_is_closed"),
    ("memory:{name}", "a_projection_goes_on_when_the_log_is_opened_again"),
}
"""What our implementations do not claim, so that nothing goes unproven unnoticed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_conformance(case: Case, folder: Path) -> None:
    is_claimed = (case.log, case.check.name) not in UNCLAIMED
    assert await case.prove(folder=folder) == ("passed" if is_claimed else "unsupported")


def test_every_check_is_run() -> None:
    assert {case.check.name for case in CASES} == {check.name for check in CHECKS}


def test_there_are_checks_of_every_kind() -> None:
    assert len(CHECKS) >= 60
    assert {check.part for check in CHECKS} == {"transport", "logged", "unlogged", "log", "codec"}
