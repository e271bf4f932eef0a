"""The suite bites: an implementation that breaks one promise fails the check of that promise."""

import pytest

from hms_bus.errors import BusError
from hms_bus.testing.conformance import CHECKS, Case

pytestmark = pytest.mark.usefixtures("broken_plugins")

BY_NAME = {check.name: check for check in CHECKS}

TRANSPORTS = {
    "LosesSome": "messages_of_one_publisher_keep_their_order",
    "Repeats": "every_subscription_gets_the_message_once",
    "SwapsNeighbours": "messages_of_one_publisher_keep_their_order",
    "IgnoresGroups": "one_member_of_a_group_gets_each_message",
    "SeesNobodyBusy": "an_idle_member_gets_the_next_message",
    "TakesListenersForServers": "a_listener_is_no_server",
    "HidesMissingServers": "nobody_serving_is_known_at_once",
    "NeverWaits": "a_full_queue_holds_its_publisher_back",
    "HidesRefusals": "a_full_queue_can_refuse",
    "NeverUnsubscribes": "a_member_that_leaves_is_left_out",
    "LosesExtensions": "unknown_extensions_arrive",
    "LosesThePriority": "every_attribute_arrives",
    "LosesTheCause": "what_a_handler_publishes_names_its_cause",
    "LosesTheReplyAddress": "a_request_gets_its_answer",
    "LosesCancellations": "a_caller_that_leaves_cancels_the_handler",
    "LosesCredit": "a_long_stream_needs_little_credit",
    "TailMatchesNothing": "a_tail_stands_for_one_token_or_more",
    "KeepsTheLast": "nothing_is_kept_for_who_subscribes_later",
    "ClaimsPrivacy": "a_private_address_is_shared_with_nobody",
    "AcceptsWhatItDoesNotClaim": "one_member_of_a_group_gets_each_message",
}

LOGS = {
    "LeavesGaps": "positions_begin_at_one_without_gaps",
    "KeepsDoubles": "an_id_is_kept_once",
    "IgnoresExpect": "expect_compares_the_topics_last_position",
    "ChecksBeforeItsTurn": "one_of_those_who_expect_the_same_wins",
    "TearsBatches": "a_batch_stands_together",
    "AnswersBeforeTheCommit": "what_is_delivered_is_in_the_log",
    "ExcludesTheLast": "bounds_and_limit_belong_to_the_selection",
    "LimitsBeforeItSelects": "attributes_select_records",
    "NeverRunsBackwards": "a_read_can_run_backwards",
    "ExcludesTheMoment": "a_read_can_be_bound_by_time",
    "SkipsBetweenOldAndNew": "a_follower_misses_and_repeats_nothing",
    "FindsNothingWrong": "a_head_kept_outside_tells_of_a_loss",
    "TurnsTimeBack": "recorded_time_never_runs_backwards",
    "LosesExtensions": "a_record_is_the_envelope_that_was_appended",
    "LooksIntoPayloads": "a_payload_is_no_attribute",
    "OpenForEver": "a_closed_log_refuses_everything",
    "AcceptsWhatItDoesNotClaim": "a_follower_ends_at_its_bound",
}

SOURCING = {
    "IgnoresExpect": "who_decides_on_an_old_version_changes_nothing",
    "ChecksBeforeItsTurn": "who_loses_decides_again",
    "TearsBatches": "an_aggregate_is_its_events",
    "SkipsBetweenOldAndNew": "a_projection_catches_up_and_goes_on",
    "KeepsDoubles": "a_relay_that_dies_publishes_once",
    "LeavesGaps": "a_streams_version_is_its_last_position",
}
"""What else fails on logs that are broken so."""

DURABLES = {
    "NeverCountsANak": "the_last_failure_makes_a_dead_letter",
    "NeverEndsAWait": "what_is_not_settled_comes_again",
    "RetriesAtOnce": "a_nak_brings_it_again",
    "BelievesWhoIsLate": "an_old_attempt_settles_nothing",
    "MakesNoDeadLetters": "dead_letters_can_be_redriven",
    "ForgetsWhy": "a_term_makes_a_dead_letter",
    "MixesKeys": "a_key_has_one_delivery_at_a_time",
    "KnowsNoLimit": "unacked_deliveries_are_limited",
    "LosesWhatNobodyWaitsFor": "fetching_that_is_cancelled_loses_nothing",
    "ForgetsTheCursor": "what_was_acked_does_not_come_again",
    "TakesDeliveredForHandled": "the_cursor_is_what_was_handled",
    "LetsEverybodyIn": "without_a_group_there_is_one_consumer",
}

CODECS = {
    "CutsTime": "times_are_the_same_instants",
    "StringifiesExtensions": "all_extensions_survive",
    "CountsInFloats": "payloads_without_a_class_survive",
    "MakesUpPayloads": "a_minimal_envelope_survives",
    "LetsForeignErrorsOut": "damaged_documents_are_refused",
    "TextOnly": "octets_and_text_survive",
}


def on_transport(kind: str, check: str) -> Case:
    url = f"broken:direct://{{name}}?break={kind}"
    return Case(check=BY_NAME[check], url=url, codec="json")


def on_log(kind: str, check: str) -> Case:
    log = f"broken:{{name}}?break={kind}"
    return Case(check=BY_NAME[check], url="direct://", codec="json", log=log)


def on_durables(kind: str, check: str) -> Case:
    log = f"broken-durables:{{name}}?break={kind}"
    return Case(check=BY_NAME[check], url="direct://", codec="json", log=log)


def on_codec(kind: str, check: str) -> Case:
    return Case(check=BY_NAME[check], url="direct://", codec=kind)


async def is_noticed(case: Case) -> None:
    with pytest.raises((AssertionError, BusError)) as caught:
        await case.prove(patience_s=0.3)
    assert str(caught.value), "a failure says what was found"


@pytest.mark.parametrize(("kind", "check"), TRANSPORTS.items())
async def test_a_broken_transport_fails(kind: str, check: str) -> None:
    await is_noticed(on_transport(kind, check))


@pytest.mark.parametrize(
    "check", sorted(set(TRANSPORTS.values()) - {"a_private_address_is_shared_with_nobody"})
)
async def test_a_wrapped_transport_that_is_whole_passes(check: str) -> None:
    assert await on_transport("Faithful", check).prove() == "passed"


async def test_a_transport_that_claims_less_and_says_so_is_no_failure() -> None:
    case = on_transport("ClaimsLess", "one_member_of_a_group_gets_each_message")
    assert await case.prove() == "unsupported"


@pytest.mark.parametrize(("kind", "check"), [*LOGS.items(), *SOURCING.items()])
async def test_a_broken_log_fails(kind: str, check: str) -> None:
    await is_noticed(on_log(kind, check))


@pytest.mark.parametrize("check", sorted({*LOGS.values(), *SOURCING.values()}))
async def test_a_wrapped_log_that_is_whole_passes(check: str) -> None:
    assert await on_log("Faithful", check).prove() == "passed"


CLAIMED = [
    check.name
    for check in CHECKS
    if check.part == "log" and check.needs - {"log-dedup", "log-survives-process"}
]


@pytest.mark.parametrize("check", CLAIMED)
async def test_a_log_that_claims_little_and_says_so_is_no_failure(check: str) -> None:
    assert await on_log("ClaimsLittle", check).prove() == "unsupported"


@pytest.mark.parametrize(("kind", "check"), DURABLES.items())
async def test_a_log_with_broken_durables_fails(kind: str, check: str) -> None:
    await is_noticed(on_durables(kind, check))


@pytest.mark.parametrize("check", sorted(set(DURABLES.values())))
async def test_a_wrapped_log_with_whole_durables_passes(check: str) -> None:
    assert await on_durables("Whole", check).prove() == "passed"


@pytest.mark.parametrize(("kind", "check"), CODECS.items())
async def test_a_broken_codec_fails(kind: str, check: str) -> None:
    await is_noticed(on_codec(kind, check))


@pytest.mark.parametrize("check", sorted(set(CODECS.values())))
async def test_a_wrapped_codec_that_is_whole_passes(check: str) -> None:
    assert await on_codec("Faithful", check).prove() == "passed"
