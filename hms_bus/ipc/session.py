"""What client and hub tell each other in JSON (spec/ipc.md, "Opening" and after)."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from hms_bus.abc import Overflow
from hms_bus.errors import DecodeError, FrameError
from hms_bus.payload.reading import check_depth

PROTOCOL = (1, 1)
"""The lowest and the highest major version that this release speaks."""

SPECVERSION = "1.0"

S = TypeVar("S", bound=Struct)

_U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Positive = Annotated[float, Meta(gt=0)]


class ClientInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a client is, for people."""

    name: str
    pid: _U63 | None = None
    sdk: str | None = None


class Offer(Struct, frozen=True, kw_only=True):
    """The one member that the hello of every version has."""

    protocol: tuple[int, int]


class Hello(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first frame of a client."""

    protocol: tuple[_U32, _U32]
    envelope: str
    codecs: Annotated[list[str], Meta(min_length=1)]
    client: ClientInfo
    token: str | None = None
    log: str | None = None
    schemas: dict[str, str] = {}


class HubInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which hub it is; `instance` is unique to this run of it.

    `tokens` says that it asks for them: then its clients start no hub in its place.
    """

    name: str
    pid: _U63
    version: str
    started_ns: _U63
    instance: str
    tokens: bool = False


class Limits(Struct, frozen=True, kw_only=True):
    """What a hub allows each client. Bytes, counts and seconds.

    `max_subscriptions` is as many as a DELIVER can count.
    """

    max_frame: _U63 = 16 * 2**20
    max_subscriptions: _U63 = 2**16 - 1
    max_topics: _U63 = 65_536
    max_reads: _U63 = 64
    max_consumers: _U63 = 256
    heartbeat_s: _Positive = 15.0


class LogInfo(Struct, frozen=True, kw_only=True):
    """The log behind the hub. `identity` is another one when its contents are another log's."""

    url: str
    identity: str
    capabilities: list[str]


class Welcome(Struct, frozen=True, kw_only=True):
    """The answer to a `Hello`."""

    protocol: _U32
    envelope: str
    codecs: list[str]
    hub: HubInfo
    client: _U63
    limits: Limits
    log: LogInfo | None = None


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of ERROR and FAILED."""

    code: str
    message: str
    reason: str = "internal"
    retryable: bool = False
    details: dict[str, Any] = {}


class Farewell(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of BYE."""

    reason: str = ""


class Subscribe(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of SUBSCRIBE behind its call."""

    subscription: _U32
    pattern: str
    group: str | None = None
    answers: bool = True
    overflow: Overflow = "drop_newest"
    credit: _U32 | None = None

    def __post_init__(self) -> None:
        """Refuse what could never be delivered."""
        if self.overflow == "block" and self.credit is None:
            raise ValueError("a subscription that blocks says what it has room for: credit")


class Read(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of READ behind its call: a selector, and how to send what it selects."""

    pattern: str | None = None
    first: _U63 | None = None
    last: _U63 | None = None
    since_ns: _I64 | None = None
    until_ns: _I64 | None = None
    types: list[str] = []
    correlation: str | None = None
    source: str | None = None
    backwards: bool = False
    limit: _U63 | None = None
    follow: bool = False
    codec: str | None = None
    credit: _U32 = 1024


class HeadInfo(Struct, frozen=True, kw_only=True):
    """The head of a log as log.md writes it."""

    position: _U63
    hash: str
    recorded_ns: _U63
    format: Literal["hms-bus-head/1"] = "hms-bus-head/1"


class Ask(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of ASK behind its call."""

    op: str
    expected: HeadInfo | None = None
    name: str | None = None
    positions: list[_U63] = []


_encode = msgspec.json.Encoder().encode


def to_json(value: Any) -> bytes:
    """Return a value of this module as JSON."""
    return _encode(value)


def from_json(document: bytes, wanted: type[S]) -> S:
    """Read JSON of a frame as `wanted`; unknown members are ignored. Raises `FrameError`."""
    return _read(document, wanted, wanted.__name__.lower())


def object_from_json(document: bytes) -> dict[str, Any]:
    """Read JSON of a frame whose members depend on what was asked. Raises `FrameError`."""
    return _read(document, dict[str, Any], "object")


def _read(document: bytes, wanted: Any, name: str) -> Any:
    try:
        found = msgspec.json.decode(document, type=wanted)
        check_depth(document)  # what was read here is written elsewhere, deeper in the stack
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, DecodeError) as error:
        raise FrameError(f"no {name}: {error}") from error
    return found


def agree(lowest: int, highest: int) -> int | None:
    """Return the highest protocol version that both know, `None` when there is none."""
    agreed = min(highest, PROTOCOL[1])
    return agreed if agreed >= max(lowest, PROTOCOL[0]) else None
