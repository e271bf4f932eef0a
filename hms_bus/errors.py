"""One tree of errors under `BusError`, branched by whose fault it is.

Four branches:

- `UsageError`: the caller's bug. The same call fails again until the code is changed.
- `RefusedError`: input from outside that cannot be accepted. The sender is at fault.
- `StatusError`: the answer of a handler, with a gRPC status name that every language knows.
- `EnvironmentFailure`: the world failed (disk, network, time, a full queue). Often worth a retry.

An error carries facts as attributes, never only as text, and survives pickling. `code` is the gRPC
status name that the error has when it crosses a language border, `retryable` says whether the same
call may succeed later.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

StatusCode = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
"""The gRPC status codes by name (grpc/doc/statuscodes.md), without OK."""

STATUS_CODES: frozenset[str] = frozenset(get_args(StatusCode))

DecodeReason = Literal[
    "malformed",
    "truncated",
    "trailing-bytes",
    "wrong-type",
    "missing-attribute",
    "empty-attribute",
    "bad-attribute-name",
    "bad-attribute-value",
    "bad-time",
    "out-of-range",
    "invalid-utf8",
    "duplicate-key",
    "data-conflict",
    "too-deep",
    "too-large",
    "specversion",
    "unknown-codec",
    "payload",
]
"""Why an input was refused, the same words in every language (spec/envelope.md)."""

Action = Literal[
    "publish",
    "subscribe",
    "append",
    "read",
    "consume",
    "forget",
    "redrive",
    "status",
    "verify",
    "stop",
]
"""What takes a right at a hub."""


class BusError(Exception):
    """The root of every error that hms-bus raises.

    Subclasses take keyword arguments, keep each as an attribute of the same name, and are rebuilt
    from those attributes when unpickled.
    """

    code: StatusCode = "UNKNOWN"
    retryable: bool = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[BusError], args: tuple[Any, ...], facts: dict[str, Any]) -> BusError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(facts)
    return error


# -- the caller's bug --------------------------------------------------------------------------


class UsageError(BusError):
    """The call is wrong and stays wrong until the code or the configuration is changed."""

    code = "INVALID_ARGUMENT"


class ConfigError(UsageError):
    """A URL, an option, a configuration key or a handler signature that cannot work."""


class TopicError(UsageError):
    """`topic` breaks the grammar of spec/topics.md; `reason` says where."""

    topic: str
    reason: str

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"{topic!r} is no valid topic or pattern: {reason}")
        self.topic = topic
        self.reason = reason


class UnsupportedError(UsageError):
    """`what` is a capability that `where` does not declare."""

    code = "UNIMPLEMENTED"
    what: str
    where: str

    def __init__(self, what: str, where: str, hint: str = "") -> None:
        super().__init__(f"{where} does not support {what}" + (f": {hint}" if hint else ""))
        self.what = what
        self.where = where


class EncodeError(UsageError):
    """The envelope or its payload has no form in the codec; `field` names the culprit."""

    field: str | None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class StateError(UsageError):
    """The bus, transport or log is not open (any more)."""

    code = "FAILED_PRECONDITION"


class ProjectionError(UsageError):
    """A handler of the projection `name` failed at `position`, on a `type` at `topic`.

    All before it was handled, and it was not: the next run begins with it. The handler's exception
    is the cause.
    """

    code = "ABORTED"
    name: str
    position: int
    topic: str
    type: str

    def __init__(self, message: str, *, name: str, position: int, topic: str, type: str) -> None:  # noqa: A002 - the CloudEvents attribute's name
        super().__init__(
            f"projection {name!r} stopped at position {position} ({type} on {topic!r}): {message}"
        )
        self.name = name
        self.position = position
        self.topic = topic
        self.type = type


# -- refused input -----------------------------------------------------------------------------


class RefusedError(BusError):
    """Input that came from outside and is not accepted."""

    code = "INVALID_ARGUMENT"


class DecodeError(RefusedError):
    """Bytes that are no envelope, or a payload that does not fit the type that was asked for.

    `reason` is one of `DecodeReason`. `field` is the attribute, or the path in the payload
    (`$.items[0].qty`). `topic` and `type` are filled in as far as they are known.
    """

    reason: DecodeReason
    field: str | None
    topic: str | None
    type: str | None

    def __init__(
        self,
        message: str,
        *,
        reason: DecodeReason,
        field: str | None = None,
        topic: str | None = None,
        type: str | None = None,  # noqa: A002 - the CloudEvents attribute's name
    ) -> None:
        facts = (("topic", topic), ("type", type), ("field", field))
        where = ", ".join(f"{name} {value}" for name, value in facts if value)
        super().__init__(f"{message} ({where})" if where else message)
        self.message = message
        self.reason = reason
        self.field = field
        self.topic = topic
        self.type = type


class FrameError(RefusedError):
    """Bytes that break the protocol between client and hub; `reason` as in spec/ipc.md."""

    reason: str

    def __init__(self, message: str, *, reason: str = "bad-frame") -> None:
        super().__init__(message)
        self.reason = reason


class UnauthenticatedError(RefusedError):
    """A client whose token is missing or unknown, or that belongs to another user."""

    code = "UNAUTHENTICATED"


class DeniedError(RefusedError):
    """The client with the token `name` has no right to do `action` on `topic`, a topic or pattern.

    `topic` is `None` for what concerns no single topic, and the name of a durable for what is done
    to one (`consume`, `forget`, `redrive`); `name` is `None` where it is not known.
    """

    code = "PERMISSION_DENIED"
    action: Action
    topic: str | None
    name: str | None

    def __init__(
        self, *, action: Action, topic: str | None = None, name: str | None = None
    ) -> None:
        who = "this client" if name is None else f"the token {name!r}"
        super().__init__(f"{who} has no right to {_described(action, topic)}")
        self.action = action
        self.topic = topic
        self.name = name


def _described(action: Action, topic: str | None) -> str:
    match action:
        case "stop":
            return "stop the hub: that takes an admin"
        case "status":
            return "see the figures of the hub: that takes an admin"
        case "verify":
            return "have all of the log checked: that takes an admin"
        case "read" if topic is None:
            return "read all of the log: that takes the right to subscribe to '>' and '$reply.>'"
        case "read":
            return f"read {topic!r} from the log: that takes the right to subscribe to it"
        case "append":
            return f"append to the log on {topic!r}"
        case "consume" | "forget" | "redrive":
            return f"{action} the durable {topic!r}: that takes its name in the token's `durable`"
        case _:
            return f"{action} to {topic!r}"


class HopLimitError(RefusedError):
    """A message was caused by a chain of `hops` messages, more than `limit`: agents in a loop."""

    code = "ABORTED"
    topic: str
    hops: int
    limit: int

    def __init__(self, *, topic: str, hops: int, limit: int) -> None:
        super().__init__(
            f"message on {topic!r} is {hops} hops from its origin, the limit is {limit}: "
            "do agents answer each other in a loop? Raise max_hops if the chain is meant."
        )
        self.topic = topic
        self.hops = hops
        self.limit = limit


# -- a handler's answer ------------------------------------------------------------------------


class StatusError(BusError):
    """What a handler raises to answer a request with a status of its own choice.

    `details` must be encodable as JSON. Any other exception of a handler reaches the caller as
    `UNKNOWN` with the exception's class name and text.
    """

    details: Mapping[str, Any]

    def __init__(
        self,
        code: StatusCode,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
    ) -> None:
        if code not in STATUS_CODES:
            raise UsageError(f"{code!r} is no gRPC status name; one of {sorted(STATUS_CODES)}")
        super().__init__(message)
        self.code = code
        self.details = dict(details or {})
        self.retryable = code in _RETRYABLE_CODES if retryable is None else retryable


_RETRYABLE_CODES = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"})


class RemoteError(StatusError):
    """The error that a request was answered with.

    `topic` is the request's topic, `source` the agent that answered. `remote_traceback` is filled
    only when the server was opened with `expose_tracebacks=True`.
    """

    topic: str
    source: str
    remote_traceback: str | None

    def __init__(
        self,
        code: StatusCode,
        message: str,
        *,
        topic: str,
        source: str,
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
        remote_traceback: str | None = None,
    ) -> None:
        super().__init__(code, message, details=details, retryable=retryable)
        self.topic = topic
        self.source = source
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        return f"{self.code} from {self.source} on {self.topic!r}: {self.message}"


# -- the world ---------------------------------------------------------------------------------


class EnvironmentFailure(BusError):  # noqa: N818 - a branch of the tree, never raised itself
    """Something outside both programs failed."""

    code = "UNAVAILABLE"
    retryable = True


class NoRespondersError(EnvironmentFailure):
    """Nobody serves `topic` now. Raised at once, not after the timeout."""

    topic: str

    def __init__(self, topic: str) -> None:
        super().__init__(f"nobody serves {topic!r}: is the agent that does started, and connected?")
        self.topic = topic


class DeadlineExceededError(EnvironmentFailure):
    """No answer on `topic` within `timeout_s` seconds; unknown whether the request was handled."""

    code = "DEADLINE_EXCEEDED"
    topic: str
    timeout_s: float

    def __init__(self, *, topic: str, timeout_s: float) -> None:
        super().__init__(f"no answer on {topic!r} within {timeout_s:g} s")
        self.topic = topic
        self.timeout_s = timeout_s


class QueueFullError(EnvironmentFailure):
    """A bounded queue is full and its policy is to refuse; `limit` counts messages.

    `cycle` names the subscriptions that wait for each other, if waiting would never have ended.
    `position` is where the log keeps the message all the same, if one does: publishing it again
    would say it twice, so the error is not `retryable` then.
    """

    code = "RESOURCE_EXHAUSTED"
    queue: str
    limit: int
    cycle: Sequence[str]
    position: int | None

    def __init__(self, *, queue: str, limit: int, cycle: Sequence[str] = ()) -> None:
        text = f"queue of {queue!r} is full ({limit} messages)"
        if cycle:
            text += f"; waiting would never end: {' -> '.join(cycle)}"
        super().__init__(text)
        self.queue = queue
        self.limit = limit
        self.cycle = tuple(cycle)
        self.position = None

    def keep_at(self, position: int) -> None:
        """Note that the log keeps the message at `position`."""
        self.position = position
        self.retryable = False
        self.args = (f"{self.args[0]}; the log keeps the message at position {position}",)


class ConnectError(EnvironmentFailure):
    """The transport at `url` cannot be reached; or it `refused` us, and would do so again."""

    url: str
    refused: bool

    def __init__(self, message: str, *, url: str, refused: bool = False) -> None:
        super().__init__(message)
        self.url = url
        self.refused = refused
        self.retryable = not refused


class HubLockedError(EnvironmentFailure):
    """Another hub has its place at `url`; `holder` says who (process id and host)."""

    code = "FAILED_PRECONDITION"
    url: str
    holder: str

    def __init__(self, *, url: str, holder: str) -> None:
        super().__init__(f"there is a hub at {url} already: {holder}")
        self.url = url
        self.holder = holder


class DisconnectedError(EnvironmentFailure):
    """The connection ended while a request was under way: its outcome is unknown."""


class LogError(EnvironmentFailure):
    """The log at `path` could not do what was asked."""

    code = "INTERNAL"
    retryable = False
    path: str

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class LogLockedError(LogError):
    """Another writer has the log open; `holder` says who (process id and host)."""

    code = "FAILED_PRECONDITION"
    retryable = True
    holder: str

    def __init__(self, *, path: str, holder: str) -> None:
        super().__init__(
            f"log {path} is open for writing by {holder}: stop that process, read without "
            "writing (readonly=true), or share the log through one bus",
            path=path,
        )
        self.holder = holder


class LogReadOnlyError(LogError):
    """The log takes no more events.

    It was opened so, a write failed before, or its file was deleted, moved or replaced meanwhile.
    """

    code = "FAILED_PRECONDITION"


class LogFormatError(LogError):
    """The file is no log, or one of a schema version that this release does not know."""

    code = "FAILED_PRECONDITION"


class LogCorruptError(LogError):
    """The log's contents contradict themselves first at `position`."""

    code = "DATA_LOSS"
    position: int | None

    def __init__(self, message: str, *, path: str, position: int | None = None) -> None:
        super().__init__(message, path=path)
        self.position = position


class DurableInUseError(LogError):
    """The durable `name` has a consumer, and no group that another one could share it in."""

    code = "FAILED_PRECONDITION"
    retryable = True
    name: str

    def __init__(self, message: str, *, path: str, name: str) -> None:
        super().__init__(message, path=path)
        self.name = name


class ConflictError(EnvironmentFailure):
    """Optimistic concurrency lost: the last record of `topic` is at `actual`, not at `expected`.

    Positions start at 1; 0 stands for "no record". Nothing of the batch was appended.
    """

    code = "ABORTED"
    topic: str
    expected: int
    actual: int

    def __init__(self, *, topic: str, expected: int, actual: int) -> None:
        super().__init__(
            f"last record on {topic!r} is at position {actual}, not {expected} "
            "(0: there is none): read what came since, decide again, and retry"
        )
        self.topic = topic
        self.expected = expected
        self.actual = actual


# -- replay ------------------------------------------------------------------------------------


class UnrecordedError(EnvironmentFailure):
    """A replayed agent asked for what the record does not hold: its code has changed since.

    `what` is the name of an effect or the topic of a request, the `ordinal`-th (from 0) of
    `agent` while it handled the message with the id `cause` (`None`: outside of any handler).
    """

    code = "NOT_FOUND"
    retryable = False
    agent: str
    cause: str | None
    what: str
    ordinal: int

    def __init__(self, *, agent: str, cause: str | None, what: str, ordinal: int) -> None:
        handling = "outside of a handler" if cause is None else f"while handling {cause}"
        super().__init__(
            f"the record has no {what!r} number {ordinal} of {agent} {handling}: replay with "
            "effects=recorded or live to let it run"
        )
        self.agent = agent
        self.cause = cause
        self.what = what
        self.ordinal = ordinal


class EffectError(EnvironmentFailure):
    """What the effect `name` raised when it was recorded: an error of a `kind` unknown here."""

    code = "UNKNOWN"
    retryable = False
    name: str
    kind: str

    def __init__(self, message: str, *, name: str, kind: str) -> None:
        super().__init__(f"effect {name!r} raised {kind} when it was recorded: {message}")
        self.name = name
        self.kind = kind


class StoreError(EnvironmentFailure):
    """The file at `path`, which holds views, snapshots, keys or an outbox, cannot be used."""

    code = "INTERNAL"
    retryable = False
    path: str

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path
