"""docs/benchmarks.md: the figures, which a run writes, and the paragraphs on what it missed."""

import re
from collections.abc import Collection, Iterable

BEGIN = "<!-- figures: begin, written by `make bench` -->"
END = "<!-- figures: end -->"

_PARAGRAPH = re.compile(r"^<!-- (missed|borderline): (\S+) -->\n\n(?=[^\s<#|])", re.MULTILINE)
"""The mark above a paragraph on a row: one that is missed, or one that some runs miss."""


def splice(page: str, parts: Iterable[str]) -> str:
    """Return `page` with `parts`, a blank line apart, in place of what is between the markers.

    Raises `ValueError` unless each marker stands there once and in this order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs each of these lines once: {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{END} stands before {BEGIN}")
    return "\n\n".join([before + BEGIN, *parts, END + after])


def mismatches(page: str, missed: Collection[str]) -> list[str]:
    """Return a line for each way in which the page's paragraphs are not about the `missed` rows.

    Each missed row needs one paragraph, and each paragraph a missed row, unless its mark says
    `borderline`.
    """
    marks = _PARAGRAPH.findall(page)
    names = [name for _, name in marks]
    return [
        *(f"{name} is missed and has no paragraph" for name in missed if name not in names),
        *(f"{name} is reached" for kind, name in marks if kind == "missed" and name not in missed),
        *(f"{name} has several paragraphs" for name in set(names) if names.count(name) > 1),
    ]
