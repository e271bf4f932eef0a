"""python run_script.py SCRIPT SHOWN_AS: run a script that may await at its top level.

SHOWN_AS stands in tracebacks in place of SCRIPT.
"""

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from types import ModuleType


def main(script: str, shown_as: str) -> None:
    """Run `script` as `__main__`, the way `python -m asyncio` would take it in."""
    source = Path(script).read_text(encoding="utf-8")
    code = compile(source, shown_as, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.path[0] = str(Path.cwd())
    sys.argv[:] = [shown_as]
    result = eval(code, vars(module))  # noqa: S307 - running it is the point
    if inspect.iscoroutine(result):
        asyncio.run(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
