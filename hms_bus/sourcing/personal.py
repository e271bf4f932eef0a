"""Events about persons: which fields are sealed, and what is read once the key is gone."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError
from hms_bus.payload import misfit

C = TypeVar("C", bound=type)

_MARK = "__personal__"


class Shredded(Struct, frozen=True):
    """What stands in a field whose key was deleted: it can never be read again.

    Declare such a field as `str | Shredded`, so that the type checker asks for both cases.
    """

    subject: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "(shredded)"


class Personal(Struct, frozen=True):
    """What is personal of a class: the field that names the subject, and the fields to seal."""

    subject: str
    fields: tuple[str, ...]


class _Mark(Struct, frozen=True):
    """What `personal` was told; `None` are all fields, also those that a subclass adds."""

    subject: str
    fields: tuple[str, ...] | None


def personal(subject: str, *, fields: Sequence[str] | None = None) -> Callable[[C], C]:
    """Seal events of a class with a key per subject: a class decorator, outermost.

    The field `subject` (text) says whose key it is and stays readable; of the others `fields` are
    sealed, by default all. A subclass inherits that: by default its own fields are sealed as well,
    and with `fields` only those. Such events are written and read by a `Vault` only. Raises
    `ConfigError` for a field that is not there, and for a class without names in its payload.
    """
    mark = _Mark(subject, None if fields is None else tuple(fields))

    def decorate(cls: C) -> C:
        known = field_names(cls)
        config = getattr(cls, "__struct_config__", None)
        if config is not None and config.array_like:
            raise ConfigError(
                f"{cls.__name__} is array_like: sealed fields are found by their names in the "
                "payload, so leave that out"
            )
        sealed = _sealed(cls, mark)
        for name in (subject, *sealed):
            if name not in known:
                raise ConfigError(f"{cls.__name__} has no field {name!r}; known: {known}")
        if subject in sealed or not sealed:
            raise ConfigError(f"{cls.__name__}: seal at least one field, and not {subject!r}")
        setattr(cls, _MARK, mark)
        return cls

    return decorate


def personal_fields(cls: type) -> Personal | None:
    """Return what of `cls` is personal, `None` for nothing."""
    mark = cast("_Mark | None", getattr(cls, _MARK, None))
    return None if mark is None else Personal(mark.subject, _sealed(cls, mark))


def _sealed(cls: type, mark: _Mark) -> tuple[str, ...]:
    if mark.fields is not None:
        return mark.fields
    return tuple(name for name in field_names(cls) if name != mark.subject)


def field_names(cls: Any) -> tuple[str, ...]:
    """Return the field names of a Struct or dataclass. Raises `ConfigError` for other classes."""
    names = getattr(cls, "__struct_fields__", None) or getattr(cls, "__dataclass_fields__", None)
    if names is None:
        raise ConfigError(f"{cls.__name__} is neither a msgspec Struct nor a dataclass")
    return tuple(names)


def wire_names(cls: type) -> dict[str, str]:
    """Return what each field is called in the payload (msgspec's `rename`)."""
    names = field_names(cls)
    return dict(zip(names, getattr(cls, "__struct_encode_fields__", names), strict=True))


def holds_shredded(data: object) -> bool:
    """Whether `data` is a payload with a field that was shredded."""
    if type(data) is not dict:
        return False
    return any(type(value) is Shredded for value in cast("dict[str, Any]", data).values())


def build(cls: type, data: dict[str, Any], envelope: Envelope) -> Any:
    """Make an instance of `cls` of builtins, with `Shredded` in the place of what is gone.

    Neither a Struct nor a dataclass checks the values that it is made of. Raises `DecodeError`.
    """
    values: dict[str, Any] = {}
    for name, wire_name in wire_names(cls).items():
        if wire_name in data:
            value = data[wire_name]
            if type(value) is not Shredded:
                one = envelope.replace(data={"value": value})
                value = one.decode(_field(_hints(cls)[name])).value
            values[name] = value
    try:
        return cls(**values)
    except TypeError as error:
        raise misfit(error) from error


@lru_cache(maxsize=256)
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: _unshredded(hints[name]) for name in field_names(cls)}


def _unshredded(hint: Any) -> Any:
    """Return what a field is while its key is there: msgspec takes no union of two structs."""
    if get_origin(hint) not in {Union, UnionType}:
        return hint
    parts = tuple(part for part in get_args(hint) if part is not Shredded)
    return Union[parts]  # noqa: UP007 - known at run time only


@lru_cache(maxsize=1024)
def _field(hint: Any) -> Any:
    return msgspec.defstruct("Field", [("value", hint)])
