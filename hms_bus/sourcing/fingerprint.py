"""What decides how events add up, as a hash: so that a snapshot is told from one of other code.

It is taken from the code that runs, not from source files, which may have changed since they were
loaded. Another Python version, which compiles otherwise, gives another hash: snapshots are a cache.
Functions that are called from there and stand elsewhere are not seen.
"""

import hashlib
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any, cast

_PLAIN = (str, bytes, int, float, bool, type(None))


def fingerprint(classes: Iterable[type], functions: Iterable[Callable[..., Any]]) -> str:
    """Return a text that changes when the fields or methods of a class, or a function, do."""
    digest = hashlib.sha256()
    for cls in classes:
        for parent in cls.__mro__[:-1]:
            _add_class(digest.update, parent)
    for function in functions:
        _add_member(digest.update, function)
    return f"code:{digest.hexdigest()}"


_Add = Callable[[bytes], None]


def _add_class(add: _Add, cls: type) -> None:
    members = vars(cls)
    add(f"{cls.__qualname__} {members.get('__annotations__')}".encode())
    for name in sorted(members):
        add(name.encode())
        _add_member(add, members[name])


def _add_member(add: _Add, member: object) -> None:
    for wrapped in (member, *(getattr(member, name, None) for name in ("fget", "__func__"))):
        if isinstance(wrapped, FunctionType):
            _add_code(add, wrapped.__code__)
            _add_member(add, wrapped.__defaults__)
    if isinstance(member, (*_PLAIN, tuple)):
        add(_plain(cast("object", member)).encode())


def _add_code(add: _Add, code: CodeType) -> None:
    add(code.co_code)
    add(" ".join(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(add, constant)
        else:
            add(_plain(constant).encode())


def _plain(value: object) -> str:
    """Return a text of `value` that is the same in every process."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, frozenset)):
        parts = map(_plain, cast("Iterable[object]", value))
        return f"({','.join(sorted(parts) if isinstance(value, frozenset) else parts)})"
    return type(value).__qualname__
