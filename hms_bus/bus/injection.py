"""What a handler's parameters are filled with, decided once from its signature.

By annotation: `Message`, `Envelope` and `Bus`, each also `| None`, stand for themselves. By name: a
parameter named like a capture of the pattern gets that token, converted to its annotation. The one
parameter that is left is the payload, decoded to its annotation (or to builtins without one).
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct
from msgspec import inspect as inspection

from hms_bus.bus.message import Message
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, DecodeError
from hms_bus.topics import Pattern

Call = Callable[[Message], Any]
"""Calls a handler with what its signature asks for and returns what the call returns."""

_Source = Callable[[Message], Any]

_NO_TOKENS = (
    inspection.CollectionType,
    inspection.TupleType,
    inspection.DictType,
    inspection.StructType,
    inspection.DataclassType,
    inspection.TypedDictType,
    inspection.NamedTupleType,
    inspection.ExtType,
    inspection.RawType,
    inspection.NoneType,
)


class Signature(Struct, frozen=True, kw_only=True):
    """A handler ready to be called. `wants_message` is false when the payload is all it takes.

    `payload` is the type of the payload parameter, or `None` when the handler takes none.
    """

    name: str
    call: Call
    call_payload: Callable[[Any], Any] | None
    payload: Any
    streams: bool


def read_signature(
    handler: Callable[..., Any], pattern: Pattern, bus: object, *, local: Mapping[str, Any]
) -> Signature:
    """Decide how `handler` is called. `local` are names that its annotations may refer to.

    Raises `ConfigError` for a handler that is not `async`, an annotation that cannot be resolved or
    that no capture fits, and parameters that nothing fills.
    """
    if not callable(handler):
        raise ConfigError(f"{handler!r} is no handler: decorate an async function")
    written = _as_written(handler)
    name: str = getattr(written, "__qualname__", type(handler).__name__)
    streams = inspect.isasyncgenfunction(written)
    if not streams and not inspect.iscoroutinefunction(written):
        raise ConfigError(
            f"handler {name} is not async: write 'async def', and await asyncio.to_thread(...) "
            "for what blocks"
        )
    hints = _hints(written, name, local)
    captured = {capture for _, capture in pattern.captures}
    sources: dict[str, _Source] = {}
    payload_name: str | None = None
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        hint = hints.get(parameter.name, Any)
        if source := _known_source(name, parameter.name, hint, captured, bus):
            sources[parameter.name] = source
        elif parameter.default is not parameter.empty:
            continue
        elif payload_name is None:
            payload_name = parameter.name
            sources[parameter.name] = _payload_source(name, hint)
        else:
            raise ConfigError(
                f"handler {name}: both {payload_name!r} and {parameter.name!r} could be the "
                f"payload; annotate one as Message, Envelope or Bus, or name it like a capture "
                f"of {pattern.text!r}"
            )
    payload = hints.get(payload_name, Any) if payload_name else None
    return Signature(
        name=name,
        call=_compile(handler, sources),
        call_payload=handler if payload_name and _is_first_alone(handler, sources) else None,
        payload=payload,
        streams=streams,
    )


def _as_written(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function or method behind partials and objects with a `__call__`."""
    while isinstance(handler, partial):
        handler = handler.func
    is_plain = inspect.isroutine(handler) or inspect.isclass(handler)
    return handler if is_plain or inspect.iscoroutinefunction(handler) else handler.__call__


def _hints(written: Callable[..., Any], name: str, local: Mapping[str, Any]) -> dict[str, Any]:
    if not inspect.isroutine(written):
        return {}  # a mock
    try:
        return get_type_hints(written, localns=dict(local), include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"handler {name}: its annotation {error.name!r} is not known here; define it at the "
            "top of the module, or import it outside of TYPE_CHECKING"
        ) from error
    except Exception as error:
        # An annotation is an expression: evaluating it may raise anything.
        raise ConfigError(f"handler {name}: an annotation cannot be read: {error}") from error


def _known_source(
    handler: str, name: str, hint: Any, captured: set[str], bus: object
) -> _Source | None:
    wanted = _without_none(hint)
    if wanted is Message:
        return lambda message: message
    if wanted is Envelope:
        return lambda message: message.envelope
    if wanted is not object and wanted in type(bus).__mro__:
        return lambda _: bus
    if name in captured:
        return _capture_source(handler, name, hint)
    return None


def _without_none(hint: Any) -> Any:
    """Return `X` for `X | None`, which has the same meaning for what is always there."""
    if get_origin(hint) not in {Union, UnionType}:
        return hint
    others = [each for each in get_args(hint) if each is not NoneType]
    return others[0] if len(others) == 1 else hint


def _capture_source(handler: str, name: str, hint: Any) -> _Source:
    if hint in {Any, str}:
        return lambda message: message.captures[name]
    try:
        is_fit = _fits_token(inspection.type_info(hint))
    except TypeError as error:
        raise ConfigError(f"handler {handler}: parameter {name!r}: {error}") from error
    if not is_fit:
        raise ConfigError(
            f"handler {handler}: parameter {name!r} is a capture of the pattern, and no text "
            f"becomes {hint!r}; annotate it as str, int, an Enum, a UUID …"
        )

    def source(message: Message) -> Any:
        try:
            return msgspec.convert(message.captures[name], hint, strict=False)
        except msgspec.ValidationError as error:
            raise DecodeError(
                str(error),
                reason="payload",
                field=f"{{{name}}}",
                topic=message.topic,
                type=message.type,
            ) from error

    return source


def _fits_token(kind: inspection.Type) -> bool:
    """Whether some token can become this type: no container, and no class of the user's."""
    if isinstance(kind, inspection.UnionType):
        return any(_fits_token(each) for each in kind.types)
    if isinstance(kind, inspection.CustomType):
        return issubclass(str, kind.cls)
    return not isinstance(kind, _NO_TOKENS)


def _payload_source(handler: str, hint: Any) -> _Source:
    if hint is Any:
        return lambda message: message.data
    try:
        info = inspection.type_info(hint)
    except TypeError as error:
        raise ConfigError(f"handler {handler}: {hint!r} is no type of payload: {error}") from error
    if isinstance(info, inspection.CustomType) and get_origin(hint) is not None:
        raise ConfigError(f"handler {handler}: {hint!r} is no type of payload")

    def source(message: Message) -> Any:
        data = message.envelope.data
        return data if type(data) is hint else message.envelope.decode(hint)

    return source


def _compile(handler: Callable[..., Any], sources: dict[str, _Source]) -> Call:
    """Return the call without a loop for the shapes that nearly every handler has."""
    if not _are_first(handler, sources):
        return lambda message: handler(**{n: source(message) for n, source in sources.items()})
    match list(sources.values()):
        case []:
            return lambda _: handler()
        case [one]:
            return lambda message: handler(one(message))
        case [one, two]:
            return lambda message: handler(one(message), two(message))
        case several:
            return lambda message: handler(*[source(message) for source in several])


def _are_first(handler: Callable[..., Any], sources: Mapping[str, _Source]) -> bool:
    """Whether `sources` are the handler's first parameters, and may be passed by position."""
    parameters = inspect.signature(handler).parameters
    return list(sources) == list(parameters)[: len(sources)] and all(
        parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY for name in sources
    )


def _is_first_alone(handler: Callable[..., Any], sources: Mapping[str, _Source]) -> bool:
    return len(sources) == 1 and _are_first(handler, sources)


def local_names(depth: int) -> Mapping[str, Any]:
    """Return the local names `depth` frames up, so that types defined in a function resolve."""
    # As `inspect.currentframe`, without a loop over its callers.
    return sys._getframe(depth + 1).f_locals  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
