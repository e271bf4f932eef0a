"""The demo's log, replayed into the demo's agents."""

from pathlib import Path

import msgspec
import pytest

from hms_bus import Bus, demo
from hms_bus.replay import compare, rerun

FILES = 30


@pytest.fixture
async def run(tmp_path: Path) -> str:
    """The path of the log of a demo that has read a few files."""
    for number in range(FILES):
        source = f"import os, sys\n\ndef answer_{number}():\n    return {number}\n"
        (tmp_path / f"module_{number}.py").write_text(source, encoding="utf-8")
    log = f"sqlite:{tmp_path / 'demo.db'}"
    await demo.run("direct://replayed-demo", log=log, root=str(tmp_path))
    return str(tmp_path / "demo.db")


def build(url: str) -> dict[str, Bus]:
    buses = {name: Bus(url, source=f"/agents/{name}") for name in demo.TEAM}
    for name, agent in demo.TEAM.items():
        agent(buses[name])
    return buses


async def test_the_team_says_what_it_said(run: str) -> None:
    outcome = await rerun(run, build, effects="strict")
    assert compare(outcome.recorded, outcome.outputs).is_same
    # Of each file: that it was found, a question, its answer, what was read. Then the ends.
    assert len(outcome.outputs) == 4 * FILES + 2
    assert [output.source for output in outcome.outputs][-1] == "/agents/editor"


async def test_a_bug_in_the_reader_shows_where_it_is(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = demo.read_facts

    def forgetful(file: demo.SourceFile) -> demo.FileFacts:
        facts = read(file)
        is_forgotten = file.module == "module_7"
        return msgspec.structs.replace(facts, functions=[]) if is_forgotten else facts

    monkeypatch.setattr(demo, "read_facts", forgetful)
    outcome = await rerun(run, build)
    comparison = compare(outcome.recorded, outcome.outputs)
    differing = [
        (comparison.event(found).topic, [change.path for change in found.changes])
        for found in comparison.divergences
    ]
    assert differing == [
        ("critic.review", ["$.functions[0]"]),
        ("source.read", ["$.functions[0]"]),
    ]
