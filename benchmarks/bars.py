"""What the plot shows of a report: a bar for each ratio that has a target."""

from msgspec import Struct

from benchmarks.figures import Ratio, ratios
from benchmarks.model import RaceResult, Report
from benchmarks.report import number, target_text


class Bar(Struct, frozen=True, kw_only=True):
    """One bar: `share` of the target that is reached, and its texts."""

    title: str
    share: float
    label: str
    is_reached: bool


def bars(report: Report) -> list[Bar]:
    """Return a bar for each ratio that has a target, in the order of the table."""
    return [
        _bar(result, ratio, ratio.share)
        for result in report.results
        if isinstance(result, RaceResult)
        for ratio in ratios(result)
        if ratio.share is not None
    ]


def _bar(result: RaceResult, ratio: Ratio, share: float) -> Bar:
    kind = "" if ratio.direction == "at least" else " the time"
    return Bar(
        title=f"{result.title}\nagainst {ratio.against}",
        share=share,
        label=f"{number(ratio.median)} ×{kind}, target {target_text(ratio)}",
        is_reached=ratio.is_reached is True,
    )
