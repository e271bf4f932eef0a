"""What a hub has refused, and which refusals are new and not only more of the same.

However many a client brings about, there is a bound to what is written: one that is like another of
the last minute is only counted, and so is what a client is refused on more than `MAX_TOPICS`
different topics.
"""

from collections import Counter
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

MAX_TOPICS = 64
"""Different topics of one client, and kind of refusal, that are told apart at a time."""

MAX_KINDS = 8192
"""Refusals of all clients that are told apart at a time."""

_MAX_TEXT = 300
_FURTHER = "on further topics"


What = Literal["unauthenticated", "denied", "peer", "protocol"]
"""The token is wrong, a right is missing, it is another user's, it breaks the protocol."""


class Refusal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was refused to whom.

    `client` is its number at the hub, `name` what it calls itself, `pid` and `uid` its process and
    user, `token` the name of its token. `topic` is a topic or pattern.
    """

    what: What
    reason: str
    client: int | None = None
    name: str | None = None
    pid: int | None = None
    uid: int | None = None
    token: str | None = None
    topic: str | None = None

    def cleaned(self) -> "Refusal":
        """Return the same with texts cut to a length and fit for UTF-8: clients choose them."""
        return replace(
            self,
            reason=clean(self.reason),
            name=None if self.name is None else clean(self.name),
            topic=None if self.topic is None else clean(self.topic),
        )


def clean(text: str) -> str:
    """Return at most 300 characters of `text`, without halves of surrogate pairs."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode()


_Client = tuple[What, int | None, int | None, int | None]
_Kind = tuple[_Client, str | None, bool]


class _Seen:
    """A refusal, until when others like it are only counted, and how many there were."""

    __slots__ = ("refusal", "repeated", "until")

    def __init__(self, refusal: Refusal, until: float) -> None:
        self.refusal = refusal
        self.until = until
        self.repeated = 0


class Repeats:
    """Tells what is new from what is only counted. Times are seconds of one monotonic clock.

    Refusals are alike when client, `what` and topic are the same. Each connection has a number of
    its own, so it tells clients apart only where a token was needed to come that far (`denied`);
    else they are told apart by process and user. Who tries one token after another is one client.
    """

    def __init__(self, repeat_s: float) -> None:
        self._repeat_s = repeat_s
        # In the order of `until`, since what is renewed goes to the end.
        self._seen: dict[_Kind, _Seen] = {}
        self._topics: Counter[_Client] = Counter()
        self._displaced: list[_Seen] = []

    def admit(self, refusal: Refusal, now: float) -> bool:
        """Whether `refusal` is new; else it is counted."""
        number = refusal.client if refusal.what == "denied" else None
        client = (refusal.what, number, refusal.uid, refusal.pid)
        kind: _Kind = (client, refusal.topic, False)
        if kind not in self._seen and self._topics[client] >= MAX_TOPICS:
            kind = (client, None, True)
            refusal = replace(refusal, topic=None, reason=_FURTHER)
        if (seen := self._seen.get(kind)) is not None:
            seen.repeated += 1
            return False
        if len(self._seen) >= MAX_KINDS:
            self._displaced.append(self._remove(next(iter(self._seen))))
        self._add(kind, _Seen(refusal, now + self._repeat_s))
        return True

    def expire(self, now: float) -> list[tuple[Refusal, int]]:
        """Return what has been counted for long enough, and how often; it is counted on from 0."""
        told = self._displaced
        self._displaced = []
        while self._seen:
            kind, seen = next(iter(self._seen.items()))
            if seen.until > now:
                break
            told.append(self._remove(kind))
            if seen.repeated:
                self._add(kind, _Seen(seen.refusal, now + self._repeat_s))
        return [(seen.refusal, seen.repeated) for seen in told if seen.repeated]

    def drain(self) -> list[tuple[Refusal, int]]:
        """Return all that has been counted and not told, and forget everything."""
        told = [*self._displaced, *self._seen.values()]
        self._displaced = []
        self._seen.clear()
        self._topics.clear()
        return [(seen.refusal, seen.repeated) for seen in told if seen.repeated]

    def due_in(self, now: float) -> float | None:
        """Return in how many seconds `expire` has something to do; `None`: not until `admit`."""
        return next((seen.until - now for seen in self._seen.values()), None)

    def _add(self, kind: _Kind, seen: _Seen) -> None:
        self._seen[kind] = seen
        self._topics[kind[0]] += 1

    def _remove(self, kind: _Kind) -> _Seen:
        client = kind[0]
        self._topics[client] -= 1
        if not self._topics[client]:
            del self._topics[client]
        return self._seen.pop(kind)
