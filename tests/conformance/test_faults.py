"""What holds on a network that loses, doubles, delays, reorders and cuts, and what then fails."""

import asyncio

import pytest

from hms_bus.bus import Bus, Message
from hms_bus.errors import DeadlineExceededError, DisconnectedError
from hms_bus.testing.conformance import CHECKS, Case, Check, Fault

FAULTS: dict[Fault, str] = {
    "drop": "drop=1",
    "duplicate": "duplicate=0.5",
    "delay": "delay=3ms",
    "reorder": "reorder=0.5",
}

SURVIVALS = [(check, fault) for check in CHECKS for fault in FAULTS if fault in check.survives]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("check", "fault"), SURVIVALS, ids=str)
async def test_what_must_survive_a_fault_does(check: Check, fault: Fault, seed: int) -> None:
    url = f"faulty:direct://{{name}}?{FAULTS[fault]}&seed={seed}"
    log = "memory:{name}" if check.part == "logged" else None
    # Delays and reordering take capabilities away, and the suite knows which.
    assert await Case(check=check, url=url, codec="json", log=log).prove() in {
        "passed",
        "unsupported",
    }


def faulty(name: str, faults: str) -> Bus:
    return Bus(f"faulty:direct://{name}?{faults}", request_timeout_s=0.1)


async def test_a_lost_request_ends_at_its_deadline() -> None:
    server, caller = Bus("direct://lost-request"), faulty("lost-request", "drop=1")

    @server.serve("ask")
    async def answer() -> str:
        return "never asked"

    async with server, caller:
        with pytest.raises(DeadlineExceededError, match=r"no answer on 'ask' within 0\.1 s"):
            await caller.request("ask")


async def test_a_lost_answer_ends_at_the_deadline() -> None:
    server, caller = faulty("lost-answer", "drop=1"), Bus("direct://lost-answer")
    asked = asyncio.Event()

    @server.serve("ask")
    async def answer() -> str:
        asked.set()
        return "lost"

    async with server, caller:
        with pytest.raises(DeadlineExceededError):
            await caller.request("ask", timeout=0.5)
        assert asked.is_set()


async def test_a_lost_item_ends_a_stream_by_its_silence() -> None:
    server, caller = faulty("lost-item", "drop=1"), Bus("direct://lost-item")

    @server.serve("numbers")
    async def answer():  # noqa: ANN202 - an async generator's type says nothing here
        yield 1

    async with server, caller:
        with pytest.raises(DeadlineExceededError):
            async with caller.request_stream("numbers", idle_timeout=0.1) as items:
                await anext(items)


async def test_a_cut_line_says_so() -> None:
    async with faulty("cut", "cut=2") as bus, bus.subscribe("news") as messages:
        await bus.publish("news", 1)
        await bus.publish("news", 2)
        for _ in range(2):
            with pytest.raises(DisconnectedError, match="cut"):
                await bus.publish("news", 3)
        with pytest.raises(DisconnectedError):
            await bus.request("ask")
        with pytest.raises(DisconnectedError):
            async with bus.subscribe("more"):
                pass
        assert [(await anext(messages)).data for _ in range(2)] == [1, 2]


async def test_a_cut_line_hears_nothing() -> None:
    async with (
        faulty("deaf", "cut=0") as deaf,
        Bus("direct://deaf") as bus,
        deaf.subscribe("news") as heard,
        bus.subscribe("news") as witness,
    ):
        with pytest.raises(DisconnectedError):
            await deaf.publish("news", 0)
        await bus.publish("news", 1)
        assert (await anext(witness)).data == 1
        assert heard.load == 0


async def test_a_cut_ends_a_request_under_way_at_its_deadline() -> None:
    server, caller = faulty("cut-server", "cut=0"), Bus("direct://cut-server")
    failures: list[BaseException] = []

    @server.serve("ask")
    async def answer() -> str:
        return "cannot be sent"

    @server.on_error
    def note(error: BaseException, _: Message) -> None:
        failures.append(error)

    async with server, caller:
        with pytest.raises(DeadlineExceededError):
            await caller.request("ask", timeout=0.1)
    [failure] = failures
    assert isinstance(failure, DisconnectedError)
