"""Every check of a bus with its publisher in another process, over a transport that joins both."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus import plugins
from hms_bus.errors import BusError
from hms_bus.testing.conformance import CHECKS, Case, Worker, plan
from tests.support.command_line import CommandLine, relay_hub
from tests.support.plugins import plugged_in

URL = "relay://{folder}/relay.sock"

CASES = [
    case
    for case in (
        *plan(URL, codecs=["json", "cbor", "protobuf"], log="memory:{name}", apart=True),
        *(
            case
            for case in plan(URL, codecs=["json"], log="sqlite:{folder}/{name}.db", apart=True)
            if case.log is not None
        ),
    )
    if case.apart and "log-durable" not in case.check.needs
]
"""Durables need one log for both: over `ipc://` they are proven apart (test_ipc.py)."""

SLOW = [
    case for case in plan(f"{URL}?lag=1.5", codecs=["json"], log=None, apart=True) if case.apart
]

HERE = {
    "a_conversation_is_kept_with_its_answers",  # its publisher serves, too
    "handlers_may_be_added_to_an_open_bus",  # no publisher, since it is about handlers
    "publish_middleware_stands_around_all_that_is_sent",  # the middleware is code of the check
    "a_private_address_is_shared_with_nobody",  # not claimed
}
"""The checks whose publisher does not leave this process, so that none stays unnoticed."""

UNCLAIMED = {"a_private_address_is_shared_with_nobody"}
"""What a transport between processes cannot claim."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # A socket's path has 107 bytes at the most, and those of pytest are long.
    with tempfile.TemporaryDirectory(prefix="hms-", dir="/tmp") as name:
        folder = Path(name)
        broken = "tests.support.broken_transports:open_broken"
        with relay_hub(folder), plugged_in(folder, "transports", broken=broken):
            plugins.find("transports", "relay")
            yield folder


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_conformance(case: Case, folder: Path, worker: Worker) -> None:
    opened = worker.opened
    outcome = "unsupported" if case.check.name in UNCLAIMED else "passed"
    assert await case.prove(folder=folder, worker=worker) == outcome
    assert (worker.opened > opened) == (case.check.name not in HERE)


@pytest.mark.parametrize("case", SLOW, ids=str)
async def test_no_check_counts_on_a_quick_line(case: Case, folder: Path, worker: Worker) -> None:
    assert await case.prove(folder=folder, worker=worker) in {"passed", "unsupported"}


def test_every_check_of_a_bus_is_run_apart() -> None:
    of_a_bus = {
        check.name
        for check in CHECKS
        if check.part not in {"log", "codec"} and "log-durable" not in check.needs
    }
    assert {case.check.name for case in CASES} == of_a_bus


def test_the_documentation_names_those_that_stay() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    _, _, section = page.partition("### In two processes\n")
    section, _, _ = section.partition("\n### ")
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == HERE


BY_NAME = {check.name: check for check in CHECKS}

BROKEN = {
    "LosesSome": "messages_of_one_publisher_keep_their_order",
    "Repeats": "every_subscription_gets_the_message_once",
    "SwapsNeighbours": "messages_of_one_publisher_keep_their_order",
    "IgnoresGroups": "one_member_of_a_group_gets_each_message",
    "TakesListenersForServers": "a_listener_is_no_server",
    "NeverWaits": "a_full_queue_holds_its_publisher_back",
    "NeverUnsubscribes": "a_member_that_leaves_is_left_out",
    "LosesExtensions": "unknown_extensions_arrive",
    "LosesTheReplyAddress": "a_request_gets_its_answer",
    "LosesCancellations": "a_caller_that_leaves_cancels_the_handler",
    "LosesCredit": "a_long_stream_needs_little_credit",
    "TailMatchesNothing": "a_tail_stands_for_one_token_or_more",
    "ClaimsPrivacy": "a_private_address_is_shared_with_nobody",
    "AcceptsWhatItDoesNotClaim": "one_member_of_a_group_gets_each_message",
}


def on_broken(kind: str, check: str) -> Case:
    url = f"broken:{URL}?break={kind}"
    return Case(check=BY_NAME[check], url=url, codec="json", apart=True)


@pytest.mark.parametrize(("kind", "check"), BROKEN.items())
async def test_a_broken_transport_fails(
    kind: str, check: str, folder: Path, worker: Worker
) -> None:
    with pytest.raises((AssertionError, BusError)) as caught:
        await on_broken(kind, check).prove(folder=folder, worker=worker, patience_s=0.5)
    assert "the process of the publisher" not in str(caught.value)


@pytest.mark.parametrize("check", sorted(set(BROKEN.values()) - UNCLAIMED))
async def test_a_wrapped_transport_that_is_whole_passes(
    check: str, folder: Path, worker: Worker
) -> None:
    assert await on_broken("Faithful", check).prove(folder=folder, worker=worker) == "passed"


def test_the_command_line_says_which_publishers_were_apart(tmp_path: Path, folder: Path) -> None:
    cli = CommandLine(folder=tmp_path, settings={"PYTHONPATH": f"{folder}:{Path.cwd()}"})
    checks = (
        "a_bus_hears_itself",
        "a_conversation_is_kept_with_its_answers",
        "all_is_read_in_order",
    )
    chosen = [word for check in checks for word in ("--check", check)]
    url = URL.format(folder=folder)
    ended = cli.run(
        "conformance", url, "--codec=json", "--apart", "--all", "--format=json", *chosen
    )
    rows = [json.loads(line) for line in ended.lines]
    assert [(row["check"], row["publisher"]) for row in rows] == [
        ("a_bus_hears_itself", "apart"),
        ("a_bus_hears_itself", "apart"),
        ("a_conversation_is_kept_with_its_answers", "here"),
        ("all_is_read_in_order", None),
    ]
    assert "4 passed, 0 failed" in ended.err
    assert "in 2 the publisher was in another process" in ended.err


def test_what_stays_in_one_process_cannot_be_apart(tmp_path: Path) -> None:
    ended = CommandLine(folder=tmp_path).run("conformance", "direct://", "--apart", fails=2)
    assert "'direct://' stays within one process" in ended.err
