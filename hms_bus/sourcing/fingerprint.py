"""What decides how events add up, as a hash: so that a snapshot is told from one of other code.

It is taken from the code that runs, not from source files, which may have changed since they were
loaded. Another Python version, which compiles otherwise, gives another hash: snapshots are a cache.
Followed is what a decorator wraps, functions and plain values in closures, and what stands in
defaults and in containers of the class. Not seen are functions and globals that are used from there
and stand elsewhere, containers in closures, which often gather results, and what objects hold.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from types import CellType, CodeType, FunctionType
from typing import Any, cast

_PLAIN = (str, bytes, int, float, bool, type(None))
_LEADING_BACK: tuple[type, ...] = (FunctionType, list, dict)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_IN_CLOSURES = (*_PLAIN, FunctionType, partial, type)
_OF_OTHERS = {"__firstlineno__", "__static_attributes__", "__msgspec_cache__"}
"""What the compiler and msgspec put into a class, the latter when it is first used."""


def fingerprint(classes: Iterable[type], functions: Iterable[Callable[..., Any]]) -> str:
    """Return a text that changes when the fields or methods of a class, or a function, do."""
    code = _Code()
    for cls in classes:
        for parent in cls.__mro__[:-1]:
            code.add_class(parent)
    for function in functions:
        code.add(function)
    return f"code:{code.digest.hexdigest()}"


class _Code:
    """The hash of what was added. What can lead back to itself is followed once."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._followed: dict[int, tuple[int, object]] = {}

    def add_class(self, cls: type) -> None:
        members = vars(cls)
        self._note(_ADDRESS.sub("", f"{cls.__qualname__} {members.get('__annotations__')}"))
        for name in sorted(members.keys() - _OF_OTHERS):
            self._note(name)
            self.add(members[name])

    def add(self, value: object) -> None:
        if isinstance(value, _LEADING_BACK) and self._is_known(value):
            return
        if isinstance(value, CodeType):
            self._add_code(value)
        elif isinstance(value, dict):
            self._add_named(cast("dict[object, object]", value))
        else:
            self._note(_plain(value))
            for part in _parts(value):
                self.add(part)

    def _is_known(self, value: object) -> bool:
        """Whether it was added before; then only which one it is counts."""
        if id(value) in self._followed:
            self._note(f"again {self._followed[id(value)][0]}")
            return True
        self._followed[id(value)] = len(self._followed), value
        return False

    def _add_code(self, code: CodeType) -> None:
        self._note(code.co_code.hex())
        self._note(" ".join(code.co_names))
        for constant in code.co_consts:
            self.add(constant)

    def _add_named(self, values: Mapping[object, object]) -> None:
        for key in sorted(values, key=_plain):
            self._note(_plain(key))
            self.add(values[key])

    def _note(self, text: str) -> None:
        self.digest.update(text.encode("utf-8", "surrogatepass") + b"\0")


def _parts(value: object) -> Iterable[object]:
    """Return what `value` is made of or calls."""
    match value:
        case FunctionType():
            cells = map(_content, value.__closure__ or ())
            return (
                value.__code__,
                value.__defaults__,
                value.__kwdefaults__,
                *cells,
                vars(value).get("__wrapped__"),
            )
        case property():
            return (value.fget,)
        case staticmethod() | classmethod():
            return (cast("object", value.__func__),)  # pyright: ignore[reportUnknownMemberType]
        case cached_property():
            return (cast("object", value.func),)
        case partial():
            return (cast("object", value.func), value.args, value.keywords)
        case tuple() | list():
            return cast("Iterable[object]", value)
        case _:
            # Such as what `functools.lru_cache` returns.
            return (_wrapped(value),) if callable(value) else ()


def _content(cell: CellType) -> object:
    """Return what a closure holds; of what may change, or lead anywhere, only the type."""
    try:
        content: object = cell.cell_contents
    except ValueError:  # not filled yet
        return None
    if isinstance(content, _IN_CLOSURES) or _wrapped(content) is not None:
        return cast("object", content)
    return cast("object", type(content))


def _wrapped(value: object) -> object:
    """Return what is wrapped, without asking an object that has an answer to everything."""
    return inspect.getattr_static(value, "__wrapped__", None)


def _plain(value: object) -> str:
    """Return a text of `value` that is the same in every process."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, set, frozenset)):
        parts = map(_plain, cast("Iterable[object]", value))
        return f"({','.join(parts if isinstance(value, tuple) else sorted(parts))})"
    return (value if isinstance(value, type) else type(value)).__qualname__
