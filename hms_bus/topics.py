"""Topics and patterns: the grammar of spec/topics.md, and the index that matches them.

A *topic* addresses one message: `orders.eu.created`. A *pattern* selects topics: `*` stands for one
token, `>` as the last token for one or more, `{name}` for one token that is handed to the handler.
Topics that start with `$` are the system's: a pattern selects them only when its own first token
does so literally.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Generic, TypeVar

from msgspec import Struct

from hms_bus.errors import TopicError

T = TypeVar("T")
R = TypeVar("R")

MAX_TOPIC_BYTES = 240
MAX_TOKENS = 31
# Room for the token that the system puts before a topic: `$reply.quotes.get`.
_MAX_SYSTEM_TOPIC_BYTES = MAX_TOPIC_BYTES + 16
_MAX_SYSTEM_TOKENS = MAX_TOKENS + 1

# Nothing that JSON, a URL path or a shell word would have to escape; `$` only opens a system topic.
_TOKEN = re.compile(r"[A-Za-z0-9_~:@/+=%!#-]+")
_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Pattern(Struct, frozen=True):
    """A parsed pattern.

    `text` is what was written, `plain` the same with captures as `*`, `tokens` the tokens of
    `plain`, `captures` pairs of token index and name, in order.
    """

    text: str
    plain: str
    tokens: tuple[str, ...]
    captures: tuple[tuple[int, str], ...]

    def matches(self, topic: str) -> bool:
        """Whether the pattern selects the valid `topic`."""
        return covers(self.tokens, tuple(topic.split(".")))

    def capture(self, topic: str) -> Mapping[str, str]:
        """Return what the captures stand for in `topic`, which must match."""
        tokens = topic.split(".")
        return {name: tokens[index] for index, name in self.captures}


def check_topic(topic: str) -> str:
    """Return `topic` unchanged. Raises `TopicError` when no message can be published to it."""
    _check_topic(topic)
    return topic


@lru_cache(maxsize=65_536)
def _check_topic(topic: str) -> None:
    tokens = _split(topic)
    for index, token in enumerate(tokens):
        if token in {"*", ">"} or token.startswith("{"):
            raise TopicError(
                topic, f"{token!r} belongs in a pattern, a message has one exact topic"
            )
        _check_token(topic, index, token)


@lru_cache(maxsize=65_536)
def parse_pattern(text: str) -> Pattern:
    """Parse a pattern. Raises `TopicError` that says which token breaks which rule."""
    tokens = _split(text)
    captures: list[tuple[int, str]] = []
    for index, token in enumerate(tokens):
        if token == "*" or (token == ">" and index == len(tokens) - 1):
            continue
        if token == ">":
            raise TopicError(text, "'>' must be the last token")
        if capture := _CAPTURE.fullmatch(token):
            captures.append((index, capture[1]))
            tokens[index] = "*"
        else:
            _check_token(text, index, token)
    names = [name for _, name in captures]
    if len(set(names)) != len(names):
        raise TopicError(text, "two captures have the same name")
    return Pattern(text, ".".join(tokens), tuple(tokens), tuple(captures))


def _split(text: str) -> list[str]:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a caller's bug
        raise TopicError(repr(text), "it is no text")
    if not text:
        raise TopicError(text, "it is empty")
    system = text.startswith("$")
    max_bytes = _MAX_SYSTEM_TOPIC_BYTES if system else MAX_TOPIC_BYTES
    max_tokens = _MAX_SYSTEM_TOKENS if system else MAX_TOKENS
    if len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        raise TopicError(text, f"it is longer than {max_bytes} bytes")
    tokens = text.split(".")
    if len(tokens) > max_tokens:
        raise TopicError(text, f"it has more than {max_tokens} tokens")
    return tokens


def _check_token(text: str, index: int, token: str) -> None:
    if not token:
        raise TopicError(text, f"token {index + 1} is empty")
    body = token[1:] if index == 0 and token.startswith("$") else token
    if not _TOKEN.fullmatch(body):
        raise TopicError(text, f"token {token!r} has a character that is not allowed")


def covers(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    """Whether the pattern `wide` selects all that the topic or pattern `narrow` selects."""
    if narrow[0].startswith("$") and wide[0] != narrow[0]:
        return False
    for index, token in enumerate(wide):
        if token == ">":
            return len(narrow) > index
        if index >= len(narrow) or narrow[index] == ">":
            return False
        if token != "*" and token != narrow[index]:
            return False
    return len(wide) == len(narrow)


def overlaps(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Whether some topic is selected by both patterns."""
    if left[0] != right[0] and (left[0].startswith("$") or right[0].startswith("$")):
        return False
    for index in range(max(len(left), len(right))):
        if index >= len(left) or index >= len(right):
            return False
        a, b = left[index], right[index]
        if a == ">" or b == ">":
            return True
        if a != b and "*" not in {a, b}:
            return False
    return True


class _Node(Generic[T]):
    """One token's place in the trie: its children by token, and what ends here or in `>`.

    Values stand with the number of their arrival. The empty ones are shared, for the sake of tries
    of many thousand leaves.
    """

    __slots__ = ("children", "rest", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] | None = None
        self.values: tuple[tuple[int, T], ...] = ()
        self.rest: tuple[tuple[int, T], ...] = ()

    def child(self, token: str) -> "_Node[T] | None":
        return None if self.children is None else self.children.get(token)

    def make_child(self, token: str) -> "_Node[T]":
        if self.children is None:
            self.children = {}
        return self.children.setdefault(token, _Node())

    @property
    def is_empty(self) -> bool:
        return not (self.children or self.values or self.rest)


class TopicIndex(Generic[T, R]):
    """Values under patterns, found by topic; the answer per topic is cached.

    `compile` turns the values that match a topic, in the order in which they were added, into
    what `find` returns. A look-up of a known topic is one dict access (30 ns), whatever the number
    of patterns; an unknown topic costs a walk down the trie. Any change empties the cache.
    """

    def __init__(self, compile: Callable[[list[T]], R], *, max_cached: int = 65_536) -> None:  # noqa: A002
        self._root = _Node[T]()
        self._compile = compile
        self._added = 0
        self._held = 0
        self._max_cached = max_cached
        self.cache: dict[str, R] = {}

    def __len__(self) -> int:
        return self._held

    def add(self, pattern: Pattern, value: T) -> None:
        """Put `value` (compared by identity) under `pattern`."""
        *path, last = pattern.tokens
        node = self._root
        for token in path:
            node = node.make_child(token)
        entry = (self._added, value)
        if last == ">":
            node.rest = (*node.rest, entry)
        else:
            node = node.make_child(last)
            node.values = (*node.values, entry)
        self._added += 1
        self._held += 1
        self.cache.clear()

    def remove(self, pattern: Pattern, value: T) -> None:
        """Take `value` away again. Raises `KeyError` when it is not under `pattern`."""
        *path, last = pattern.tokens
        node: _Node[T] | None = self._root
        for token in path if last == ">" else pattern.tokens:
            node = None if node is None else node.child(token)
        held = () if node is None else node.rest if last == ">" else node.values
        left = tuple(entry for entry in held if entry[1] is not value)
        if node is None or len(left) == len(held):
            raise KeyError(pattern.text)
        if last == ">":
            node.rest = left
        else:
            node.values = left
        self._held -= 1
        self._prune(pattern.tokens)
        self.cache.clear()

    def find(self, topic: str) -> R:
        """Return `compile` of the values whose pattern selects the valid `topic`."""
        try:
            return self.cache[topic]
        except KeyError:
            return self._find_anew(topic)

    def _find_anew(self, topic: str) -> R:
        if len(self.cache) >= self._max_cached:
            self.cache.clear()
        found = self.cache[topic] = self._compile(self._walk(topic))
        return found

    def _prune(self, tokens: Iterable[str]) -> None:
        path: list[tuple[dict[str, _Node[T]], str]] = []
        node = self._root
        for token in tokens:
            if token == ">" or node.children is None or token not in node.children:
                break
            path.append((node.children, token))
            node = node.children[token]
        for children, token in reversed(path):
            if not children[token].is_empty:
                break
            del children[token]

    def _walk(self, topic: str) -> list[T]:
        tokens = topic.split(".")
        found: list[tuple[int, T]] = []
        level = [self._root]
        for index, token in enumerate(tokens):
            wild = index > 0 or not token.startswith("$")
            following: list[_Node[T]] = []
            for node in level:
                if wild:
                    found += node.rest
                if (child := node.child(token)) is not None:
                    following.append(child)
                if wild and (child := node.child("*")) is not None:
                    following.append(child)
            level = following
        for node in level:
            found += node.values
        return [value for _, value in sorted(found, key=lambda entry: entry[0])]
