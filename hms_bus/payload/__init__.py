"""Payloads: what `data` of an envelope may hold, and how it becomes the type that is asked for.

In an envelope, `data` is in one of these states:

- `UNSET`: there is none.
- `msgspec.Raw`: a JSON value as it came, checked to be one but not yet parsed. Where the media type
  is not JSON it is a JSON string that holds the text.
- `bytes`: an octet string. With `datacontenttype` `application/protobuf` it is a serialized
  message whose type URL stands in `dataschema`; with a JSON or CBOR media type it is that text.
- any other object: what was published in this process, or what a codec read that has types of its
  own (builtins from CBOR, text from protobuf).

Published may be: msgspec Structs, dataclasses, TypedDicts, builtins, datetime/UUID/Decimal/Enum,
bytes, text, protobuf messages, and pydantic models. This module imports neither protobuf nor
pydantic: their objects are recognised by their methods.
"""

from hms_bus.payload.kinds import (
    CBOR,
    DESCRIPTIONS,
    JSON,
    MAX_BYTES,
    MAX_DEPTH,
    OCTETS,
    PROTOBUF,
    TEXT,
    TYPE_URL_PREFIX,
    Description,
    describe,
    is_cbor,
    is_json,
    is_message_type,
    is_model_type,
    is_octets,
)
from hms_bus.payload.reading import (
    check_depth,
    decode,
    from_json,
    misfit,
    parse_octets,
    parse_text,
)
from hms_bus.payload.writing import (
    NO_PLAIN_FORM,
    check_size,
    encode_json,
    encode_json_into,
    to_builtins,
    to_json,
    to_octets,
    to_text,
)

__all__ = [
    "CBOR",
    "DESCRIPTIONS",
    "JSON",
    "MAX_BYTES",
    "MAX_DEPTH",
    "NO_PLAIN_FORM",
    "OCTETS",
    "PROTOBUF",
    "TEXT",
    "TYPE_URL_PREFIX",
    "Description",
    "check_depth",
    "check_size",
    "decode",
    "describe",
    "encode_json",
    "encode_json_into",
    "from_json",
    "is_cbor",
    "is_json",
    "is_message_type",
    "is_model_type",
    "is_octets",
    "misfit",
    "parse_octets",
    "parse_text",
    "to_builtins",
    "to_json",
    "to_octets",
    "to_text",
]
