"""Aggregates: plain classes whose state is what their events add up to.

    @aggregate("accounts.{id}")
    @dataclass
    class Account:
        balance: int = 0

        def deposit(self, amount: int) -> None:  # decides, and says what has happened
            emit(self, Deposited(amount))

        @applies(Deposited)
        def deposited(self, event: Deposited) -> None:  # changes the state, decides nothing
            self.balance += event.amount

`Repository` loads and appends them.
"""

import string
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from msgspec import Struct

from hms_bus.errors import ConfigError, StateError, TopicError
from hms_bus.sourcing.events import EventTypes
from hms_bus.topics import check_topic, parse_pattern

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., None])

_APPLIED = "__applied_events__"
_BEHAVIOUR = "__aggregate__"


class Behaviour(Struct, frozen=True, kw_only=True):
    """What `aggregate` has found out about a class.

    `topic` has one `{parameter}` for the id. `appliers` are functions by event class. `version` is
    what the author calls this way of adding up, `None` to go by the code.
    """

    cls: type
    topic: str
    parameter: str
    version: str | None
    appliers: Mapping[type, Callable[[Any, Any], None]]
    events: EventTypes

    def topic_of(self, id: str) -> str:  # noqa: A002 - the aggregate's
        """Return the stream of one aggregate. Raises `TopicError` unless `id` is one token."""
        if not isinstance(id, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a key, maybe
            raise TopicError(self.topic, f"the id {id!r} is to be a text: write {str(id)!r}")
        topic = check_topic(self.topic.replace("{%s}" % self.parameter, id))  # noqa: UP031 - braces
        if not parse_pattern(self.topic).matches(topic):
            raise TopicError(topic, f"the id {id!r} is to be one token")
        return topic

    def make(self) -> Any:
        """Return an aggregate to which nothing has happened. Raises `ConfigError`."""
        try:
            return self.cls()
        except TypeError as error:
            raise ConfigError(
                f"{self.cls.__qualname__}() fails ({error}): an aggregate starts without arguments"
            ) from error

    def apply(self, state: object, event: object) -> None:
        """Change `state` by what has happened. Raises `ConfigError` when nothing applies it."""
        applier = self.appliers.get(type(event))
        if applier is None:
            raise ConfigError(
                f"{self.cls.__qualname__} has no method with @applies({type(event).__name__})"
            )
        applier(state, event)


def applies(*events: type) -> Callable[[F], F]:
    """Let a method change the state for events of these classes: a method decorator.

    It gets the event, decides nothing, and has no effect but on `self`: it runs again at each load.
    """

    def decorate(method: F) -> F:
        setattr(method, _APPLIED, (*getattr(method, _APPLIED, ()), *events))
        return method

    return decorate


def aggregate(topic: str, *, version: str | int | None = None) -> Callable[[C], C]:
    """Make a class an aggregate whose streams are `topic` with an id for `{name}`: a decorator.

    It stands above `@dataclass`. The class needs no base class, and starts without arguments.
    `version` says by hand when a change of the code makes snapshots useless; without it, any change
    to the code of the class, its events and their upcasts does. Raises `ConfigError`,
    `TopicError`.
    """
    parameter = _parameter(topic)

    def decorate(cls: C) -> C:
        appliers = _appliers(cls)
        behaviour = Behaviour(
            cls=cls,
            topic=topic,
            parameter=parameter,
            version=None if version is None else str(version),
            appliers=appliers,
            events=EventTypes(appliers),
        )
        setattr(cls, _BEHAVIOUR, behaviour)
        return cls

    return decorate


def behaviour_of(cls: type) -> Behaviour:
    """Return what is known of an aggregate class. Raises `ConfigError` for any other."""
    behaviour = cls.__dict__.get(_BEHAVIOUR)
    if behaviour is None:
        raise ConfigError(
            f"{cls.__qualname__} is no aggregate: decorate it by @aggregate('….{{id}}')"
        )
    return cast("Behaviour", behaviour)


_recordings: dict[int, tuple[object, list[Any]]] = {}
"""What is emitted where, by the identity of the aggregate: it need not be hashable."""


@contextmanager
def recording(state: object) -> Generator[list[Any]]:
    """Yield the list that grows by what `state` emits: how a test asks what was decided.

        with recording(Account()) as events: ...

    Raises `StateError` when it is being recorded already.
    """
    if id(state) in _recordings:
        raise StateError(f"this {type(state).__name__} is being edited already")
    events: list[Any] = []
    _recordings[id(state)] = state, events
    try:
        yield events
    finally:
        del _recordings[id(state)]


def emit(state: object, *events: object) -> None:
    """Say what has happened to an aggregate: apply it, and keep it for the end of the edit.

    Raises `ConfigError` for what no method applies, and `StateError` when nobody edits `state`:
    the event would be lost.
    """
    behaviour = behaviour_of(type(state))
    kept = _recordings.get(id(state))
    if kept is None:
        raise StateError(
            f"this {type(state).__name__} is not being edited: use 'async with "
            "repository.edit(…)', or 'with recording(…)' in a test"
        )
    for event in events:
        behaviour.apply(state, event)
        kept[1].append(event)


def _parameter(topic: str) -> str:
    names = [name for _, name, _, _ in string.Formatter().parse(topic) if name is not None]
    if len(names) != 1 or any(mark in topic for mark in "*>"):
        raise ConfigError(f"{topic!r}: the topic of an aggregate has one {{name}}, for its id")
    parse_pattern(topic)
    return names[0]


def _appliers(cls: type) -> dict[type, Callable[[Any, Any], None]]:
    appliers: dict[type, Callable[[Any, Any], None]] = {}
    for parent in reversed(cls.__mro__):
        own: dict[type, str] = {}
        for name, method in vars(parent).items():
            events: tuple[type, ...] = getattr(method, _APPLIED, ())
            for event in events:
                if event in own:
                    raise ConfigError(
                        f"{cls.__qualname__}: both {own[event]} and {name} apply {event.__name__}"
                    )
                own[event] = name
                appliers[event] = method
    if not appliers:
        raise ConfigError(f"{cls.__qualname__} has no method with @applies(…)")
    return appliers
