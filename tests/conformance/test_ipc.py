"""Every check on `ipc://` × codec × log in the hub, publisher and subscriber in two processes.

The cases of one kind share a hub, which the first of them starts: the suite is made for servers
that others use, too. What is in its way there would be in the way of agents.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.testing.conformance import CHECKS, Case, Worker, plan

CODECS = ["json", "cbor", "protobuf"]

LOGS = {"memory": "memory:suite", "sqlite": "sqlite:{folder}/suite.db"}

CASES = plan("ipc://plain", codecs=CODECS, log=None, apart=True) + [
    case
    for name, log in LOGS.items()
    for case in plan(f"ipc://{name}", codecs=CODECS, log=log, apart=True)
    if case.log is not None
]

UNCLAIMED = {
    (None, "a_private_address_is_shared_with_nobody"),
    (LOGS["memory"], "a_private_address_is_shared_with_nobody"),
    (LOGS["sqlite"], "a_private_address_is_shared_with_nobody"),
    (LOGS["memory"], "a_log_that_was_closed_goes_on"),
    (LOGS["memory"], "a_durable_outlives_the_log_that_is_closed"),
    (LOGS["memory"], "a_schedule_outlives_its_bus"),
    (LOGS["memory"], "a_bus_that_only_listens_sends_what_is_due"),
    (LOGS["memory"], "publishers_that_choose_ids_do_not_replace_each_other"),
    (LOGS["memory"], "an_aggregate_outlives_the_log_that_is_closed"),
    (LOGS["memory"], "a_projection_goes_on_when_the_log_is_opened_again"),
}
"""What a bus between processes, and a log in memory, do not claim."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_conformance(case: Case, folder: Path, worker: Worker) -> None:
    is_claimed = (case.log, case.check.name) not in UNCLAIMED
    outcome = "passed" if is_claimed else "unsupported"
    assert await case.prove(folder=folder, worker=worker) == outcome


def test_every_check_is_run() -> None:
    assert {case.check.name for case in CASES} == {check.name for check in CHECKS}
