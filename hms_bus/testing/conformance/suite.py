"""What a check is, and the list of all."""

from collections.abc import Awaitable, Callable
from typing import Literal, get_args

from msgspec import Struct

from hms_bus.abc import Capability
from hms_bus.errors import ConfigError
from hms_bus.testing.conformance.subject import Subject

Part = Literal["transport", "unlogged", "logged", "log", "codec"]
"""What a check is about: a bus (with a log and without, or only so), a log, a codec."""

Fault = Literal["drop", "duplicate", "delay", "reorder"]
"""What `hms_bus.testing.FaultyTransport` does to envelopes."""

Function = Callable[[Subject], Awaitable[None]]
"""Proves one statement about the subject. Raises `AssertionError` that says what was found."""


class Check(Struct, frozen=True, kw_only=True, eq=False):
    """One semantic: its `name`, the `statement` in a line, and what it is true of.

    It holds for every implementation that claims all of `needs`; nothing there means that it is
    the contract of all. `survives` are the faults of a network under which it still holds.
    """

    name: str
    statement: str
    part: Part
    needs: frozenset[Capability]
    survives: frozenset[Fault]
    function: Function

    def __str__(self) -> str:
        return self.name


CHECKS: list[Check] = []
"""All checks, once `hms_bus.testing.conformance` is imported."""

REFUSALS: dict[Capability, Function] = {}
"""What holds where a capability is not claimed: asking for it raises `UnsupportedError`.

A capability that no operation asks for has none.
"""


def checks_of(part: Part) -> Callable[..., Callable[[Function], Function]]:
    """Return the decorator that adds a function to the checks of `part`.

    check = checks_of("transport")

    @check("group-balance", survives={"delay"})
    async def an_idle_member_gets_the_next_message(subject: Subject) -> None: ...
    """

    def check(
        *needs: Capability, survives: set[Fault] | None = None
    ) -> Callable[[Function], Function]:
        def add(function: Function) -> Function:
            CHECKS.append(_read(function, part, frozenset(needs), frozenset(survives or ())))
            return function

        return add

    return check


def _read(
    function: Function, part: Part, needs: frozenset[Capability], survives: frozenset[Fault]
) -> Check:
    name: str = getattr(function, "__name__", repr(function))
    statement, _, _ = (function.__doc__ or "").partition("\n")
    if not statement:
        raise ConfigError(f"check {name} has no docstring that states what it proves")
    if any(name == other.name for other in CHECKS):
        raise ConfigError(f"there are two checks of the name {name}")
    for claim in needs - frozenset(get_args(Capability)):
        raise ConfigError(f"check {name} needs {claim!r}, which is no capability")
    return Check(
        name=name, statement=statement, part=part, needs=needs, survives=survives, function=function
    )


def refusal_of(capability: Capability) -> Callable[[Function], Function]:
    """Return the decorator for what holds where `capability` is not claimed."""

    def add(function: Function) -> Function:
        REFUSALS[capability] = function
        return function

    return add
