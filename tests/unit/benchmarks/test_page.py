"""docs/benchmarks.md: its figures are those of results.json, its paragraphs those of the misses."""

from pathlib import Path

import msgspec
import pytest

from benchmarks import page, report
from benchmarks.model import Report

DOCS = Path(__file__).resolve().parents[3] / "docs"
COMMITTED = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
RESULTS = msgspec.json.decode((DOCS / "benchmarks" / "results.json").read_bytes(), type=Report)

MISSED = "<!-- missed: read -->\n\n**Reading.** Slow.\n\n"
BORDERLINE = "<!-- borderline: import -->\n\nSometimes.\n\n"


def test_the_committed_figures_are_those_of_the_json_file() -> None:
    assert report.summary(RESULTS) in COMMITTED
    assert report.table(RESULTS) in COMMITTED


def test_every_missed_row_has_a_paragraph_and_no_other_has() -> None:
    assert page.mismatches(COMMITTED, report.missed(RESULTS.results)) == []


@pytest.mark.parametrize("missed", [["read"], ["read", "import"]])
def test_a_borderline_row_may_be_missed_or_not(missed: list[str]) -> None:
    assert page.mismatches(MISSED + BORDERLINE, missed) == []


@pytest.mark.parametrize(
    ("text", "missed", "problem"),
    [
        ("", ["read"], "read is missed and has no paragraph"),
        ("<!-- missed: read -->\n\n", ["read"], "read is missed and has no paragraph"),
        (
            "<!-- missed: read -->\n\n<!-- missed: append -->\n\nText\n",
            ["read", "append"],
            "read is missed and has no paragraph",
        ),
        (MISSED, [], "read is reached"),
        (MISSED + MISSED, ["read"], "read has several paragraphs"),
    ],
)
def test_a_paragraph_too_few_or_too_many_is_named(
    text: str, missed: list[str], problem: str
) -> None:
    assert page.mismatches(text, missed) == [problem]
