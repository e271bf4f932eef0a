"""What a durable subscription cannot be is refused where it is written; what is odd is said."""

import logging
from typing import Any

import pytest

from hms_bus import Backoff, Bus
from hms_bus.errors import ConfigError, UsageError


@pytest.mark.parametrize("name", ["", "a b", "a.b", "*", "\ud800", True])
def test_what_is_no_name_of_a_durable(name: Any) -> None:
    with pytest.raises(UsageError, match=r"is no (name of a )?durable"):
        Bus("direct://", log="memory:").subscribe("orders", durable=name)


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_deliveries", 0), ("max_unacked", 0), ("ack_wait", 0), ("start", 0), ("start", 2**63)],
)
def test_limits_that_cannot_be(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=option):
        Bus("direct://", log="memory:").subscribe("orders", durable="d", **{option: value})


def test_a_backoff_is_no_number() -> None:
    with pytest.raises(ConfigError, match="backoff is 3: give Backoff"):
        Bus("direct://", log="memory:").subscribe("orders", durable="d", backoff=3)  # pyright: ignore[reportArgumentType]


def test_the_name_of_the_schedules_is_taken() -> None:
    with pytest.raises(ConfigError, match="'scheduler' runs the schedules"):
        Bus("direct://", log="memory:").subscribe("orders", durable="scheduler")


@pytest.mark.parametrize("attempt", [1, 2, 5000])
def test_who_waits_not_at_all_at_first_never_waits(attempt: int) -> None:
    assert Backoff(first_s=0).delay_s(attempt) == 0


@pytest.mark.parametrize(
    ("pattern", "is_odd"),
    [("bills.>", True), ("bills.eu", True), ("*.eu", False), ("$dlq.>", False)],
)
async def test_a_durable_on_what_is_not_logged_is_told_of(
    pattern: str, caplog: pytest.LogCaptureFixture, *, is_odd: bool
) -> None:
    bus = Bus("direct://", log="memory:", logged=["orders.>"])

    @bus.subscribe(pattern, durable="bills")
    async def handle(number: int) -> None: ...

    with caplog.at_level(logging.WARNING, logger="hms_bus"):
        async with bus:
            pass
    assert ("the bus logs no topic that this selects" in caplog.text) == is_odd
