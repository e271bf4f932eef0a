"""What a source is called when one instance of an agent is as good as the next."""

import re
from functools import lru_cache

_INSTANCE = re.compile(
    r"(?<=.)(?:[/#:-](?:[0-9]+|[0-9a-f]{8}|[0-9a-f]{32}"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}))+\Z"
)
# The longest end that may be an instance, so that a long source costs no more than a short one.
_TAIL = 120


@lru_cache(maxsize=4096)
def without_instance(source: str) -> str:
    """Return `source` up to its instance part: `/agents/reader` of `/agents/reader-3`.

    An instance part stands at the end, behind `/`, `-`, `:` or `#`, and is a number, a UUID, or 8
    or 32 hexadecimal digits, as the bus itself puts there when no source is configured
    (`/agents/program/1f6a09c3`).
    """
    match = _INSTANCE.search(source, max(0, len(source) - _TAIL))
    return source if match is None else source[: match.start()]
