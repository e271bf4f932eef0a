"""What is sent: payloads, attributes and templates from the words of a command line."""

import json
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw

from hms_bus.attributes import ATTRIBUTES
from hms_bus.durations import parse_duration
from hms_bus.envelope import INTEGER_ATTRIBUTES
from hms_bus.errors import EncodeError, UsageError
from hms_bus.ids import parse_time, stamp

Kind = Literal["auto", "json", "text", "bytes"]
KINDS: tuple[Kind, ...] = ("auto", "json", "text", "bytes")

_HEADER = re.compile(r"([^:=\s]+)\s*(:=|=|:)\s*(.*)", re.DOTALL)
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def read_body(text: str | None) -> bytes | None:
    """Return the bytes that `BODY` stands for: itself, `@FILE`, `-` for stdin; `@@` is an `@`.

    Blocks. Raises `UsageError` when the file cannot be read.
    """
    if text is None:
        return None
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@@") or not text.startswith("@"):
        return text.removeprefix("@").encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {text[1:]!r}: {error.strerror} (a text that starts with @ is written @@)"
        ) from error


def to_payload(body: bytes | None, kind: Kind = "auto") -> Any:
    """Return the payload of `body`, nothing for `None`.

    `auto` takes JSON for JSON, other UTF-8 for text (without the newline at its end), the rest for
    octets. Raises `EncodeError` when it is not what `kind` says.
    """
    if body is None:
        return UNSET
    if kind == "bytes":
        return body
    if kind in ("auto", "json"):
        try:
            return _json(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if kind == "json":
                raise EncodeError(f"the body is no JSON: {error}", field="data") from error
    try:
        return body.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        if kind == "text":
            raise EncodeError(f"the body is no UTF-8 text: {error}", field="data") from error
        return body


def _json(body: bytes) -> Raw:
    body.decode()
    return msgspec.json.decode(body.strip(b" \t\r\n"), type=Raw)


def parse_headers(headers: tuple[str, ...]) -> dict[str, Any]:
    """Return publish options from `name=value`, also `name: value`; unknown names are extensions.

    `name:=value` is an integer, `true` or `false` instead of text. Raises `UsageError`.
    """
    options: dict[str, Any] = {}
    extensions: dict[str, Any] = {}
    for header in headers:
        match = _HEADER.fullmatch(header)
        if match is None:
            raise UsageError(f"{header!r} is no header: write name=value, or name:=5 for a number")
        name, sign, text = match[1].lower(), match[2], match[3]
        if name == "ttl":
            options[name] = parse_duration(text)
        elif name in INTEGER_ATTRIBUTES:
            options[name] = _literal(header, text)
        elif name in ATTRIBUTES:
            options[name] = text
        else:
            extensions[name] = _literal(header, text) if sign == ":=" else text
    return options | ({"extensions": extensions} if extensions else {})


def _literal(header: str, text: str) -> int | bool:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, int):
        raise UsageError(f"{header!r}: {text!r} is neither an integer nor true or false")
    return value


def fill(template: bytes, count: int) -> bytes:
    """Put in what `{{count}}`, `{{time}}`, `{{unix}}`, `{{id}}` and `{{random}}` stand for.

    Raises `UsageError` for any other name.
    """
    new_id, time = stamp()
    values: Mapping[str, str] = {
        "count": str(count),
        "time": time,
        "unix": str(parse_time(time) // 1_000_000_000),
        "id": new_id,
        "random": str(random.randrange(1_000_000)),  # noqa: S311 - test data, no secret
    }

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UsageError(f"a template knows no {match[0]}; known: {', '.join(values)}")
        return values[match[1]]

    filled = _PLACE.sub(value, template.decode("utf-8", "surrogateescape"))
    return filled.encode("utf-8", "surrogateescape")
