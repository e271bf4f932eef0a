"""The table, the summary, the plot's bars and the JSON file, from made-up results."""

import msgspec
import pytest

from benchmarks import page, report
from benchmarks.bars import bars
from benchmarks.model import Absent, GaugeResult, RaceResult, Report, Target, Timing

RACE = RaceResult(
    name="publish-1",
    title="publish",
    unit="messages",
    ours=Timing(name="hms-bus", operations=1234, seconds=(0.001, 0.001)),
    peers=(
        Timing(name="fast", operations=1000, seconds=(0.001, 0.001)),
        Timing(name="slow", operations=10, seconds=(0.001, 0.001)),
        Timing(name="free", operations=617, seconds=(0.001, 0.001)),
    ),
    targets=(Target(against="fast", limit=1.5), Target(against="slow", limit=80.0)),
    order_of_magnitude=1_000_000,
)
TIMES = RaceResult(
    name="codec",
    title="codec",
    unit="envelopes",
    ours=Timing(name="hms-bus", operations=1, seconds=(0.003,)),
    peers=(Timing(name="bare", operations=1, seconds=(0.001,)),),
    targets=(Target(against="bare", limit=1.5, direction="at most"),),
    order_of_magnitude=None,
)
ALONE = RaceResult(
    name="emit",
    title="emit",
    unit="messages",
    ours=Timing(name="hms-bus", operations=5, seconds=(1.0,)),
    peers=(),
    targets=(),
    order_of_magnitude=None,
)
IMPORT = GaugeResult(
    name="import", title="import", unit="ms", values=(10.0, 20.0, 30.0), at_most=15
)
REPORT = Report(
    mode="full",
    rounds=2,
    round_s=0.35,
    machine={"cores": "2"},
    versions={"hms-bus": "0.1.0"},
    results=(RACE, TIMES, ALONE, IMPORT),
)


def test_a_race_has_a_line_for_each_peer_and_one_for_its_own_rate() -> None:
    fast, slow, free, order = report.lines(RACE)
    assert (fast.ratio, fast.target, fast.verdict) == (
        "1.23 × (1.23–1.23)",
        "≥ 1.5 ×",
        "not reached",
    )
    assert (slow.ratio, slow.target, slow.verdict) == ("123 × (123–123)", "≥ 80 ×", "reached")
    assert (free.target, free.verdict) == ("", "")
    assert (order.target, order.verdict) == ("order of 1,000,000/s", "reached")


@pytest.mark.parametrize(
    ("at_least", "verdict"), [(5.0, "reached"), (5.1, "not reached"), (15.0, "not reached")]
)
def test_our_own_rate_may_have_a_target_that_is_taken_as_it_stands(
    at_least: float, verdict: str
) -> None:
    race = msgspec.structs.replace(ALONE, at_least=at_least)
    [line] = report.lines(race)
    assert (line.ours, line.against, line.verdict) == ("5 messages/s", "", verdict)
    assert report.missed([race]) == (["emit"] if verdict == "not reached" else [])


def test_a_target_for_our_own_rate_has_a_line_behind_those_of_the_peers() -> None:
    *_, order, least = report.lines(msgspec.structs.replace(RACE, at_least=50_000.0))
    assert order.target == "order of 1,000,000/s"
    assert (least.target, least.verdict) == ("≥ 50,000 messages/s", "reached")


def test_rates_are_shown_with_three_digits() -> None:
    [fast, *_] = report.lines(RACE)
    assert fast.ours == "1,230,000 messages/s"


def test_a_target_on_time_says_so() -> None:
    [line] = report.lines(TIMES)
    assert (line.ratio, line.target, line.verdict) == (
        "3.00 × the time (3.00–3.00)",
        "≤ 1.5 ×",
        "not reached",
    )


def test_a_row_may_show_the_time_of_one_operation() -> None:
    each = msgspec.structs.replace(TIMES, each="median")
    [line] = report.lines(each)
    assert (line.ours, line.theirs) == ("3,000 µs median", "1,000 µs median")


def test_an_absent_peer_keeps_its_line_and_counts_as_a_miss() -> None:
    absent = (Absent(name="slow", reason="no slow-server"), Absent(name="other", reason="gone"))
    without = msgspec.structs.replace(
        RACE, peers=RACE.peers[:1], targets=RACE.targets[1:], absent=absent
    )
    fast, slow, other, _ = report.lines(without)
    assert (fast.against, fast.target) == ("fast", "")
    assert (slow.theirs, slow.target, slow.verdict) == (
        "not available: no slow-server",
        "≥ 80 ×",
        "not measured",
    )
    assert (other.against, other.target, other.verdict) == ("other", "", "")
    assert report.missed([without]) == ["publish-1"]
    assert "**not measured**" in report.markdown([slow])


def test_a_race_without_peers_shows_its_rate() -> None:
    [line] = report.lines(ALONE)
    assert (line.what, line.ours, line.against, line.verdict) == ("emit", "5 messages/s", "", "")


def test_a_gauge_shows_its_median_and_is_held_to_it() -> None:
    [line] = report.lines(IMPORT)
    assert (line.ours, line.target, line.verdict) == (
        "20.0 ms (15.0–25.0)",
        "≤ 15 ms",
        "not reached",
    )


def test_the_markdown_table_is_rectangular_and_repeats_nothing() -> None:
    rows = report.markdown(report.lines(RACE)).splitlines()
    assert {row.count("|") for row in rows} == {8}
    assert rows[0].startswith("| what | hms-bus | against |")
    assert rows[2].startswith("| publish | 1,230,000 messages/s | fast |")
    assert rows[3].startswith("|  |  | slow |")
    assert "**not reached**" in rows[2]


def test_the_terminal_gets_a_sentence_per_line() -> None:
    text = report.plain(report.lines(TIMES))
    assert text == (
        "codec: 333 envelopes/s; bare: 1,000 envelopes/s; 3.00 × the time (3.00–3.00); "
        "target ≤ 1.5 ×: not reached"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.8349, "0.83"), (12.34, "12.3"), (123.4, "123"), (5813.0, "5,813")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_summary_names_machine_versions_and_effort() -> None:
    text = report.summary(REPORT)
    assert "cores 2" in text
    assert "hms-bus 0.1.0" in text
    assert "2 rounds of about 0.35 s" in text


def test_a_miss_by_a_factor_is_reported_as_broken() -> None:
    worse = msgspec.structs.replace(RACE, targets=(Target(against="fast", limit=80.0),))
    assert report.broken([RACE, TIMES, IMPORT]) == []
    assert report.broken([worse]) == ["publish: 1.23 × of fast, target ≥ 80 ×"]


def test_a_row_is_missed_when_one_of_its_targets_is() -> None:
    in_time = msgspec.structs.replace(IMPORT, at_most=20)
    slow = msgspec.structs.replace(ALONE, name="slow", order_of_magnitude=1_000)
    assert report.missed([RACE, TIMES, ALONE, IMPORT, in_time, slow]) == [
        "publish-1",
        "codec",
        "import",
        "slow",
    ]


def test_the_plot_has_a_bar_for_each_target_and_its_label_says_both_numbers() -> None:
    fast, slow, bare = bars(REPORT)
    assert fast.title == "publish\nagainst fast"
    assert (fast.label, fast.is_reached) == ("1.23 ×, target ≥ 1.5 ×", False)
    assert (slow.share > 1, slow.is_reached) == (True, True)
    assert (bare.share, bare.label) == (0.5, "3.00 × the time, target ≤ 1.5 ×")


def test_the_json_file_holds_every_round() -> None:
    encoded = msgspec.json.encode(REPORT)
    assert msgspec.json.decode(encoded, type=Report) == REPORT


def test_the_page_keeps_what_stands_around_the_figures() -> None:
    text = f"# Title\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n"
    once = page.splice(text, ["table", "plot"])
    assert once == f"# Title\n\n{page.BEGIN}\n\ntable\n\nplot\n\n{page.END}\n\nafter\n"
    assert page.splice(once, ["table", "plot"]) == once


@pytest.mark.parametrize(
    "text",
    ["no markers", f"{page.BEGIN}", f"{page.END} {page.BEGIN}", f"{page.BEGIN}{page.END}" * 2],
)
def test_a_page_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="figures"):
        page.splice(text, ["table"])
