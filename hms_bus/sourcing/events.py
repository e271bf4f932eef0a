"""Events as classes: what they are called in the log, and how old payloads become new ones.

An event is a msgspec Struct, a dataclass or anything else that `hms_bus.payload` reads. Its name in
the log, the attribute `type`, is the class name; from version 2 on, `.v2` and so on stand behind
it. The CloudEvents primer ("Versioning of CloudEvents") asks for another type when a payload
changes so that older readers would not understand it. A field with a default needs no new version.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from msgspec import UNSET, Struct

from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, DecodeError
from hms_bus.payload import is_message_type
from hms_bus.sourcing.personal import build, holds_shredded, personal_fields

C = TypeVar("C", bound=type)
Upcast = Callable[[dict[str, Any]], dict[str, Any]]
U = TypeVar("U", bound=Upcast)

_TYPE = re.compile(r"(.+?)(?:\.v([1-9][0-9]*))?")
_STEPS = "__upcasts__"


def event(*, name: str | None = None, version: int = 1) -> Callable[[C], C]:
    """Name an event class, or give it a version: a class decorator.

    Without it a class is version 1 of its own name. Raises `ConfigError`.
    """
    if version < 1:
        raise ConfigError(f"version={version}: versions of an event start at 1")

    def decorate(cls: C) -> C:
        setattr(cls, "__event_type__", _join(name or cls.__name__, version))  # noqa: B010
        return cls

    return decorate


def upcast(cls: type, *, version: int, name: str | None = None) -> Callable[[U], U]:
    """Let a function turn the payload of an older version into that of the next: a decorator.

    It gets a `dict` of builtins and returns one, which the step for `version` + 1 gets, until `cls`
    itself can be read. `name` is what the event was called then, by default what it is called now.
    In a personal event that was forgotten, a sealed field is `Shredded`: a step passes it on. The
    log is never changed. Raises `ConfigError` for a version that is not older, or given twice.
    """
    own, newest = _split(event_type(cls))
    if version < 1:
        raise ConfigError(f"version={version}: versions of an event start at 1")
    if version >= newest:
        raise ConfigError(
            f"{cls.__name__} is version {newest}: an upcast from version {version} leads to a "
            f"later one; give the class its version by @event(version={version + 1})"
        )
    steps: dict[tuple[str, int], Upcast] = cls.__dict__.get(_STEPS) or {}
    setattr(cls, _STEPS, steps)
    key = (name or own, version)
    if key in steps:
        raise ConfigError(f"{cls.__name__} has an upcast from {_join(*key)} already")

    def decorate(step: U) -> U:
        steps[key] = step
        return step

    return decorate


def event_type(cls: type) -> str:
    """Return what `cls` is called in the log: the `type` that publishing gives it."""
    named = cast("str | None", getattr(cls, "__event_type__", None))
    if named is None and is_message_type(cls):
        named = cast("str", cast("Any", cls).DESCRIPTOR.full_name)
    return named or cls.__name__


def upcasts(cls: type) -> Mapping[tuple[str, int], Upcast]:
    """Return the steps that were declared for `cls`, by name and version."""
    return cast("dict[tuple[str, int], Upcast]", cls.__dict__.get(_STEPS) or {})


class EventReader(Struct, frozen=True):
    """How the payloads of one event type become instances of `cls`."""

    cls: type
    steps: tuple[Upcast, ...] = ()
    is_personal: bool = False

    def read(self, envelope: Envelope) -> Any:
        """Return the event. Raises `DecodeError`, with what an upcast raised as its cause."""
        cls: type[Any] = self.cls
        if envelope.data is UNSET:
            raise DecodeError(
                "the event has no payload: was it redacted (`hms-bus log redact`)? Only a copy of "
                "the log from before has it; what must be forgotten in a stream belongs in a Vault",
                reason="payload",
                topic=envelope.topic,
                type=envelope.type,
            )
        if self.is_personal:
            return build(cls, self._lifted(envelope), envelope)
        if self.steps:
            envelope = envelope.replace(data=self._lifted(envelope))
        return envelope.decode(cls)

    def _lifted(self, envelope: Envelope) -> dict[str, Any]:
        """Return the payload as the newest version has it, in a `dict` that may be changed."""
        if holds_shredded(envelope.data):
            data = dict(cast("dict[str, Any]", envelope.data))
        else:
            data = envelope.decode(dict[str, Any])
        for step in self.steps:
            try:
                data = step(data)
            except Exception as error:
                raise DecodeError(
                    f"the upcast {step.__qualname__} failed: {error!r}",
                    reason="payload",
                    topic=envelope.topic,
                    type=envelope.type,
                ) from error
        return data


class EventTypes:
    """The events that somebody knows, found by what they are called in the log.

    Raises `ConfigError` when two classes have one name, when steps between versions are missing, or
    for what is no class of events.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        self.classes = tuple(dict.fromkeys(classes))
        for cls in self.classes:
            _check_event(cls)
        self._readers: dict[str, EventReader] = {}
        for cls in self.classes:
            for name, reader in _readers(cls).items():
                known = self._readers.setdefault(name, reader)
                if known.cls is not cls:
                    raise ConfigError(
                        f"{known.cls.__qualname__} and {cls.__qualname__} are both read from "
                        f"events called {name!r}: name one of them by @event(name=…)"
                    )

    def find(self, type_name: str) -> EventReader | None:
        """Return what reads events of that type, `None` when it is not known."""
        return self._readers.get(type_name)

    def names(self) -> list[str]:
        """Return all types that can be read."""
        return list(self._readers)

    def read(self, envelope: Envelope) -> Any:
        """Return the event in `envelope`. Raises `DecodeError`, also for a type that is unknown."""
        reader = self._readers.get(envelope.type)
        if reader is None:
            raise DecodeError(
                self._why_unknown(envelope.type),
                reason="payload",
                topic=envelope.topic,
                type=envelope.type,
            )
        return reader.read(envelope)

    def _why_unknown(self, type_name: str) -> str:
        parts = _TYPE.fullmatch(type_name)
        name, version = (parts[1], int(parts[2] or 1)) if parts else (type_name, 1)
        for known, reader in self._readers.items():
            known_name, known_version = _split(known)
            if known_name == name and known_version > version:
                return (
                    f"this type is older than {known}: @upcast({reader.cls.__qualname__}, "
                    f"version={version}) is missing"
                )
        return (
            f"no class is known for this type, only for {', '.join(self._readers)}: was it written "
            "by a newer release?"
        )


def _check_event(cls: object) -> None:
    if not isinstance(cls, type) or cls.__module__ == "builtins":
        raise ConfigError(
            f"{getattr(cls, '__name__', cls)!r} is no event: name a class of your own, a msgspec "
            "Struct or a dataclass, whose name is the event's in the log"
        )


def _readers(cls: type) -> dict[str, EventReader]:
    own, newest = _split(event_type(cls))
    steps = upcasts(cls)
    is_personal = personal_fields(cls) is not None
    readers = {event_type(cls): EventReader(cls, (), is_personal)}
    for name, version in steps:
        chain = [steps[name, version]]
        for later in range(version + 1, newest):
            step = steps.get((own, later))
            if step is None:
                raise ConfigError(
                    f"{cls.__name__} can be lifted from {_join(name, version)} to version {later} "
                    f"but no further: @upcast({cls.__name__}, version={later}) is missing"
                )
            chain.append(step)
        readers[_join(name, version)] = EventReader(cls, tuple(chain), is_personal)
    return readers


def _join(name: str, version: int) -> str:
    return name if version == 1 else f"{name}.v{version}"


def _split(type_name: str) -> tuple[str, int]:
    parts = _TYPE.fullmatch(type_name)
    if parts is None:
        raise ConfigError(f"{type_name!r} is no name of an event")
    return parts[1], int(parts[2] or 1)
