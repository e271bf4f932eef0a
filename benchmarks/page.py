"""The figures inside docs/benchmarks.md: what stands between two markers is written by the run."""

from collections.abc import Iterable

BEGIN = "<!-- figures: begin, written by `make bench` -->"
END = "<!-- figures: end -->"


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
