"""`effect`: what is not deterministic, recorded so that it is replayed.

    answer = await effect("model.complete", client.complete, prompt)
    now = await effect.now()

In a handler of a bus with a log the result is appended to it, caused by the message that is
handled. Under `replay://` it comes from the record, and the function is not called.
"""

import asyncio
import builtins
import inspect
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from functools import cache
from math import isfinite
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints, overload
from weakref import WeakKeyDictionary

from msgspec import UNSET, Raw
from msgspec.structs import replace

from hms_bus import jsonformat, payload
from hms_bus.bus import context
from hms_bus.durations import Duration, parse_duration
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EffectError
from hms_bus.ids import stamp, to_moment
from hms_bus.replay.events import EFFECT, EFFECT_PREFIX, EffectBody
from hms_bus.replay.naming import agent_of
from hms_bus.replay.transport import ReplayTransport
from hms_bus.topics import check_topic

T = TypeVar("T")

_MAX_CAUSES = 4096


class Effect:
    """Runs functions whose results are recorded; there is one, `hms_bus.effect`."""

    def __init__(self) -> None:
        self._turns: WeakKeyDictionary[context.Running, _Turns] = WeakKeyDictionary()

    @overload
    async def __call__(
        self, name: str, fn: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any
    ) -> T: ...
    @overload
    async def __call__(
        self, name: str, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> T: ...
    async def __call__(
        self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Return what `fn(*args, **kwargs)` returns, recorded or from the record.

        `name` is the topic behind `$effect.`, `model.complete` for instance. Of the effects with
        one name that an agent has for one message, the n-th run gets the n-th record. What `fn`
        raises is recorded and raised again, from the record as the same class if it is a built-in
        or imported one, else as `EffectError`.

        The result is what the record holds of it, also when `fn` has just run: the type that `fn`
        is annotated to return, else builtins as JSON has them (a list for a set, a dict for a
        Struct). So it is, too, when the annotation cannot be read (a Protocol, `Iterable[str]`), or
        when it did not fit as the effect was recorded. Raises `EncodeError` for a result that has
        no form in an envelope, and in a replay `DecodeError` for one that did fit and no longer
        does.

        Outside of a handler, or without a log, `fn` just runs. Raises `TopicError`, `LogError` when
        the result could not be kept, `UnrecordedError` in a replay with `effects=strict`.
        """
        running, cause = context.running.get(), context.cause.get()
        if running is None or cause is None:
            return await _run(fn, args, kwargs)
        topic = check_topic(EFFECT_PREFIX + name)
        replayed = _replayed(running)
        if replayed is None and running.log is None:
            return await _run(fn, args, kwargs)
        turns = self._turns.setdefault(running, _Turns())
        ordinal = turns.next(cause.id, context.attempt.get(), name)
        if replayed is None:
            return await _run_recorded(running, topic, ordinal, fn, args, kwargs)
        agent = agent_of(replayed.agent)
        recorded = await replayed.stage.answering.effect(agent, cause.id, topic, ordinal)
        if recorded is None:
            result = await _run(fn, args, kwargs)
            return _as_recorded(_event(running, topic, ordinal, EffectBody(value=result)), fn)[1]
        return _result(recorded, name, fn)

    async def now(self) -> datetime:
        """Return the time, in UTC; in a replay the recorded one, else that of the virtual clock."""
        return to_moment(await self("clock.now", _now_ns))

    async def sleep(self, duration: Duration) -> None:
        """Wait for `duration`: at the speed of the replay in one, so not at all at full speed.

        Raises `ConfigError` for what is no duration.
        """
        running = context.running.get()
        replayed = None if running is None else _replayed(running)
        lasts_s = parse_duration(duration)
        await asyncio.sleep(lasts_s if replayed is None else replayed.stage.pace.lasts_s(lasts_s))

    async def random(self) -> float:
        """Return a random number from 0 to below 1."""
        return await self("random.uniform", random.random)

    async def uuid(self) -> str:
        """Return a new UUID of version 7 as text."""
        return await self("random.uuid", _new_id)


effect = Effect()
"""Records what is not deterministic, and replays it: `await effect("model", fn, prompt)`."""


class _Turns:
    """How often each effect was run for each of the latest messages, in each attempt at them."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, int], dict[str, int]] = OrderedDict()

    def next(self, cause: str, attempt: int, name: str) -> int:
        counts = self._counts.setdefault((cause, attempt), {})
        if len(self._counts) > _MAX_CAUSES:
            self._counts.popitem(last=False)
        turn = counts.get(name, 0)
        counts[name] = turn + 1
        return turn


def _replayed(running: context.Running) -> ReplayTransport | None:
    for link in running.links:
        if isinstance(link.transport, ReplayTransport):
            return link.transport
    return None


async def _run(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = fn(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _run_recorded(  # noqa: PLR0917 - the caller's arguments, passed on
    running: context.Running,
    topic: str,
    ordinal: int,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    try:
        result = await _run(fn, args, kwargs)
    except Exception as error:
        kind = f"{type(error).__module__}:{type(error).__qualname__}"
        await _record(running, _event(running, topic, ordinal, _failed(kind, str(error))))
        raise
    event, usual = _as_recorded(_event(running, topic, ordinal, EffectBody(value=result)), fn)
    await _record(running, event)
    return usual


def _failed(kind: str, text: str) -> EffectBody:
    return EffectBody(error=kind, text=text)


def _event(running: context.Running, topic: str, ordinal: int, body: EffectBody) -> Envelope:
    envelope: Envelope = running.composer.plain(topic, body)
    return envelope.replace(type=EFFECT, sequence=f"{ordinal:010d}")


async def _record(running: context.Running, event: Envelope) -> None:
    if running.log is not None:
        await running.log.append([event])


def _as_recorded(event: Envelope, fn: Callable[..., Any]) -> tuple[Envelope, Any]:
    """Return what is recorded, and the result in it as a replay returns it.

    Raises `EncodeError` for what cannot be recorded; nothing else: the result is there, and may
    have cost something.
    """
    result = event.data.value
    wanted = _returned(fn)
    if _is_plain(result) and (wanted in (Any, type(None)) or wanted is type(result)):
        return event, result
    kept = jsonformat.decode(jsonformat.encode(event))
    try:
        return event, _result(kept, event.topic, fn)
    except DecodeError:
        untyped = replace(event.data, is_untyped=True)
        return event.replace(data=untyped), kept.decode(EffectBody).value


def _is_plain(value: Any) -> bool:
    """Whether a value is the same when it comes from JSON: built-in, and a finite number."""
    kind = cast("type[object]", type(value))
    if kind in _PLAIN:
        return True
    if kind is float:
        return isfinite(value)
    if kind is list:
        return all(map(_is_plain, value))
    return (
        kind is dict
        and all(type(key) is str for key in value)
        and all(map(_is_plain, value.values()))
    )


_PLAIN = (type(None), bool, str, int)


def _result(recorded: Envelope, name: str, fn: Callable[..., Any]) -> Any:
    body = recorded.decode(EffectBody)
    if body.error is not None:
        raise _error(name, body.error, body.text)
    if body.value is UNSET:
        return None
    wanted = _returned(fn)
    if body.is_untyped or wanted in (Any, type(None)):
        return body.value
    value = recorded.replace(data=Raw(payload.to_json(body.value)))
    return value.decode(_Base64 if wanted is bytes else wanted)


_Base64 = Annotated[bytes, "as JSON has bytes; the octets of a payload are its text otherwise"]


def _error(name: str, kind: str, text: str) -> Exception:
    """Return an error like the recorded one. Nothing is imported because a record names it."""
    module, _, qualified = kind.partition(":")
    found: Any = builtins if module == "builtins" else sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(text)
        except Exception:  # noqa: BLE001 - its constructor takes something else
            found = None
    return EffectError(text, name=name, kind=kind)


def _returned(fn: Callable[..., Any]) -> Any:
    """Return the type that the function is annotated to return, `Any` without."""
    try:
        return _annotated(fn)
    except TypeError:  # it cannot be hashed
        return Any


@cache
def _annotated(fn: Callable[..., Any]) -> Any:
    try:
        returned = get_type_hints(fn).get("return", Any)
    except Exception:  # noqa: BLE001 - annotations are the user's code and may name anything
        return Any
    return get_args(returned)[-1] if get_origin(returned) in (Awaitable, Coroutine) else returned


def _now_ns() -> int:
    """Return the time in ns since 1970: in a replay that of the message that is handled."""
    running, cause = context.running.get(), context.cause.get()
    replayed = None if running is None else _replayed(running)
    if replayed is None or cause is None:
        return time.time_ns()
    return replayed.stage.now(cause.id).recorded_ns


def _new_id() -> str:
    return stamp()[0]
