"""Every example runs, ends well and prints what its docstring promises.

One that needs other programs has a section `Run with:`, of a command a line; the last one runs the
example. The others are started before it, each when the one before has said something.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.example_output import command_lines, missing_line, promised_lines
from tests.support.programs import run_program

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_it_promises(example: Path, tmp_path: Path) -> None:
    source = example.read_text(encoding="utf-8")
    promised = promised_lines(source)
    assert promised, f"the docstring of {example.name} has no section `Prints:`"
    *others, own = command_lines(source) or [f"python {example.name}"]
    assert own.startswith(f"python {example.name}"), f"this does not run the example: {own}"
    arguments = shlex.split(own)[2:]
    run = run_program(
        ["sh", "-ec", beside(others, [sys.executable, example, *arguments])], cwd=tmp_path
    )
    assert run.succeeded, str(run)
    missing = missing_line(promised, run.stdout)
    assert missing is None, f"not printed, or not in this order: {missing!r}\n{run.stdout}"


def beside(others: Sequence[str], program: Sequence[str | Path]) -> str:
    """Return a shell script that runs a program beside others, which must end well on SIGTERM."""
    script = ["pids="]
    for number, other in enumerate(others):
        script += [f"{other} 2>words{number} &", 'pids="$! $pids"']
        script += [f"until test -s words{number}; do sleep 0.01; done"]
    script += [shlex.join(map(str, program)), "for pid in $pids; do kill $pid; wait $pid; done"]
    return "\n".join(script)
