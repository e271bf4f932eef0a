"""What checks look and wait with fails when it should, and says what was found."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from hms_bus.errors import ConfigError, StateError
from hms_bus.testing.conformance import probes


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    token = probes.patience_s.set(0.05)
    yield
    probes.patience_s.reset(token)


def test_unequal_values_are_both_told() -> None:
    probes.equal([1], [1], "order")
    with pytest.raises(AssertionError, match=r"order: expected \[1, 2\], found \[2, 1\]"):
        probes.equal([2, 1], [1, 2], "order")


def test_the_error_that_is_expected_is_kept() -> None:
    with probes.raises(StateError, "use") as caught:
        raise StateError("closed")
    assert caught.error.message == "closed"


def test_another_error_and_none_are_failures() -> None:
    with (
        pytest.raises(AssertionError, match="use: expected StateError, raised ConfigError"),
        probes.raises(StateError, "use"),
    ):
        raise ConfigError("wrong")
    with (
        pytest.raises(AssertionError, match="use: expected StateError, nothing was raised"),
        probes.raises(StateError, "use"),
    ):
        pass


async def test_waiting_is_bounded() -> None:
    assert await probes.within(asyncio.sleep(0, "done"), "sleep") == "done"
    with pytest.raises(AssertionError, match=r"never: not within 0\.05 s"):
        await probes.within(asyncio.Event().wait(), "never")
    with pytest.raises(AssertionError, match="false: not within"):
        await probes.eventually(lambda: False, "false")


async def test_a_timeout_of_what_is_awaited_stays_its_own() -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await probes.within(fail(), "fail")


async def test_what_was_seen_can_be_waited_for() -> None:
    seen = probes.Seen[int]()
    asyncio.get_running_loop().call_soon(seen.add, 1)
    assert await seen.reach(1) == [1]
    with pytest.raises(AssertionError, match=r"handled: not within .*: 1 of 2"):
        await seen.reach(2)


async def test_a_standstill_is_waited_for() -> None:
    token = probes.patience_s.set(10)
    steps = count()
    await probes.standstill(lambda: min(next(steps), 3), "steps")
    assert next(steps) == 5
    probes.patience_s.reset(token)
    with pytest.raises(AssertionError, match="steps without end: not within"):
        await probes.standstill(lambda: next(steps), "steps without end")


async def test_a_gate_holds_until_it_is_opened() -> None:
    gate = probes.Gate()
    with pytest.raises(AssertionError, match="did not begin"):
        await gate.entered()
    passing = asyncio.create_task(gate.passing())
    await gate.entered()
    gate.open()
    await passing
