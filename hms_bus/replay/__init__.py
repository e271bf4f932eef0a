"""Replaying a log and explaining it: what differs, what caused what, what breaks first."""

from hms_bus.replay.comparing import Comparison, Divergence, compare
from hms_bus.replay.effects import Effect, effect
from hms_bus.replay.events import Unrecorded
from hms_bus.replay.rerunning import Failure, Outcome, Rerun, open_rerun, rerun
from hms_bus.replay.settings import ReplaySettings
from hms_bus.replay.values import Change

__all__ = [
    "Change",
    "Comparison",
    "Divergence",
    "Effect",
    "Failure",
    "Outcome",
    "ReplaySettings",
    "Rerun",
    "Unrecorded",
    "compare",
    "effect",
    "open_rerun",
    "rerun",
]
