"""Every example runs, ends well and prints what its docstring promises."""

import sys
from pathlib import Path

import pytest

from tests.support.example_output import missing_line, promised_lines
from tests.support.programs import run_program

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_it_promises(example: Path, tmp_path: Path) -> None:
    promised = promised_lines(example.read_text(encoding="utf-8"))
    assert promised, f"the docstring of {example.name} has no section `Prints:`"
    run = run_program([sys.executable, example], cwd=tmp_path)
    assert run.succeeded, str(run)
    missing = missing_line(promised, run.stdout)
    assert missing is None, f"not printed, or not in this order: {missing!r}\n{run.stdout}"
