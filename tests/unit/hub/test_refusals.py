"""What is new among refusals, and what is only counted."""

from hypothesis import given
from hypothesis import strategies as st

from hms_bus.hub.refusals import MAX_KINDS, MAX_TOPICS, Refusal, Repeats, What, clean


def refusal(
    topic: str | None = "orders.eu", *, what: What = "denied", client: int = 1, pid: int = 7
) -> Refusal:
    return Refusal(what=what, reason="no right", client=client, pid=pid, uid=1000, topic=topic)


def test_the_first_is_new_and_those_like_it_are_counted() -> None:
    repeats = Repeats(10)
    assert [repeats.admit(refusal(), now) for now in (0, 1, 9)] == [True, False, False]
    assert repeats.expire(9.9) == []
    assert repeats.expire(10) == [(refusal(), 2)]


def test_while_it_goes_on_it_is_told_once_in_a_while() -> None:
    repeats = Repeats(10)
    told = 0
    for now in range(100):
        assert repeats.admit(refusal(), now) is (now == 0)
        told += sum(number for _, number in repeats.expire(now))
    assert told + sum(number for _, number in repeats.drain()) == 99


def test_what_was_not_repeated_is_forgotten_and_new_again() -> None:
    repeats = Repeats(10)
    assert repeats.admit(refusal(), 0)
    assert repeats.expire(10) == []
    assert repeats.due_in(10) is None
    assert repeats.admit(refusal(), 11)


def test_what_was_told_is_counted_from_0() -> None:
    repeats = Repeats(10)
    assert repeats.admit(refusal(), 0)
    assert not repeats.admit(refusal(), 5)
    assert repeats.expire(10) == [(refusal(), 1)]
    assert repeats.due_in(10) == 10
    assert not repeats.admit(refusal(), 15)
    assert repeats.expire(20) == [(refusal(), 1)]
    assert repeats.expire(30) == []


def test_other_topics_clients_and_kinds_are_told_apart() -> None:
    repeats = Repeats(10)
    different = [
        refusal(),
        refusal("orders.us"),
        refusal(None),
        refusal(client=2),
        refusal(pid=8),
        refusal(what="protocol"),
    ]
    assert all(repeats.admit(one, 0) for one in different)
    assert not any(repeats.admit(one, 1) for one in different)


def test_who_connects_again_with_a_wrong_token_is_the_same_client() -> None:
    repeats = Repeats(10)
    attempts = [refusal(None, what="unauthenticated", client=number) for number in range(100)]
    assert [repeats.admit(one, 0) for one in attempts] == [True] + 99 * [False]
    assert repeats.drain() == [(attempts[0], 99)]


def test_a_client_that_tries_topic_after_topic_gets_a_bounded_number_of_lines() -> None:
    repeats = Repeats(10)
    admitted = [repeats.admit(refusal(f"t.{number}"), 0) for number in range(1000)]
    assert admitted == (MAX_TOPICS + 1) * [True] + (999 - MAX_TOPICS) * [False]
    [(told, number)] = repeats.expire(10)
    assert (told.topic, told.reason, number) == (None, "on further topics", 999 - MAX_TOPICS)
    assert repeats.admit(refusal("t.0", client=2), 11), "others are not affected"


def test_its_topics_are_told_apart_again_later() -> None:
    repeats = Repeats(10)
    for number in range(MAX_TOPICS + 1):
        repeats.admit(refusal(f"t.{number}"), 0)
    repeats.expire(10)
    assert all(repeats.admit(refusal(f"u.{number}"), 11) for number in range(MAX_TOPICS))


def test_when_too_much_is_told_apart_the_oldest_is_told_and_forgotten() -> None:
    repeats = Repeats(10)
    for _ in range(3):
        repeats.admit(refusal(client=0), 0)
    for client in range(1, MAX_KINDS):
        assert repeats.admit(refusal(client=client), 1)
    assert repeats.expire(2) == []
    assert repeats.admit(refusal(client=MAX_KINDS), 2)
    assert repeats.expire(2) == [(refusal(client=0), 2)]
    assert repeats.admit(refusal(client=0), 3), "it is new again"


def test_draining_tells_everything_and_forgets_it() -> None:
    repeats = Repeats(10)
    for topic in ("a", "a", "b", "c", "c", "c"):
        repeats.admit(refusal(topic), 0)
    assert repeats.drain() == [(refusal("a"), 1), (refusal("c"), 2)]
    assert repeats.drain() == []
    assert repeats.due_in(0) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),  # seconds since the one before
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 2),
            st.booleans(),  # whether what has expired is asked for
        ),
        max_size=60,
    )
)
def test_no_refusal_is_lost(events: list[tuple[int, str, int, bool]]) -> None:
    repeats = Repeats(5)
    now, lines, counted = 0, 0, 0
    for seconds, topic, client, looks in events:
        now += seconds
        lines += repeats.admit(refusal(topic, client=client), now)
        if looks:
            counted += sum(number for _, number in repeats.expire(now))
    counted += sum(number for _, number in repeats.drain())
    assert lines + counted == len(events)


# -- texts that clients choose -------------------------------------------------------------------


def test_a_text_is_cut_to_a_length() -> None:
    assert clean("x" * 1_000_000) == "x" * 300


@given(st.text(st.characters(), max_size=400))
def test_a_text_can_be_written_as_utf_8(text: str) -> None:
    assert len(clean(text).encode()) <= 4 * 300


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    assert clean("a\ud800b") == "a?b"


def test_all_that_clients_choose_is_cleaned() -> None:
    long = "x" * 999
    given_by_client = Refusal(what="denied", reason=long, name=long, topic=long, client=5)
    cleaned = given_by_client.cleaned()
    assert {len(cleaned.reason), len(cleaned.name or ""), len(cleaned.topic or "")} == {300}
    assert cleaned.client == 5
    assert refusal(None).cleaned() == refusal(None)
