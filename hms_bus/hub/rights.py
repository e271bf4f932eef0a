"""Who may do what at a hub: the rights that a client has by its token.

Without tokens every client may do everything (`EVERYTHING`). With them a client may do what its
token's patterns cover, and what requests need of everybody (spec/requests.md):

- publish to any `$inbox.…` and to `$control`,
- subscribe to one exact `$inbox.…` at a time, and to `$control`. Inboxes are protected by their
  names, which nobody can guess; therefore a pattern for many of them needs a grant.

Whatever else begins with `$` needs a pattern that names its first token: `>` is not enough
(spec/topics.md, "Matching").
"""

import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache

from hms_bus.bounces import REPLY_PREFIX
from hms_bus.errors import Action, DeniedError, UnauthenticatedError
from hms_bus.hub.settings import Grant, sha256_of
from hms_bus.topics import Pattern, TopicIndex, covers, parse_pattern

_INBOX = "$inbox"
_INBOXES = "$inbox."
_CONTROL = "$control"

_MAX_CACHED = 8192
"""Topics for which the answer is kept, for each token: 3 MB when they are as long as can be."""

_ALL_LOGGED = ((">",), ("$reply", ">"))
"""The tokens of the patterns that a log keeps by default (`BusConfig.logged`)."""

_Tokens = tuple[str, ...]


class Rights:
    """What one client may do. Shared by all clients with the same token; cheap to ask.

    `name` is that of the token, `None` where the hub asks for none.
    """

    __slots__ = ("_durables", "_is_unlimited", "_subscribe", "_topics", "is_admin", "name")

    def __init__(self, grant: Grant | None = None) -> None:
        self.name = None if grant is None else grant.name
        self.is_admin = grant is None or grant.is_admin
        self._is_unlimited = grant is None
        self._subscribe = () if grant is None else tuple(map(parse_pattern, grant.subscribe))
        self._durables = () if grant is None else grant.durable
        # Hot path: a known topic costs one dict access.
        self._topics = TopicIndex[Pattern, bool](bool, max_cached=_MAX_CACHED)
        for pattern in () if grant is None else map(parse_pattern, grant.publish):
            self._topics.add(pattern, pattern)

    def __repr__(self) -> str:
        return f"Rights({'everything' if self._is_unlimited else self.name!r})"

    def may_publish(self, topic: str) -> bool:
        """Whether messages may be sent to the valid `topic`."""
        if self._is_unlimited or topic.startswith(_INBOXES) or topic == _CONTROL:
            return True
        return self._topics.find(topic)

    def may_subscribe(self, pattern: Pattern) -> bool:
        """Whether all that `pattern` selects may be read, as it is sent.

        One granted pattern must cover it; several that do so together do not count.
        """
        tokens = pattern.tokens
        return self._is_unlimited or _is_for_all(tokens) or _is_granted(self._subscribe, tokens)

    def may_read(self, pattern: Pattern | None) -> bool:
        """Whether the records on topics of `pattern` may be read from the log.

        A read without a pattern yields system topics, too, and no pattern covers all of those. It
        takes the right to `>` and to `$reply.>`, which together are what a log keeps by default;
        what else clients put into it below `$` they had a grant for.
        """
        if self._is_unlimited:
            return True
        wanted = _ALL_LOGGED if pattern is None else (pattern.tokens,)
        return all(_is_granted(self._subscribe, tokens) for tokens in wanted)

    def may_use(self, durable: str) -> bool:
        """Whether a durable of this name may be consumed, forgotten and redriven.

        What it delivers takes the right to read besides. This one is apart from that: who consumes
        takes deliveries from others, sets its limits, and says what became of its records.
        """
        return self._is_unlimited or any(
            durable == granted
            or (granted.endswith("*") and durable.startswith(granted.removesuffix("*")))
            for granted in self._durables
        )

    def may_append(self, address: str, topic: str) -> bool:
        """Whether an envelope with `topic` may be appended to the log and sent to `address`.

        The right to publish to the address is not enough: everybody may publish to an inbox, and
        the log would show a record on a topic that its writer may not publish to. So `topic` must
        be covered by a grant as well. An answer, `$reply.T`, may be appended by whoever may
        subscribe to `T` (or `$T`), and so serve it.
        """
        if self._is_unlimited:
            return True
        if not self.may_publish(address):
            return False
        return self._topics.find(topic) or (
            topic.startswith(REPLY_PREFIX) and self._may_serve(topic.removeprefix(REPLY_PREFIX))
        )

    def denied(self, action: Action, topic: str | None = None) -> DeniedError:
        """Return the error that tells a client what it may not do."""
        return DeniedError(action=action, topic=topic, name=self.name)

    def _may_serve(self, topic: str) -> bool:
        return any(
            _is_granted(self._subscribe, tuple(served.split(".")))
            for served in (topic, f"${topic}")
        )


EVERYTHING = Rights()
"""The rights of every client of a hub without tokens."""


def authenticate(
    grants: Sequence[Grant], given: str | None, *, secret: str | None = None
) -> Rights:
    """Return the rights of the client that shows the token `given`.

    Without `grants` they are `EVERYTHING`; if there is a `secret` (what a hub on TCP has written
    into a file of its user's), only for who shows that. With `grants` it opens nothing.

    Raises `UnauthenticatedError`, which does not hold what was given. How long it takes does not
    tell how much of a token was right, nor which one.
    """
    known: list[tuple[bytes, Grant | None]] = [(grant.sha256, grant) for grant in grants]
    if not known:
        if secret is None:
            return EVERYTHING
        known = [(sha256_of(secret), None)]
    if given is None:
        raise UnauthenticatedError(
            "this hub asks for a token, and the client gave none: set HMS_BUS_TOKEN to one that "
            "stands in its hub.toml"
        )
    shown = sha256_of(given)
    # All are compared, also behind the one that is found.
    found = [grant for wanted, grant in known if hmac.compare_digest(shown, wanted)]
    if not found:
        raise UnauthenticatedError(
            "this hub does not know the client's token: set HMS_BUS_TOKEN to one that stands in "
            "its hub.toml"
        )
    return _rights_of(found[0])


@lru_cache(maxsize=1024)
def _rights_of(grant: Grant | None) -> Rights:
    """Return the same rights for the same grant, so that what they have cached is there once."""
    return EVERYTHING if grant is None else Rights(grant)


def _is_granted(granted: Iterable[Pattern], tokens: _Tokens) -> bool:
    return any(covers(pattern.tokens, tokens) for pattern in granted)


def _is_for_all(tokens: _Tokens) -> bool:
    """Whether these are the tokens of one inbox, or of `$control`."""
    if tokens[0] != _INBOX:
        return tokens == (_CONTROL,)
    return len(tokens) > 1 and "*" not in tokens and tokens[-1] != ">"
