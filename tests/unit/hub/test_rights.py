"""Who may publish, subscribe, read and append what, by which token."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.errors import RefusedError, UnauthenticatedError
from hms_bus.hub.rights import EVERYTHING, Rights, authenticate
from hms_bus.hub.settings import Grant
from hms_bus.topics import parse_pattern

WORDS = st.sampled_from(["a", "b", "$a"])
LATER_WORDS = st.sampled_from(["a", "b"])


def joined(first: str, rest: list[str], last: list[str]) -> str:
    return ".".join([first, *rest, *last])


# `$` only opens a topic, `>` only closes a pattern.
TOPICS = st.builds(joined, WORDS, st.lists(LATER_WORDS, max_size=3), st.just([]))
PATTERNS = st.builds(
    joined,
    WORDS | st.just("*"),
    st.lists(LATER_WORDS | st.just("*"), max_size=2),
    st.sampled_from([[], [">"]]),
) | st.just(">")


def rights(
    *,
    publish: list[str] | None = None,
    subscribe: list[str] | None = None,
    durable: list[str] | None = None,
) -> Rights:
    return Rights(
        Grant(
            name="till",
            sha256=bytes(32),
            publish=tuple(publish or ()),
            subscribe=tuple(subscribe or ()),
            durable=tuple(durable or ()),
        )
    )


def may_subscribe(granted: list[str], pattern: str) -> bool:
    return rights(subscribe=granted).may_subscribe(parse_pattern(pattern))


# -- publishing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "topic", "may"),
    [
        (["orders.>"], "orders.eu.created", True),
        (["orders.>"], "orders", False),
        (["orders.>"], "payments.eu", False),
        (["orders.*", "payments.eu"], "payments.eu", True),
        (["orders.{region}"], "orders.eu", True),
        ([], "orders.eu", False),
        ([">"], "orders.eu", True),
        ([">"], "$SRV.PING", False),
        ([">"], "$reply.orders.eu", False),
        (["$SRV.>"], "$SRV.PING", True),
        (["$SRV.>"], "orders.eu", False),
    ],
)
def test_publishing_takes_a_pattern_that_selects_the_topic(
    granted: list[str], topic: str, *, may: bool
) -> None:
    mine = rights(publish=granted)
    assert mine.may_publish(topic) is may
    assert mine.may_publish(topic) is may, "and again, from the cache"


@pytest.mark.parametrize("topic", ["$inbox.7", "$inbox.7.control", "$control"])
def test_everybody_may_answer_and_control_requests(topic: str) -> None:
    assert rights().may_publish(topic)


@pytest.mark.parametrize("topic", ["$inbox", "$inboxes.7", "$control.7", "$controls", "inbox.7"])
def test_what_is_only_like_an_inbox_takes_a_right(topic: str) -> None:
    assert not rights().may_publish(topic)


def test_to_subscribe_is_no_right_to_publish_nor_the_other_way_round() -> None:
    assert not rights(subscribe=[">"]).may_publish("orders.eu")
    assert not rights(publish=[">"]).may_subscribe(parse_pattern("orders.eu"))


@given(granted=st.lists(PATTERNS, max_size=3), topic=TOPICS)
def test_a_topic_may_be_published_to_when_some_grant_selects_it(
    granted: list[str], topic: str
) -> None:
    selected = any(parse_pattern(pattern).matches(topic) for pattern in granted)
    assert rights(publish=granted).may_publish(topic) is selected


# -- subscribing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "pattern", "may"),
    [
        (["orders.>"], "orders.eu.created", True),
        (["orders.>"], "orders.>", True),
        (["orders.>"], "orders.*.created", True),
        (["orders.>"], "orders.{region}.>", True),
        (["orders.>"], ">", False),
        (["orders.>"], "*.eu", False),
        (["orders.*"], "orders.>", False),
        (["orders.*"], "orders.{region}", True),
        (["orders.{region}"], "orders.*", True),
        (["orders.eu"], "orders.*", False),
        ([">"], ">", True),
        ([">"], "$SRV.>", False),
        (["$SRV.>"], "$SRV.PING", True),
        ([], "orders.eu", False),
    ],
)
def test_subscribing_takes_a_pattern_that_covers_the_asked_one(
    granted: list[str], pattern: str, *, may: bool
) -> None:
    assert may_subscribe(granted, pattern) is may


@pytest.mark.parametrize("pattern", ["$inbox.7", "$inbox.7.control", "$control"])
def test_everybody_may_listen_in_an_inbox_and_for_control(pattern: str) -> None:
    assert may_subscribe([], pattern)


@pytest.mark.parametrize(
    "pattern", ["$inbox.>", "$inbox.*", "$inbox.{id}", "$inbox.7.>", "$inbox.*.control", "$inbox"]
)
def test_many_inboxes_take_a_grant_of_their_own(pattern: str) -> None:
    assert not may_subscribe([], pattern)
    assert not may_subscribe([">"], pattern)
    assert may_subscribe(["$inbox.>", "$inbox"], pattern)


@given(granted=st.lists(PATTERNS, max_size=3), pattern=PATTERNS, topic=TOPICS)
def test_a_subscription_gets_nothing_that_no_grant_selects(
    granted: list[str], pattern: str, topic: str
) -> None:
    asked = parse_pattern(pattern)
    if may_subscribe(granted, pattern) and asked.matches(topic):
        assert any(parse_pattern(text).matches(topic) for text in granted)


@given(granted=st.lists(PATTERNS, max_size=3), topic=TOPICS)
def test_one_topic_may_be_subscribed_to_when_some_grant_selects_it(
    granted: list[str], topic: str
) -> None:
    selected = any(parse_pattern(pattern).matches(topic) for pattern in granted)
    assert may_subscribe(granted, topic) is selected


@given(granted=st.lists(PATTERNS, min_size=1, max_size=3))
def test_what_is_granted_may_be_subscribed_to(granted: list[str]) -> None:
    assert all(may_subscribe(granted, pattern) for pattern in granted)


# -- durables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "name", "may"),
    [
        ([], "billing", False),
        (["billing"], "billing", True),
        (["billing"], "billing2", False),
        (["billing"], "bill", False),
        (["bill-*", "audit"], "audit", True),
        (["bill-*"], "bill-eu", True),
        (["bill-*"], "bill", False),
        (["*"], "billing", True),
    ],
)
def test_a_durable_takes_its_name_or_how_it_begins(
    granted: list[str], name: str, *, may: bool
) -> None:
    assert rights(durable=granted).may_use(name) is may


def test_the_right_to_its_records_is_none_to_a_durable() -> None:
    assert not rights(subscribe=[">", "$reply.>"]).may_use("billing")
    assert EVERYTHING.may_use("billing")


# -- the log -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "pattern", "may"),
    [
        (["orders.>"], "orders.eu", True),
        (["orders.>"], "orders.{region}.>", True),
        (["orders.>"], "payments.eu", False),
        (["orders.>"], None, False),
        ([">"], ">", True),
        ([">"], None, False),
        ([">"], "$reply.orders.eu", False),
        (["$reply.>"], None, False),
        (["$reply.>"], "$reply.orders.eu", True),
        ([">", "$reply.>"], None, True),
        # What everybody may listen to as it is sent, nobody may read later without a right.
        ([">", "$reply.>"], "$inbox.7", False),
        ([">", "$reply.>"], "$control", False),
    ],
)
def test_reading_takes_the_right_to_subscribe(
    granted: list[str], pattern: str | None, *, may: bool
) -> None:
    asked = None if pattern is None else parse_pattern(pattern)
    assert rights(subscribe=granted).may_read(asked) is may


@pytest.mark.parametrize(
    ("publish", "subscribe", "address", "topic", "may"),
    [
        (["orders.>"], [], "orders.eu", "orders.eu", True),
        (["orders.>"], [], "payments.eu", "payments.eu", False),
        # A reply goes to an inbox and is logged on a topic of its own.
        ([], ["quotes.get"], "$inbox.7", "$reply.quotes.get", True),
        ([], ["quotes.*"], "$inbox.7", "$reply.quotes.get", True),
        ([], ["$SRV.>"], "$inbox.7", "$reply.SRV.PING", True),
        ([], [], "$inbox.7", "$reply.quotes.get", False),
        (["quotes.get"], [], "$inbox.7", "$reply.quotes.get", False),
        (["$reply.>"], [], "$inbox.7", "$reply.quotes.get", True),
        ([], ["quotes.get"], "$reply.quotes.get", "$reply.quotes.get", False),
        # An inbox is open to all, the log is not.
        ([], [], "$inbox.7", "orders.eu", False),
        (["payments.>"], ["orders.>"], "$inbox.7", "orders.eu", False),
        (["orders.>"], [], "$inbox.7", "orders.eu", True),
        ([], [], "$inbox.7", "$inbox.7", False),
        ([], [], "$inbox.7", "$reply.inbox.7", False),
        ([], [], "$control", "$control", False),
    ],
)
def test_appending_takes_a_right_to_the_address_and_to_the_topic(
    publish: list[str], subscribe: list[str], address: str, topic: str, *, may: bool
) -> None:
    assert rights(publish=publish, subscribe=subscribe).may_append(address, topic) is may


# -- without tokens ------------------------------------------------------------------------------


@given(pattern=PATTERNS, topic=TOPICS)
def test_without_tokens_everybody_may_do_everything(pattern: str, topic: str) -> None:
    everything = authenticate([], None)
    assert everything is EVERYTHING
    assert everything.is_admin
    assert everything.name is None
    assert everything.may_publish(topic)
    assert everything.may_subscribe(parse_pattern(pattern))
    assert everything.may_read(parse_pattern(pattern))
    assert everything.may_read(None)
    assert everything.may_append("$inbox.7", topic)


def test_a_token_that_nobody_asked_for_is_no_harm() -> None:
    assert authenticate([], "whatever") is EVERYTHING


# -- tokens --------------------------------------------------------------------------------------


def grant(name: str, token: str, *, is_admin: bool = False) -> Grant:
    return Grant(name=name, sha256=hashlib.sha256(token.encode()).digest(), is_admin=is_admin)


GRANTS = (grant("till", "größe-7"), grant("owner", "open-9", is_admin=True))


@pytest.mark.parametrize(("token", "name"), [("größe-7", "till"), ("open-9", "owner")])
def test_a_client_has_the_rights_of_its_token(token: str, name: str) -> None:
    mine = authenticate(GRANTS, token)
    assert mine.name == name
    assert mine.is_admin is (name == "owner")
    assert name in repr(mine)


def test_clients_with_one_token_share_their_rights() -> None:
    assert authenticate(GRANTS, "open-9") is authenticate(list(GRANTS), "open-9")


def test_changed_grants_are_other_rights() -> None:
    changed = Grant(name="till", sha256=GRANTS[0].sha256, publish=("orders.>",))
    assert not authenticate(GRANTS, "größe-7").may_publish("orders.eu")
    assert authenticate([changed], "größe-7").may_publish("orders.eu")


@pytest.mark.parametrize(
    "token", ["", "größe-8", "größe", "GRÖSSE-7", "till", "\ud800", "x" * 10_000]
)
def test_an_unknown_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(UnauthenticatedError, match="does not know") as caught:
        authenticate(GRANTS, token)
    assert not token or token not in str(caught.value)
    assert caught.value.code == "UNAUTHENTICATED"
    assert isinstance(caught.value, RefusedError)
    assert not caught.value.retryable


def test_the_hash_of_a_token_is_no_token() -> None:
    with pytest.raises(UnauthenticatedError):
        authenticate(GRANTS, GRANTS[0].sha256.hex())


def test_a_missing_token_is_refused() -> None:
    with pytest.raises(UnauthenticatedError, match="asks for a token"):
        authenticate(GRANTS, None)


def test_over_tcp_the_secret_of_the_hub_opens_everything() -> None:
    assert authenticate([], "sesame", secret="sesame") is EVERYTHING
    for given_instead in ("sesam", ""):
        with pytest.raises(UnauthenticatedError, match="does not know"):
            authenticate([], given_instead, secret="sesame")
    with pytest.raises(UnauthenticatedError, match="asks for a token"):
        authenticate([], None, secret="sesame")


def test_where_there_are_tokens_the_secret_opens_nothing() -> None:
    assert authenticate(GRANTS, "open-9", secret="sesame").name == "owner"
    with pytest.raises(UnauthenticatedError):
        authenticate(GRANTS, "sesame", secret="sesame")


# -- the error -----------------------------------------------------------------------------------


def test_what_is_denied_is_told_with_the_tokens_name() -> None:
    error = rights().denied("publish", "orders.eu")
    assert (error.action, error.topic, error.name) == ("publish", "orders.eu", "till")
    assert str(error) == "the token 'till' has no right to publish to 'orders.eu'"
    assert error.code == "PERMISSION_DENIED"


def test_who_may_not_read_everything_learns_which_rights_that_takes() -> None:
    text = str(rights().denied("read"))
    assert "'>'" in text
    assert "'$reply.>'" in text
    assert rights(subscribe=[">", "$reply.>"]).may_read(None)


@pytest.mark.parametrize(
    ("action", "topic", "words"),
    [
        ("subscribe", "a.>", "subscribe to 'a.>'"),
        ("append", "a", "append to the log on 'a'"),
        ("read", "a.>", "read 'a.>' from the log"),
        ("stop", None, "an admin"),
        ("status", None, "the figures of the hub: that takes an admin"),
        ("verify", None, "have all of the log checked: that takes an admin"),
    ],
)
def test_each_action_has_its_words(action: str, topic: str | None, words: str) -> None:
    assert words in str(rights().denied(action, topic))  # pyright: ignore[reportArgumentType]
