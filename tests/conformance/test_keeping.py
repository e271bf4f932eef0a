"""The suite on a transport that keeps the log itself and delivers what it has appended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.testing.conformance import Case, plan
from tests.support.plugins import plugged_in

CASES = [
    case
    for log in ("memory:{name}", "sqlite:{folder}/{name}.db")
    for case in plan("keeping:{name}", codecs=["json"], log=log)
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
    *((case.log, "a_private_address_is_shared_with_nobody") for case in CASES),
}


@pytest.fixture(scope="module", autouse=True)
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make `keeping:` a scheme of transports."""
    folder = tmp_path_factory.mktemp("plugins")
    with plugged_in(folder, "transports", keeping="tests.support.keeping:open_keeping"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_conformance(case: Case, folder: Path) -> None:
    is_claimed = (case.log, case.check.name) not in UNCLAIMED
    assert await case.prove(folder=folder) == ("passed" if is_claimed else "unsupported")
