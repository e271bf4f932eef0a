"""Aggregates: what a class has to look like, and what it emits."""

from dataclasses import dataclass

import pytest
from msgspec import Struct

from hms_bus.errors import ConfigError, StateError, TopicError
from hms_bus.sourcing import aggregate, applies, emit, recording
from hms_bus.sourcing.aggregates import behaviour_of
from tests.support.sourced import Account, Deposited, Opened, OverdrawnError, Withdrawn


def test_what_is_emitted_is_applied_at_once_and_recorded_in_order() -> None:
    account = Account()
    with recording(account) as events:
        account.deposit(5)
        assert account.withdraw(2) == 3
    assert events == [Deposited(5), Withdrawn(2)]
    assert account == Account(balance=3)


def test_a_decision_that_is_refused_emits_nothing() -> None:
    account = Account()
    with recording(account) as events, pytest.raises(OverdrawnError):
        account.withdraw(2)
    assert events == []


def test_an_event_that_nobody_would_keep_is_refused_and_not_applied() -> None:
    account = Account()
    with pytest.raises(StateError, match="not being edited"):
        account.deposit(5)
    assert account.balance == 0


def test_equal_aggregates_are_recorded_apart() -> None:
    one, other = Account(), Account()
    with recording(one) as of_one, recording(other) as of_other:
        one.deposit(1)
    assert (of_one, of_other) == ([Deposited(1)], [])


def test_an_aggregate_is_recorded_once_at_a_time() -> None:
    account = Account()
    with recording(account), pytest.raises(StateError, match="already"), recording(account):
        pass


def test_a_struct_is_an_aggregate_as_well() -> None:
    @aggregate("counters.{name}")
    class Counter(Struct):
        total: int = 0

        @applies(Deposited)
        def add(self, event: Deposited) -> None:
            self.total += event.amount

    counter = Counter()
    with recording(counter) as events:
        emit(counter, Deposited(1), Deposited(2))
    assert counter.total == 3
    assert len(events) == 2


def test_a_class_may_refine_how_its_parent_applies_an_event() -> None:
    @aggregate("premium.{id}")
    @dataclass
    class Premium(Account):
        @applies(Deposited)
        def doubled(self, event: Deposited) -> None:
            self.balance += 2 * event.amount

    account = Premium()
    with recording(account):
        account.open("ann")
        account.deposit(5)
    assert account == Premium(owner="ann", balance=10)
    assert behaviour_of(Account).topic_of("1") == "accounts.1"


def test_an_event_without_a_method_is_refused() -> None:
    class Strange(Struct):
        pass

    account = Account()
    with recording(account) as events, pytest.raises(ConfigError, match=r"@applies\(Strange\)"):
        emit(account, Strange())
    assert events == []


@pytest.mark.parametrize("id_", [7, "", "a.b", "*", ">", "a b"])
def test_an_id_is_one_token_of_a_topic(id_: str) -> None:
    with pytest.raises(TopicError):
        behaviour_of(Account).topic_of(id_)


@pytest.mark.parametrize("topic", ["accounts", "a.{b}.{c}", "a.*.{b}", "a.{b}.>"])
def test_the_topic_of_an_aggregate_has_one_place_for_the_id(topic: str) -> None:
    with pytest.raises(ConfigError, match="one"):
        aggregate(topic)


def test_two_methods_for_one_event_are_refused() -> None:
    class Double:
        @applies(Opened)
        def one(self, event: Opened) -> None: ...

        @applies(Opened)
        def other(self, event: Opened) -> None: ...

    with pytest.raises(ConfigError, match="Opened"):
        aggregate("double.{id}")(Double)


def test_a_class_that_applies_nothing_is_no_aggregate() -> None:
    with pytest.raises(ConfigError, match="applies"):
        aggregate("nothing.{id}")(type("Nothing", (), {}))
    with pytest.raises(ConfigError, match="@aggregate"):
        behaviour_of(int)


def test_a_builtin_is_no_event_to_apply() -> None:
    class Odd:
        @applies(int)
        def one(self, event: int) -> None: ...

    with pytest.raises(ConfigError, match="'int' is no event"):
        aggregate("odd.{id}")(Odd)


def test_an_aggregate_starts_without_arguments() -> None:
    @aggregate("strict.{id}")
    @dataclass
    class Strict:
        owner: str

        @applies(Opened)
        def opened(self, event: Opened) -> None: ...

    with pytest.raises(ConfigError, match="without arguments"):
        behaviour_of(Strict).make()
