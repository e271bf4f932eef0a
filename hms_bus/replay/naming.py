"""Names that are the same in each run: of agents, and of what they say while a record is played."""

import re
from functools import lru_cache
from hashlib import blake2b

_RANDOM_END = re.compile(r"/[0-9a-f]{8}")


@lru_cache(maxsize=4096)
def agent_of(source: str) -> str:
    """Return the agent that `source` names.

    A bus without a `source` makes one that ends in eight random digits; they are cut off, since
    they differ from run to run.
    """
    head, tail = source[:-9], source[-9:]
    return head if head and _RANDOM_END.fullmatch(tail) else source


def is_named(agent: str, names: frozenset[str]) -> bool:
    """Whether `names` holds the agent, by its whole source or by the last part of it."""
    return agent in names or agent.rpartition("/")[2] in names


def derived_id(agent: str, cause: str, ordinal: int) -> str:
    """Return the id of the `ordinal`-th output, from 0, of an agent to the message `cause`.

    A UUID of version 8 (RFC 9562 section 5.8): equal for equal arguments, else different.
    """
    text = f"{agent}\0{cause}\0{ordinal}".encode(errors="surrogatepass")
    digits = blake2b(text, digest_size=16).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
