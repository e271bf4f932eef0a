"""The promises of an example's docstring are read and held as CONTRIBUTING.md says."""

import pytest

from tests.support.example_output import command_lines, missing_line, promised_lines

SOURCE = '''"""Says hello.

Run with:
    listen &
    python hello.py

Prints:
    hello ...
      indented

    done

More text.
"""
'''


def test_promises_are_the_lines_below_prints() -> None:
    assert promised_lines(SOURCE) == ["hello ...", "  indented", "done"]


def test_commands_are_the_lines_below_run_with() -> None:
    assert command_lines(SOURCE) == ["listen &", "python hello.py"]


def test_a_docstring_without_the_section_promises_nothing() -> None:
    assert promised_lines('"""Says hello."""') == []
    assert command_lines('"""Says hello."""') == []


def test_all_promised_lines_in_order_are_kept_promises() -> None:
    printed = "noise\nhello world\n  indented\nnoise\ndone\n"
    assert missing_line(promised_lines(SOURCE), printed) is None


@pytest.mark.parametrize(
    ("printed", "missing"),
    [
        ("", "hello ..."),
        ("hello world\ndone\n  indented\n", "done"),
        ("hello world\n  indented\ndone!\n", "done"),
        ("hello\n  indented\ndone\n", "hello ..."),
    ],
)
def test_a_line_that_is_absent_late_or_different_is_missing(printed: str, missing: str) -> None:
    assert missing_line(promised_lines(SOURCE), printed) == missing
