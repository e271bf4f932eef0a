"""The envelope: one CloudEvents 1.0 event, the only thing that travels on the bus."""

import builtins
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, overload

from msgspec import UNSET, Meta, Raw, Struct
from msgspec.structs import replace

from hms_bus import payload
from hms_bus.errors import DecodeError
from hms_bus.ids import parse_time, to_moment

T = TypeVar("T")

ExtensionValue = str | int | bool | bytes
"""What an extension may hold (CloudEvents 1.0 section 3.1); URIs and timestamps are text."""

NonEmpty = Annotated[str, Meta(min_length=1)]
Priority = Annotated[int, Meta(ge=0, le=9)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]

if TYPE_CHECKING:
    Data = Any
    Extensions = dict[str, ExtensionValue] | None
else:
    # No document has a member of this name: extensions stand among the other attributes.
    Extensions = None
    # What the JSON decoder leaves in `data`: the text of the value, to be parsed when asked for.
    Data = Raw

DEFAULT_PRIORITY = 4


class Envelope(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="specversion",
    tag="1.0",
):
    """A CloudEvents 1.0 event. Field names are the attribute names; `None` is an absent attribute.

    Required attributes come first. `topic` is empty only between a foreign codec and the transport
    that knows the address. `data` is one of the states that `hms_bus.payload` lists; read it
    with `decode`. `extensions` holds what is not listed here, by name.

    Instances are values: `replace` makes a changed copy. Building one checks nothing, so that the
    bus can build a million a second; `hms_bus.attributes.new_envelope` builds one from outside
    values and checks them, and decoding checks all it reads.
    """

    # The order is the order on the wire. `data` stays last: the JSON reader and the log rely on it.
    id: NonEmpty
    source: NonEmpty
    type: NonEmpty
    topic: str = ""
    time: str | None = None
    subject: NonEmpty | None = None
    datacontenttype: NonEmpty | None = None
    dataschema: NonEmpty | None = None
    correlationid: NonEmpty | None = None
    causationid: NonEmpty | None = None
    partitionkey: NonEmpty | None = None
    expirytime: str | None = None
    sequence: NonEmpty | None = None
    traceparent: NonEmpty | None = None
    tracestate: NonEmpty | None = None
    dataref: NonEmpty | None = None
    authtype: NonEmpty | None = None
    authid: NonEmpty | None = None
    severitynumber: Int32 | None = None
    priority: Priority | None = None
    hops: Count | None = None
    credit: Count | None = None
    extensions: Extensions = None
    data: Data = UNSET

    @property
    def time_ns(self) -> int | None:
        """`time` in nanoseconds since 1970."""
        return None if self.time is None else parse_time(self.time)

    @property
    def moment(self) -> datetime | None:
        """`time` as an aware datetime in UTC, cut to microseconds."""
        return None if self.time is None else to_moment(parse_time(self.time))

    @property
    def expires_ns(self) -> int | None:
        """`expirytime` in nanoseconds since 1970: after it nobody should handle the message."""
        return None if self.expirytime is None else parse_time(self.expirytime)

    @overload
    def decode(self) -> Any: ...
    @overload
    def decode(self, wanted: builtins.type[T]) -> T: ...
    def decode(self, wanted: Any = Any) -> Any:
        """Return the payload as `wanted`; without one, as builtins (bytes for octets).

        Nothing is cached, and an object that was handed over in this process is returned itself.
        Raises `DecodeError` that names the topic, the type and the path that does not fit.
        """
        data = self.data
        try:
            # Hot path: a call less (70 ns) for what every handler on a wire transport asks for.
            if type(data) is Raw and wanted is not bytes:
                return payload.from_json(data, wanted)
            return payload.decode(data, wanted, self.datacontenttype, self.dataschema)
        except Exception as error:
            raise self._misfit(payload.misfit(error)) from error

    def _misfit(self, error: DecodeError) -> DecodeError:
        return DecodeError(
            error.message,
            reason=error.reason,
            field=error.field,
            topic=self.topic,
            type=self.type,
        )

    def replace(self, **changes: Any) -> "Envelope":
        """Return a copy with other values for some fields, unchecked."""
        return replace(self, **changes)


ATTRIBUTES = tuple(
    name for name in Envelope.__struct_fields__ if name not in {"extensions", "data"}
)
"""The names of all attributes that are fields, in the order on the wire, without `specversion`."""

INTEGER_ATTRIBUTES = frozenset({"severitynumber", "priority", "hops", "credit"})
TIME_ATTRIBUTES = frozenset({"time", "expirytime"})
