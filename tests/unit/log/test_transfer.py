"""Carrying records from log to log as lines."""

import json
from collections.abc import AsyncIterator, Iterable

import pytest

from hms_bus import jsonformat
from hms_bus.abc import EventLog, Selector
from hms_bus.envelope import ExtensionValue
from hms_bus.errors import DecodeError
from hms_bus.log.transfer import Imported, export_lines, import_lines
from hms_bus.plugins import open_log
from tests.support.events import event, events


async def stream(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


async def test_a_line_holds_position_time_and_event(log: EventLog) -> None:
    await log.append([event("a.b", {"n": 1}), event("c.d", b"\x00\xff")])
    lines = [line async for line in export_lines(log, Selector(pattern="c.*"))]
    assert [line.count(b"\n") for line in lines] == [1]
    record = json.loads(lines[0])
    assert record["position"] == 2
    assert record["recorded_ns"] == (await log.head()).recorded_ns
    assert record["event"]["data_base64"] == "AP8="


async def test_an_export_can_be_imported_and_imported_again(log: EventLog) -> None:
    await log.append(events(1200))
    lines = [line async for line in export_lines(log, Selector())]
    async with open_log("memory:") as target:
        assert await import_lines(target, stream(lines[:700])) == Imported(events=700, duplicates=0)
        whole = await import_lines(target, stream(lines))
        assert whole == Imported(events=1200, duplicates=700)
        copies = [record.envelope async for record in target.read(Selector())]
        assert [jsonformat.encode(copy) for copy in copies] == [
            jsonformat.encode(record.envelope) async for record in log.read(Selector())
        ]
        assert (await target.verify()).records == 1200


async def test_lines_that_are_events_and_empty_lines(log: EventLog) -> None:
    lines = [b"\n", jsonformat.encode(event("a.b")) + b"\r\n", b"  \n", jsonformat.encode(event())]
    assert await import_lines(log, stream(lines)) == Imported(events=2, duplicates=0)


@pytest.mark.parametrize(
    "line",
    [b"no JSON", b"[]", b'{"position":1,"event":{}}', b'{"position":1,"event":1}', b"{}", b"\xff"],
)
async def test_a_line_that_is_no_event_is_named(log: EventLog, line: bytes) -> None:
    with pytest.raises(DecodeError, match="line 3: "):
        await import_lines(log, stream([b"\n", jsonformat.encode(event()), line]))


async def test_an_event_whose_extensions_are_called_as_the_members_of_a_record(
    log: EventLog,
) -> None:
    extensions: dict[str, ExtensionValue] = {"event": "click", "position": 3}
    for names in (["event"], ["event", "position"]):
        own = {name: extensions[name] for name in names}
        line = jsonformat.encode(event("a.b", extensions=own))
        assert await import_lines(log, stream([line])) == Imported(events=1, duplicates=0)
    kept = [record.envelope.extensions async for record in log.read(Selector())]
    assert kept == [{"event": "click"}, extensions]
