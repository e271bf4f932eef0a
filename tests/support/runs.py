"""Small runs, for tests of what compares, explains and draws them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET

from hms_bus import Envelope, Record, new_envelope
from hms_bus.bounces import reply_topic
from hms_bus.ids import stamp
from hms_bus.plugins import open_log


def said(
    topic: str,
    data: Any = UNSET,
    *,
    by: str = "/agents/a",
    cause: Envelope | None = None,
    **attributes: Any,
) -> Envelope:
    """Return an event as an agent would send it while it handles `cause`."""
    if cause is not None:
        attributes |= {
            "causationid": cause.id,
            "correlationid": cause.correlationid or cause.id,
            "hops": (cause.hops or 0) + 1,
        }
    return new_envelope(topic, data, source=by, **attributes)


def answered(request: Envelope, data: Any, *, by: str, **attributes: Any) -> Envelope:
    """Return the reply to a request."""
    return said(reply_topic(request.topic), data, by=by, cause=request, **attributes)


def payloads_on(events: Sequence[Envelope], topic: str) -> list[object]:
    """Return the payloads of those events that are on `topic`."""
    return [event.decode() for event in events if event.topic == topic]


def said_again(run: Sequence[Envelope]) -> list[Envelope]:
    """Return the run as another one would have it: new ids and times, the same causes."""
    new_ids = {event.id: stamp() for event in run}
    return [
        event.replace(
            id=new_ids[event.id][0],
            time=new_ids[event.id][1],
            causationid=new_ids.get(event.causationid or "", (event.causationid,))[0],
        )
        for event in run
    ]


def recorded(run: Sequence[Envelope], *, step_ns: int = 1_000_000) -> list[Record]:
    """Return the run as a log holds it, one record each `step_ns`."""
    return [
        Record(position=position, recorded_ns=position * step_ns, envelope=event)
        for position, event in enumerate(run, start=1)
    ]


@st.composite
def runs(draw: st.DrawFn) -> list[Envelope]:
    """Draw a run of agents that react to each other; every payload is another one."""
    run: list[Envelope] = []
    for number in range(draw(st.integers(1, 12))):
        cause = draw(st.none() | st.sampled_from(run)) if run else None
        topic = draw(st.sampled_from(["a.b", "a.c", "d"]))
        agent = draw(st.sampled_from(["/agents/one", "/agents/two-1", "/agents/two-2"]))
        run.append(said(topic, {"n": number, "items": [{"ts": number}]}, by=agent, cause=cause))
    return run


def keep(run: Sequence[Envelope], path: Path) -> str:
    """Append the run to the log at `path`, record by record; return the name of the file."""

    async def append() -> None:
        async with open_log(f"sqlite:{path}") as log:
            for event in run:
                await log.append([event])

    asyncio.run(append())
    return path.name
