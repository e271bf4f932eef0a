"""What is recorded of an effect, and what a replay tells of one that is not recorded."""

from typing import Any

from msgspec import UNSET, Struct

EFFECT = "hms.bus.effect.v1"
"""The type of an event that holds what an effect returned; the payload is an `EffectBody`."""

EFFECT_PREFIX = "$effect."


class EffectBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an effect returned, or raised: the module and name of the class, and the text.

    With `is_untyped` the value is not what the function is annotated to return, and comes as it is.
    """

    value: Any = UNSET
    is_untyped: bool = False
    error: str | None = None
    text: str = ""


class Unrecorded(Struct, frozen=True, kw_only=True):
    """A request (`what` is its topic) or effect that the record does not hold.

    It was the `ordinal`-th of its kind, from 0, of `agent` for the message `cause`.
    """

    agent: str
    cause: str | None
    what: str
    ordinal: int
