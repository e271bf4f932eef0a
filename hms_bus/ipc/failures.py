"""Errors on the wire between hub and client, and back (spec/ipc.md, "Errors")."""

from collections.abc import Callable
from typing import Any, cast

from hms_bus.errors import (
    STATUS_CODES,
    BusError,
    ConflictError,
    ConnectError,
    DecodeError,
    DeniedError,
    DurableInUseError,
    EncodeError,
    FrameError,
    LogCorruptError,
    LogError,
    LogFormatError,
    LogLockedError,
    LogReadOnlyError,
    QueueFullError,
    StateError,
    StatusCode,
    StatusError,
    TopicError,
    UnauthenticatedError,
    UnsupportedError,
    UsageError,
)
from hms_bus.ipc.session import Failure, from_json


def to_failure(error: BusError, *, reason: str | None = None) -> Failure:
    """Return what a client is told of an error that happened at the hub."""
    found, details = _describe(error)
    reason = reason or found
    return Failure(
        code=_CODES.get(reason, error.code),
        message=str(error),
        reason=reason,
        retryable=error.retryable,
        details=details,
    )


_CODES: dict[str, StatusCode] = {
    "frame-too-large": "RESOURCE_EXHAUSTED",
    "no-hello": "FAILED_PRECONDITION",
    "closing": "UNAVAILABLE",
    "unsupported": "UNIMPLEMENTED",
    "usage": "INVALID_ARGUMENT",
}
"""Reasons that say more than their error."""


def _describe(error: BusError) -> tuple[str, dict[str, Any]]:
    """Return the reason and the details that the error is rebuilt from."""
    if isinstance(error, FrameError):
        return error.reason, {}
    if isinstance(error, LogError) and not isinstance(error, LogReadOnlyError):
        return "log", {"kind": type(error).__name__, "path": error.path} | _facts_of(error)
    for kind, reason, facts in _REASONS:
        if isinstance(error, kind):
            return reason, {fact: getattr(error, fact) for fact in facts}
    if type(error) is UsageError:
        return "usage", {}
    if isinstance(error, UsageError):
        return "unsupported", {"what": str(error), "where": ""}
    return "internal", {}


_REASONS: tuple[tuple[type[BusError], str, tuple[str, ...]], ...] = (
    (ConflictError, "conflict", ("topic", "expected", "actual")),
    (QueueFullError, "queue-full", ("queue", "limit")),
    (LogReadOnlyError, "log-read-only", ("path",)),
    (UnsupportedError, "unsupported", ("what", "where")),
    (TopicError, "bad-topic", ("topic", "reason")),
    (DecodeError, "bad-envelope", ("field",)),
    (EncodeError, "bad-envelope", ("field",)),
    (UnauthenticatedError, "unauthenticated", ()),
    (DeniedError, "denied", ("action", "topic", "name")),
)


def _facts_of(error: LogError) -> dict[str, Any]:
    if isinstance(error, LogLockedError):
        return {"holder": error.holder}
    if isinstance(error, LogCorruptError):
        return {"position": error.position}
    if isinstance(error, DurableInUseError):
        return {"name": error.name}
    return {}


def to_error(failure: Failure, *, url: str) -> BusError:
    """Return the error that a failure tells of; `url` is the hub's.

    What cannot be rebuilt from its details is a `StatusError` with the same code and text.
    """
    rebuild = _REBUILT.get(failure.reason)
    if rebuild is not None:
        try:
            return rebuild(failure, url)
        except (KeyError, TypeError, ValueError):
            pass
    code = cast("StatusCode", failure.code if failure.code in STATUS_CODES else "UNKNOWN")
    details = {"reason": failure.reason} | failure.details
    return StatusError(code, failure.message, details=details, retryable=failure.retryable)


def _conflict(failure: Failure, url: str) -> BusError:
    del url
    details = failure.details
    return ConflictError(
        topic=details["topic"], expected=details["expected"], actual=details["actual"]
    )


def _queue_full(failure: Failure, url: str) -> BusError:
    del url
    details = failure.details
    error = QueueFullError(queue=details["queue"], limit=details["limit"])
    if (position := details.get("position")) is not None:
        error.keep_at(position)
    return error


def _log(failure: Failure, url: str) -> BusError:
    del url
    path: str = failure.details["path"]
    match failure.details["kind"]:
        case "LogLockedError":
            return LogLockedError(path=path, holder=failure.details["holder"])
        case "LogCorruptError":
            position: int | None = failure.details["position"]
            return LogCorruptError(failure.message, path=path, position=position)
        case "DurableInUseError":
            name: str = failure.details["name"]
            return DurableInUseError(failure.message, path=path, name=name)
        case "LogFormatError":
            return LogFormatError(failure.message, path=path)
        case _:
            return LogError(failure.message, path=path)


def _read_only(failure: Failure, url: str) -> BusError:
    del url
    return LogReadOnlyError(failure.message, path=failure.details["path"])


def _bad_topic(failure: Failure, url: str) -> BusError:
    del url
    return TopicError(failure.details["topic"], failure.details["reason"])


def _bad_envelope(failure: Failure, url: str) -> BusError:
    del url
    return EncodeError(failure.message, field=failure.details.get("field"))


def _unsupported(failure: Failure, url: str) -> BusError:
    where: str = failure.details.get("where") or url
    return UnsupportedError(failure.details["what"], where)


def _refused(failure: Failure, url: str) -> BusError:
    return ConnectError(f"{url}: {failure.message}", url=url, refused=True)


def _denied(failure: Failure, url: str) -> BusError:
    del url
    details = failure.details
    return DeniedError(action=details["action"], topic=details["topic"], name=details["name"])


def _usage(failure: Failure, url: str) -> BusError:
    del url
    return UsageError(failure.message)


def _no_log(failure: Failure, url: str) -> BusError:
    return StateError(f"{url}: {failure.message}")


_REBUILT: dict[str, Callable[[Failure, str], BusError]] = {
    "conflict": _conflict,
    "queue-full": _queue_full,
    "log": _log,
    "log-read-only": _read_only,
    "bad-topic": _bad_topic,
    "bad-envelope": _bad_envelope,
    "unsupported": _unsupported,
    "usage": _usage,
    "no-log": _no_log,
    "denied": _denied,
    "unauthenticated": _refused,
    "other-log": _refused,
    "protocol-version": _refused,
    "envelope-version": _refused,
    "no-hello": _refused,
    "closing": _refused,
    "idle": _refused,
}


def read_failure(document: bytes) -> Failure:
    """Read the JSON of an ERROR or FAILED; one that cannot be read is UNKNOWN."""
    try:
        return from_json(document, Failure)
    except FrameError as error:
        return Failure(code="UNKNOWN", message=f"the error itself could not be read: {error}")
