"""A report as a table: lines of text, the same on a terminal and in the documentation."""

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct

from benchmarks.figures import Ratio, is_of_order, per_second, ratios, spread
from benchmarks.model import (
    Absent,
    Direction,
    GaugeResult,
    RaceResult,
    Report,
    Result,
    Timing,
)

NOT_REACHED = "not reached"
NOT_MEASURED = "not measured"
MISSES = (NOT_REACHED, NOT_MEASURED)


class Line(Struct, frozen=True, kw_only=True):
    """One line of the table; empty where there is nothing to say."""

    what: str
    ours: str
    against: str = ""
    theirs: str = ""
    ratio: str = ""
    target: str = ""
    verdict: str = ""


HEADINGS = Line(
    what="what",
    ours="hms-bus",
    against="against",
    theirs="the peer",
    ratio="ratio (quartiles)",
    target="target",
    verdict="verdict",
)


def lines(result: Result) -> list[Line]:
    """Return the lines of one row: one for each peer, and one for each figure without a peer."""
    if isinstance(result, GaugeResult):
        return [_gauge_line(result)]
    compared = [
        _ratio_line(result, ratio, peer)
        for ratio, peer in zip(ratios(result), result.peers, strict=True)
    ]
    compared.extend(_absent_line(result, peer) for peer in result.absent)
    if result.order_of_magnitude is not None:
        compared.append(_order_line(result, result.order_of_magnitude))
    if result.at_least is not None:
        compared.append(_rate_line(result, result.at_least))
    return compared or [Line(what=result.title, ours=_figure(result, result.ours))]


def _ratio_line(result: RaceResult, ratio: Ratio, peer: Timing) -> Line:
    kind = "" if ratio.direction == "at least" else " the time"
    return Line(
        what=result.title,
        ours=_figure(result, result.ours),
        against=ratio.against,
        theirs=_figure(result, peer),
        ratio=f"{number(ratio.median)} ×{kind} ({number(ratio.low)}–{number(ratio.high)})",
        target=target_text(ratio),
        verdict=verdict(ratio.is_reached),
    )


def _absent_line(result: RaceResult, peer: Absent) -> Line:
    [target] = [each for each in result.targets if each.against == peer.name] or [None]
    return Line(
        what=result.title,
        ours=_figure(result, result.ours),
        against=peer.name,
        theirs=f"not available: {peer.reason}",
        target="" if target is None else limit_text(target.direction, target.limit),
        verdict="" if target is None else NOT_MEASURED,
    )


def _order_line(result: RaceResult, order: float) -> Line:
    rate = per_second(result.ours)
    return Line(
        what=result.title,
        ours=_figure(result, result.ours),
        target=f"order of {order:,.0f}/s",
        verdict=verdict(is_of_order(rate, order)),
    )


def _rate_line(result: RaceResult, at_least: float) -> Line:
    return Line(
        what=result.title,
        ours=_figure(result, result.ours),
        target=f"≥ {at_least:,.0f} {result.unit}/s",
        verdict=verdict(per_second(result.ours) >= at_least),
    )


def _gauge_line(result: GaugeResult) -> Line:
    middle = median(result.values)
    low, high = spread(result.values)
    range_text = "" if low == high else f" ({number(low)}–{number(high)})"
    return Line(
        what=result.title,
        ours=f"{number(middle)} {result.unit}{range_text}",
        target="" if result.at_most is None else f"≤ {result.at_most:,g} {result.unit}",
        verdict=verdict(None if result.at_most is None else middle <= result.at_most),
    )


def target_text(ratio: Ratio) -> str:
    """Return the target of a ratio, empty without one."""
    return "" if ratio.target is None else limit_text(ratio.direction, ratio.target)


def limit_text(direction: Direction, limit: float) -> str:
    """Return a limit as the table shows it."""
    return f"{'≥' if direction == 'at least' else '≤'} {limit:g} ×"


def verdict(reached: bool | None) -> str:  # noqa: FBT001 - it is the only argument
    """Return what the table says about a target."""
    return {True: "reached", False: NOT_REACHED, None: ""}[reached]


def number(value: float) -> str:
    """Return three digits of a number, all of its whole ones."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figure(result: RaceResult, timing: Timing) -> str:
    rate = per_second(timing)
    if result.each is not None:
        return f"{number(1e6 / rate)} µs {result.each}"
    return f"{rounded(rate):,} {result.unit}/s"


def rounded(rate: float) -> int:
    """Return a rate with three digits: more would only show the noise."""
    digits = len(str(int(rate)))
    return int(round(rate, 3 - digits)) if digits > 3 else round(rate)


def table(report: Report) -> str:
    """Return the Markdown table of a whole run."""
    return markdown([line for result in report.results for line in lines(result)])


def markdown(rows: Sequence[Line]) -> str:
    """Return a Markdown table; a cell that says the same as the one above it stays empty."""
    shown: list[Line] = []
    for above, line in zip([None, *rows], rows, strict=False):
        repeats = above is not None and above.what == line.what
        shown.append(
            Line(
                what="" if repeats else line.what,
                ours="" if repeats else line.ours,
                against=line.against,
                theirs=line.theirs,
                ratio=line.ratio,
                target=line.target,
                verdict=f"**{line.verdict}**" if line.verdict in MISSES else line.verdict,
            )
        )
    return "\n".join(
        [_markdown_row(HEADINGS), "|---|--:|---|--:|--:|--:|---|", *map(_markdown_row, shown)]
    )


def _markdown_row(line: Line) -> str:
    return f"| {' | '.join(_cells(line))} |"


def _cells(line: Line) -> Iterable[str]:
    return (getattr(line, name) for name in Line.__struct_fields__)


def plain(rows: Iterable[Line]) -> str:
    """Return the lines for a terminal, a sentence each."""
    return "\n".join(_sentence(line) for line in rows)


def _sentence(line: Line) -> str:
    text = f"{line.what}: {line.ours}"
    if line.against:
        text += f"; {line.against}: {line.theirs}; {line.ratio}"
    if line.target:
        text += f"; target {line.target}: {line.verdict}"
    return text


def summary(report: Report) -> str:
    """Return what the figures depend on, as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    return (
        f"Measured on: {machine}; {report.rounds} rounds of about {report.round_s:g} s "
        f"each ({report.mode} run).\nVersions: {versions}."
    )


def missed(results: Iterable[Result]) -> list[str]:
    """Return the names of the rows that miss a target, or have one that could not be measured."""
    return [
        result.name for result in results if any(line.verdict in MISSES for line in lines(result))
    ]


def broken(results: Iterable[Result]) -> list[str]:
    """Return a line for each ratio that misses its target by so much that it is no noise."""
    return [
        f"{result.title}: {number(ratio.median)} × of {ratio.against}, target {target_text(ratio)}"
        for result in results
        if isinstance(result, RaceResult)
        for ratio in ratios(result)
        if ratio.is_broken
    ]
