"""From `module:function` on the command line to the function."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hms_bus.errors import UsageError


def load_function(name: str) -> Any:
    """Import and return the callable `module:name` or `file.py:name`; `name` may have dots.

    Modules are also looked for in the working directory. Raises `UsageError`.
    """
    module_name, colon, path = name.rpartition(":")
    if not colon or not module_name or not path:
        raise UsageError(f"{name!r} names no function: write module:function or checks.py:function")
    found: Any = _import(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{module_name} has no {path!r}: is the name right?")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{name} is no function, but {type(found).__name__}")
    return found


def _import(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _import_file(Path(name))
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(name)
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
