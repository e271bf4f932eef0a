"""The demo's team: every file is accounted for, and an interrupted run ends in order."""

import ast
import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hms_bus import demo
from hms_bus.demo import SourceFile, read_facts


@pytest.mark.parametrize("kind", [SystemError, RecursionError, MemoryError, ValueError])
def test_a_file_that_the_parser_gives_up_on_is_unreadable(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(_: bytes) -> Any:
        raise kind("recursion depth mismatch")

    (tmp_path / "deep.py").touch()
    with monkeypatch.context() as patch:  # pytest itself parses, to show a failure
        patch.setattr(ast, "parse", give_up)
        facts = read_facts(SourceFile("deep", str(tmp_path / "deep.py")))
    assert facts.error == f"{kind.__name__}: recursion depth mismatch"


async def test_the_team_ends_when_files_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text('"""Fine."""\n')
    (tmp_path / "broken.py").write_text("def")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / os.fsdecode(b"octets_\xff.py")).touch()
    async with asyncio.timeout(10):
        report, _ = await demo.run("direct://unreadable", root=str(tmp_path))
    assert (report.files, report.unreadable) == (5, 4)


async def test_an_interrupted_team_finishes_its_work_without_errors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(300):
        (tmp_path / f"file_{number}.py").write_text("import os\n")
    seen: list[str] = []
    begun = asyncio.Event()

    def note(module: str) -> None:
        seen.append(module)
        begun.set()

    run = asyncio.create_task(
        demo.run("direct://interrupted", root=str(tmp_path), log="memory:", progress=note)
    )
    await begun.wait()
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert len(seen) < 300
    assert caplog.messages == []


def test_a_report_does_not_depend_on_the_order_in_which_files_were_read(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"m{number}.py").write_text("import os, sys\n\ndef f():\n    pass\n")
    facts = [read_facts(file) for file in demo.find_files(tmp_path)]
    reports = {msgspec.json.encode(demo.fold(facts[n:] + facts[:n])) for n in range(5)}
    assert len(reports) == 1
