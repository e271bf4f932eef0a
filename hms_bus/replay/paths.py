r"""What a comparison leaves out: paths into payloads, and attributes by name.

A path is a small part of JSONPath (RFC 9535): `$` is the payload, `.name` or `['name']` a member,
`[2]` an element, `.*` or `[*]` any of either, and `..name` that member at any depth. A name in
double quotes is a JSON string: `["a\u0000b"]`.
"""

import json
import re
from collections.abc import Sequence
from typing import Literal, get_args

from msgspec import Struct

from hms_bus.errors import UsageError

Key = str | int
"""The name of a member, or the index of an element."""

Facet = Literal[
    "topic", "type", "subject", "partitionkey", "datacontenttype", "causationid", "order"
]
"""What is compared besides the payload."""

FACETS: tuple[Facet, ...] = get_args(Facet)

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(
    r"(?P<deep>\.\.)(?:(?P<deep_name>[^.\[\]'\"*]+)|(?P<deep_any>\*)|(?=\[))"
    r"|\.(?:(?P<name>[^.\[\]'\"*]+)|(?P<any>\*))"
    r"|\[(?:(?P<index>\d+)|(?P<each>\*)|'(?P<single>[^']*)'|(?P<double>\"(?:[^\"\\]|\\.)*\"))\]"
)


class Step(Struct, frozen=True):
    """One step down: to `key`, or anywhere for `None`; from any depth if it is `deep`."""

    key: Key | None
    deep: bool = False


Route = tuple[Step, ...]
"""The steps that are left to a place that is ignored; none are left there."""

Routes = frozenset[Route]
"""All ways from one place in a payload to what is ignored below it."""


class Ignored(Struct, frozen=True, kw_only=True):
    """What a comparison leaves out: places in payloads, and `facets` by name."""

    routes: Routes = frozenset()
    facets: frozenset[str] = frozenset()


def parse_ignored(texts: Sequence[str]) -> Ignored:
    """Parse paths (`$.items[*].ts`, `$..ts`) and names of `FACETS`. Raises `UsageError`."""
    return Ignored(
        routes=frozenset(parse_path(text) for text in texts if text.startswith("$")),
        facets=frozenset(_check_facet(text) for text in texts if not text.startswith("$")),
    )


def parse_path(text: str) -> Route:
    """Parse one path. Raises `UsageError` that says where it cannot be read."""
    steps: list[Step] = []
    at, is_deep = 1, False
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or not text.startswith("$"):
            raise UsageError(
                f"{text!r} is no path from {text[at:]!r} on: write $.total, $.items[*].ts, $..ts "
                "or $['odd name']"
            )
        at = match.end()
        key = _key(text, match)
        if match["deep"] and not match["deep_name"] and not match["deep_any"]:
            is_deep = True  # the step in brackets that follows is the deep one
            continue
        steps.append(Step(key, deep=is_deep or bool(match["deep"])))
        is_deep = False
    return tuple(steps)


def _key(text: str, match: re.Match[str]) -> Key | None:
    if match["index"] is not None:
        return int(match["index"])
    if match["double"] is not None:
        try:
            return json.loads(match["double"], strict=False)
        except ValueError as error:
            raise UsageError(f"{text!r}: {match['double']} is no JSON string: {error}") from error
    for group in ("deep_name", "name", "single"):
        if match[group] is not None:
            return match[group]
    return None


def _check_facet(text: str) -> str:
    if text not in FACETS:
        raise UsageError(
            f"{text!r} is nothing that could be ignored: a path starts with $, the other things "
            f"that are compared are {', '.join(FACETS)}"
        )
    return text


def go_down(routes: Routes, key: Key) -> Routes:
    """Return the routes as they are one step further, at `key`."""
    if not routes:
        return routes
    further: set[Route] = set()
    for route in routes:
        if not route:
            continue
        step = route[0]
        if step.deep:
            further.add(route)
        if step.key is None or (step.key == key and type(step.key) is type(key)):
            further.add(route[1:])
    return frozenset(further)


def is_end(routes: Routes) -> bool:
    """Whether this very place is ignored, with all that is below it."""
    return () in routes


def extend(path: str, key: Key) -> str:
    """Return the path of what stands below `path` at `key`, safe for a terminal."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if _PLAIN.fullmatch(key):
        return f"{path}.{key}"
    name = f"'{key}'" if key.isprintable() and "'" not in key else json.dumps(key)
    return f"{path}[{name}]"
