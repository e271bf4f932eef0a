"""The tree of errors: what each carries, and that nothing is lost on the way to another process."""

import copy
import pickle
from typing import Any

import pytest

from hms_bus import errors
from hms_bus.errors import (
    STATUS_CODES,
    BusError,
    ConfigError,
    ConflictError,
    ConnectError,
    DeadlineExceededError,
    DecodeError,
    DeniedError,
    DisconnectedError,
    DurableInUseError,
    EffectError,
    EncodeError,
    EnvironmentFailure,
    FrameError,
    HopLimitError,
    HubLockedError,
    LogCorruptError,
    LogError,
    LogFormatError,
    LogLockedError,
    LogReadOnlyError,
    NoRespondersError,
    ProjectionError,
    QueueFullError,
    RefusedError,
    RemoteError,
    StateError,
    StatusError,
    StoreError,
    TopicError,
    UnauthenticatedError,
    UnrecordedError,
    UnsupportedError,
    UsageError,
)

EXAMPLES: list[BusError] = [
    BusError("why"),
    UsageError("why"),
    ConfigError("why"),
    TopicError("a..b", "token 2 is empty"),
    UnsupportedError("expect=", "topic 'a'", "no log keeps it"),
    EncodeError("why", field="data"),
    StateError("why"),
    ProjectionError("ValueError: 7", name="balances", position=7, topic="accounts.1", type="Moved"),
    StoreError("disk I/O error", path="views.db"),
    RefusedError("why"),
    DecodeError("no int", reason="payload", field="$.n", topic="a.b", type="Order"),
    UnauthenticatedError("why"),
    FrameError("why", reason="frame-too-large"),
    DeniedError(action="publish", topic="a", name="shop"),
    HopLimitError(topic="a", hops=65, limit=64),
    StatusError("NOT_FOUND", "no such order", details={"id": 5}),
    RemoteError(
        "ABORTED", "why", topic="a", source="/b", details={"x": 1}, remote_traceback="line 1"
    ),
    EnvironmentFailure("why"),
    NoRespondersError("a"),
    DeadlineExceededError(topic="a", timeout_s=0.5),
    QueueFullError(queue="a (f)", limit=5, cycle=["a", "b"]),
    ConnectError("why", url="ipc://x"),
    HubLockedError(url="ipc://x", holder="process 5"),
    DisconnectedError("why"),
    LogError("why", path="run.db"),
    LogLockedError(path="run.db", holder="process 5"),
    LogReadOnlyError("why", path="run.db"),
    DurableInUseError("why", path="run.db", name="billing"),
    LogFormatError("why", path="run.db"),
    LogCorruptError("why", path="run.db", position=7),
    ConflictError(topic="a", expected=3, actual=5),
    UnrecordedError(agent="/a", cause="1", what="model.complete", ordinal=0),
    EffectError("why", name="model.complete", kind="shop:OddError"),
]


def all_errors(root: type[BusError] = BusError) -> set[type[BusError]]:
    found = {root}
    for child in root.__subclasses__():
        found |= all_errors(child)
    return {error for error in found if error.__module__ == errors.__name__}


def facts(error: BusError) -> dict[str, Any]:
    return {"args": error.args, "code": error.code, "retryable": error.retryable, **vars(error)}


def test_every_error_is_shown_here() -> None:
    assert {type(error) for error in EXAMPLES} == all_errors()


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(error: BusError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert facts(again) == facts(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_can_be_copied(error: BusError) -> None:
    assert facts(copy.copy(error)) == facts(error)
    assert facts(copy.deepcopy(error)) == facts(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_has_a_status_and_a_text(error: BusError) -> None:
    assert error.code in STATUS_CODES
    assert isinstance(error.retryable, bool)
    assert error.message
    assert error.message in str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_stands_in_one_branch(error: BusError) -> None:
    branches = (UsageError, RefusedError, StatusError, EnvironmentFailure)
    expected = 0 if type(error) is BusError else 1
    assert sum(isinstance(error, branch) for branch in branches) == expected


def test_a_status_error_takes_grpc_names_only() -> None:
    with pytest.raises(UsageError, match="no gRPC status name"):
        StatusError("TEAPOT", "why")  # pyright: ignore[reportArgumentType] - what is refused


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("UNAVAILABLE", True),
        ("RESOURCE_EXHAUSTED", True),
        ("NOT_FOUND", False),
        ("INTERNAL", False),
    ],
)
def test_a_status_knows_whether_a_retry_may_help(code: Any, *, retryable: bool) -> None:
    assert StatusError(code, "why").retryable is retryable
    assert StatusError(code, "why", retryable=not retryable).retryable is not retryable


def test_the_details_of_a_status_are_its_own() -> None:
    given = {"id": 5}
    error = StatusError("NOT_FOUND", "why", details=given)
    given["id"] = 6
    assert error.details == {"id": 5}


def test_a_decode_error_says_where() -> None:
    error = DecodeError("no int", reason="payload", field="$.n", topic="a.b", type="Order")
    assert str(error) == "no int (topic a.b, type Order, field $.n)"
    assert error.message == "no int"


def test_a_remote_error_says_who() -> None:
    error = RemoteError("ABORTED", "too late", topic="quotes.get", source="/agents/bank")
    assert str(error) == "ABORTED from /agents/bank on 'quotes.get': too late"
