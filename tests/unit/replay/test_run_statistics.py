"""Counts, rates, sizes, errors and latencies of a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import Envelope
from hms_bus.bounces import ERROR
from hms_bus.replay import statistics_of_runs
from hms_bus.replay.events import EFFECT
from hms_bus.replay.statistics_of_runs import Figures, Grouping, RunStatistics
from tests.support.runs import answered, recorded, said


def counted(run: list[Envelope], by: Grouping = "topic") -> RunStatistics:
    statistics = RunStatistics(by)
    for record in recorded(run):
        statistics.add(record)
    return statistics


def names(run: list[Envelope], by: Grouping) -> list[tuple[str, int]]:
    return [(figures.name, figures.count) for figures in counted(run, by).groups()]


@pytest.fixture
def run() -> list[Envelope]:
    task = said("task", {"n": 1}, by="/desk")
    ask = said("ask", b"12345678", by="/worker-1", cause=task, type="Question")
    again = said("ask", by="/worker-2", cause=task, type="Question")
    reply = answered(ask, "ok", by="/oracle")
    error = answered(again, {"code": "NOT_FOUND", "message": "no"}, by="/oracle", type=ERROR)
    alarm = said("alarm", by="/worker-1", severitynumber=17)
    return [task, ask, again, reply, error, alarm]


def test_records_are_counted_by_topic_agent_and_type(run: list[Envelope]) -> None:
    assert names(run, "topic") == [("$reply.ask", 2), ("ask", 2), ("alarm", 1), ("task", 1)]
    assert names(run, "agent") == [("/worker", 3), ("/oracle", 2), ("/desk", 1)]
    assert ("Question", 2) in names(run, "type")


def test_rates_are_those_of_the_whole_run(run: list[Envelope]) -> None:
    statistics = counted(run)
    assert statistics.span_s == 0.005
    assert statistics.total().rate == pytest.approx(1200)
    assert statistics.groups()[0].rate == pytest.approx(400)


def test_sizes_are_bytes_of_payload(run: list[Envelope]) -> None:
    [ask] = [figures for figures in counted(run).groups() if figures.name == "ask"]
    assert (ask.bytes, ask.size, ask.largest) == (8, 4.0, 8)


def test_errors_are_replies_and_what_is_severe(run: list[Envelope]) -> None:
    assert {f.name: f.errors for f in counted(run).groups() if f.errors} == {
        "$reply.ask": 1,
        "alarm": 1,
    }
    assert counted(run).total().errors == 2


def test_an_effect_that_failed_is_an_error() -> None:
    failed = said("$effect.model", {"error": "builtins.OSError", "text": "no"}, type=EFFECT)
    worked = said("$effect.clock", {"value": 1}, type=EFFECT)
    redacted = said("$effect.model", type=EFFECT)
    errors = {f.name: f.errors for f in counted([failed, worked, redacted]).groups()}
    assert errors == {"$effect.model": 1, "$effect.clock": 0}


def test_latencies_lie_between_a_cause_and_its_effect(run: list[Envelope]) -> None:
    by_topic = {figures.name: figures.latency for figures in counted(run).groups()}
    assert by_topic["task"] is None
    assert by_topic["alarm"] is None
    ask = by_topic["ask"]
    assert ask is not None
    assert (ask.count, ask.p50_s, ask.max_s) == (2, 0.001, 0.002)
    assert by_topic["$reply.ask"] == ask.__class__(
        count=2, p50_s=0.002, p90_s=0.002, p99_s=0.002, max_s=0.002
    )


def test_a_run_without_records_has_figures() -> None:
    total = RunStatistics().total()
    assert total == Figures(
        name="", count=0, rate=None, bytes=0, size=0.0, largest=0, errors=0, latency=None
    )


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_percentiles_are_values_that_so_many_do_not_exceed(delays_ns: list[int]) -> None:
    statistics = RunStatistics()
    cause = said("in")
    [first] = recorded([cause])
    statistics.add(first)
    for delay_ns in delays_ns:
        [record] = recorded([said("out", cause=cause)], step_ns=first.recorded_ns + delay_ns)
        statistics.add(record)
    latency = statistics.total().latency
    assert latency is not None
    for percent, value_s in ((50, latency.p50_s), (90, latency.p90_s), (99, latency.p99_s)):
        at_most = sum(delay / 1e9 <= value_s for delay in delays_ns)
        below = sum(delay / 1e9 < value_s for delay in delays_ns)
        assert at_most * 100 >= percent * len(delays_ns) > below * 100
    assert latency.max_s == max(delays_ns) / 1e9


def test_a_cause_too_far_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_of_runs, "REMEMBERED", 2)
    cause = said("in")
    run = [cause, said("x"), said("out", cause=cause), said("x"), said("out", cause=cause)]
    latency = counted(run).total().latency
    assert latency is not None
    assert latency.count == 1
