"""Reading the log of a hub, and other questions (spec/ipc.md, "The log")."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


async def test_a_read_sends_no_more_than_its_credit(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.append(1, "a", *(document("a", n) for n in range(10))))
        await client.expect("RECEIPTS")
        await client.send(raw.read(2, credit=3))
        assert await _positions(client, 3) == [1, 2, 3]
        await client.round_trip()
        await client.send(raw.more(2, 2))
        assert await _positions(client, 2) == [4, 5]
        await client.round_trip()
        await client.send(raw.more(2, 100))
        assert await _positions(client, 5) == [6, 7, 8, 9, 10]
        await client.expect("END", call=2)


async def _positions(client: RawClient, count: int) -> list[int]:
    got: list[int] = []
    while len(got) < count:
        frame = await client.expect("RECORDS")
        got += [entry["position"] for entry in frame.content["entries"]]
    return got


async def test_a_read_without_credit_waits_for_it(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.append(1, "a", document("a")), raw.read(2, credit=0))
        await client.expect("RECEIPTS")
        await client.round_trip()
        await client.send(raw.more(2, 1))
        assert await _positions(client, 1) == [1]
        await client.expect("END", call=2)


async def test_a_read_can_be_stopped(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.read(1, follow=True), raw.append(2, "a", document("a")))
        kinds = {(await client.hear()).kind for _ in range(2)}  # pyright: ignore[reportOptionalMemberAccess]
        assert kinds == {"RECEIPTS", "RECORDS"}
        await client.send(raw.stop(1))
        await client.expect("END", call=1)
        await client.send(raw.append(3, "a", document("a")), raw.stop(1), raw.more(1, 1))
        await client.expect("RECEIPTS")
        await client.round_trip()


async def test_a_number_is_that_of_one_read(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.read(1, follow=True), raw.read(1, follow=True))
        await client.refused("bad-frame")


async def test_there_are_no_more_reads_than_the_welcome_says(runtime: Path) -> None:
    with running_hub("--log", "memory:", config="[limits]\nmax_reads = 2\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(*(raw.read(number, follow=True) for number in (1, 2, 3)))
            failure = await client.failed(3, "limit")
            assert failure["code"] == "RESOURCE_EXHAUSTED"
            assert "end one, or raise max_reads" in failure["message"]
            await client.send(raw.stop(1))
            await client.expect("END", call=1)
            await client.send(raw.read(4))
            await client.expect("END", call=4)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"pattern": "a..b"}, "bad-topic"),
        ({"follow": True, "backwards": True}, "unsupported"),
    ],
)
async def test_a_selector_that_is_none_fails(
    hub: HubProcess, members: dict[str, Any], reason: str
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.read(1, **members))
        await client.failed(1, reason)
        await client.round_trip()


async def test_all_members_of_a_selector_narrow_a_read(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        for number, topic in enumerate(("a.x", "a.y", "b.x", "a.x")):
            await client.send(raw.append(number, topic, document(topic, source=f"/{topic}")))
            await client.expect("RECEIPTS")
        cases: list[tuple[dict[str, Any], list[int]]] = [
            ({"pattern": "a.*"}, [1, 2, 4]),
            ({"first": 2, "last": 3}, [2, 3]),
            ({"source": "/a.x"}, [1, 4]),
            ({"backwards": True, "limit": 2}, [4, 3]),
            ({"types": ["no.such"]}, []),
            ({"since_ns": 2**62}, []),
            ({"until_ns": 0}, []),
            ({"limit": 0}, []),
        ]
        for number, (members, expected) in enumerate(cases, start=10):
            await client.send(raw.read(number, **members))
            assert await _positions(client, len(expected)) == expected
            await client.expect("END", call=number)


async def test_head_and_verify_tell_of_the_log(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.append(1, "a", document("a")))
        await client.expect("RECEIPTS")
        await client.send(raw.ask(2, "status"))
        status = (await client.expect("ANSWER", call=2, more=0)).content["json"]
        assert status["log"]["url"] == "memory:"
        await client.send(raw.ask(3, "head"))
        head = (await client.expect("ANSWER", call=3, more=0)).content["json"]
        assert head["position"] == 1
        await client.send(raw.ask(4, "verify", expected=head))
        await client.expect("ANSWER", call=4, more=1, json={"done": 1, "total": 1})
        found = (await client.expect("ANSWER", call=4, more=0)).content["json"]
        assert found == {"records": 1, "head": head, "problem": None, "position": None}
        cut = head | {"position": 2}
        await client.send(raw.ask(5, "verify", expected=cut))
        await client.expect("ANSWER", call=5, more=1)
        found = (await client.expect("ANSWER", call=5, more=0)).content["json"]
        assert found["problem"]
        await client.send(raw.ask(6, "verify", expected=head | {"hash": "no hex"}))
        await client.failed(6, "bad-frame")


async def test_an_unknown_question_is_not_supported(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.ask(1, "sing" * 1000, later=1))
        failure = await client.failed(1, "unsupported")
        assert failure["code"] == "UNIMPLEMENTED"
        await client.round_trip()
