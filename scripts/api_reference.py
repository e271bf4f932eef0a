"""Writes the page reference/api.md from the docstrings; a hook of mkdocs, called by `make docs`.

It reads the source and imports nothing, so a signature stands on the page as it was written. What
is listed in `SECTIONS` and cannot be found, or has no docstring, stops the build.
"""

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGE = "reference/api.md"
WIDTH = 88

SECTIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "The bus": {
        "hms_bus.bus.bus": ["Bus"],
        "hms_bus.bus.composing": ["PublishOptions", "SendOptions"],
        "hms_bus.bus.message": ["Message"],
        "hms_bus.bus.streams": ["MessageStream"],
        "hms_bus.bus.requests": ["Reply", "ReplyStream"],
        "hms_bus.abc": ["Overflow"],
        "hms_bus.bus.declarations": ["DurableSettings"],
        "hms_bus.bus.redelivery": ["Backoff"],
        "hms_bus.bus.middleware": ["retry", "timeout"],
        "hms_bus.bus.stats": ["BusStats", "SubscriptionStats"],
    },
    "Envelopes": {
        "hms_bus.envelope": ["Envelope", "ExtensionValue"],
        "hms_bus.attributes": ["new_envelope"],
    },
    "Settings": {
        "hms_bus.config": ["BusConfig", "load_config"],
        "hms_bus.durations": ["Duration", "Moment"],
    },
    "Logs": {
        "hms_bus.abc": [
            "EventLog", "Receipt", "Record", "Selector", "Expect", "Head", "Verification",
        ],
    },
    "Event sourcing": {
        "hms_bus.sourcing.streams": ["Streams", "Stream", "decide_again"],
        "hms_bus.sourcing.aggregates": ["aggregate", "applies", "emit", "recording"],
        "hms_bus.sourcing.repository": ["Repository", "Loaded"],
        "hms_bus.sourcing.events": ["event", "upcast", "event_type"],
        "hms_bus.sourcing.snapshots": ["Snapshots", "Snapshot", "MemorySnapshots"],
        "hms_bus.sourcing.projections": ["Projection"],
        "hms_bus.sourcing.following": ["Following"],
        "hms_bus.sourcing.views": ["Views", "Elsewhere", "Cursor", "Cursors", "MemoryCursors"],
        "hms_bus.sourcing.personal": ["personal", "Shredded"],
        "hms_bus.sourcing.vault": ["Vault"],
        "hms_bus.sourcing.keys": ["Keys", "Key", "MemoryKeys"],
        "hms_bus.sourcing.sqlite.views": ["open_views", "SqliteViews"],
        "hms_bus.sourcing.sqlite.snapshots": ["open_snapshots", "SqliteSnapshots"],
        "hms_bus.sourcing.sqlite.keys": ["open_keys", "SqliteKeys"],
        "hms_bus.sourcing.sqlite.outbox": ["outbox_insert"],
        "hms_bus.sourcing.sqlite.relaying": ["open_relay", "Relay"],
    },
    "Replaying and explaining": {
        "hms_bus.replay.effects": ["Effect", "effect"],
        "hms_bus.replay.comparing": ["compare", "Comparison", "Divergence"],
    },
    "Seams": {
        "hms_bus.abc": [
            "Codec", "Transport", "Sink", "Unsubscribe", "DeliveringLog", "ConsumingLog",
            "Consumer", "Durable", "Delivery", "Settlement", "DurableInfo",
        ],
        "hms_bus.plugins": [
            "Address", "TransportOpener", "KeepsLogs", "LogOpener", "Identifying", "Locating",
            "open_transport", "open_log", "get_codec",
        ],
    },
    "Testing": {
        "hms_bus.testing.double": ["bus"],
        "hms_bus.testing.faults": ["Faults"],
        "hms_bus.testing.equality": ["canonical"],
    },
}  # fmt: skip

INTRODUCTION = """\
# API

The names that programs use, from the docstrings of the code. What stands here is the contract; the
[guide](../guide/bus.md) has the examples. Errors have [a page of their own](../guide/errors.md).

Below each name stands how it is imported.
"""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign
Function = ast.FunctionDef | ast.AsyncFunctionDef


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those that mkdocs has found."""
    files.append(File.generated(config, PAGE, content=reference()))
    return files


def reference() -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION]
    for title, modules in SECTIONS.items():
        parts.append(f"## {title}\n")
        for module, names in modules.items():
            known = dict(definitions(parse(module).body))
            if missing := [name for name in names if name not in known]:
                raise SystemExit(f"{module} does not define {missing}; see SECTIONS in {__file__}")
            parts.extend(entry(module, name, *known[name]) for name in names)
    return "\n".join(parts)


def parse(module: str) -> ast.Module:
    """The syntax tree of one of our modules."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def definitions(body: Sequence[ast.stmt]) -> Iterator[tuple[str, tuple[Definition, str]]]:
    """Names, what they are bound to, and the docstring, which follows an assignment."""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        match statement:
            case (
                ast.ClassDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.FunctionDef(name=name)
            ):
                if not is_overload(statement):
                    yield name, (statement, ast.get_docstring(statement) or "")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, (statement, attribute_docstring(following))
            case _:
                pass


def is_overload(definition: Definition) -> bool:
    """Whether it is one of the signatures that `typing.overload` collects."""
    return isinstance(definition, Function) and "overload" in decorators(definition)


def decorators(function: Function) -> list[str]:
    """The decorators as they are written."""
    return [ast.unparse(decorator) for decorator in function.decorator_list]


def attribute_docstring(following: ast.stmt | None) -> str:
    """The text that stands by itself below an assignment."""
    match following:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return textwrap.dedent(text).strip()
        case _:
            return ""


def entry(module: str, name: str, definition: Definition, docstring: str) -> str:
    """One name with its signature, its docstring and, for a class, its public methods."""
    if not docstring:
        raise SystemExit(f"{module}.{name} is public and has no docstring")
    parts = [
        f"### {name} {{ #{module}.{name} }}\n",
        f"`from {home(module, name)} import {name}`\n",
        fenced(signature(definition)),
        docstring + "\n",
    ]
    if isinstance(definition, ast.ClassDef):
        for method, (inner, text) in definitions(definition.body):
            is_public = method == "__init__" or not method.startswith("_")
            if isinstance(inner, Function) and text and is_public:
                title = f"{name}(…)" if method == "__init__" else f"{name}.{method}"
                parts.append(f"#### {title} {{ #{module}.{name}.{method.strip('_')} }}\n")
                parts += [fenced(signature(inner)), text + "\n"]
    return "\n".join(parts)


def home(module: str, name: str) -> str:
    """The outermost package that exports what `module` defines, else `module` itself."""
    parts = module.split(".")
    packages = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((package for package in packages if name in exports(package)), module)


def exports(package: str) -> Sequence[str]:
    """The `__all__` of one of our packages."""
    for statement in parse(f"{package}.__init__").body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return ast.literal_eval(value)
            case _:
                pass
    return ()


def fenced(code: str) -> str:
    """A block of Python."""
    return f"```python\n{code}\n```\n"


def signature(definition: Definition) -> str:
    """How it is used: a call, a property, a class with its fields, or an alias."""
    match definition:
        case ast.ClassDef():
            return class_signature(definition)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return call_signature(definition)
        case _:
            return ast.unparse(definition)


def class_signature(definition: ast.ClassDef) -> str:
    """The class with its fields, if it has any; those of others are set by `__init__`."""
    fields = [ast.unparse(f) for f in definition.body if isinstance(f, ast.AnnAssign)]
    bases = ", ".join(ast.unparse(base) for base in definition.bases)
    head = f"class {definition.name}" + (f"({bases})" if bases else "")
    return "\n    ".join([f"{head}:", *fields]) if fields else head


def call_signature(function: Function) -> str:
    """`async def name(parameters) -> result`, without `self`; a property as `name: type`."""
    returns = "" if function.returns is None else ast.unparse(function.returns)
    if "property" in decorators(function):
        return f"{function.name}: {returns}"
    word = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    written = parameters(function.args)
    result = f" -> {returns}" if returns else ""
    line = f"{word} {function.name}({', '.join(written)}){result}"
    if len(line) <= WIDTH:
        return line
    lines = "".join(f"    {parameter},\n" for parameter in written)
    return f"{word} {function.name}(\n{lines}){result}"


def parameters(arguments: ast.arguments) -> list[str]:
    """Each parameter as it is written, with the marks `/` and `*`."""
    positional = [*arguments.posonlyargs, *arguments.args]
    absent: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*absent, *arguments.defaults]
    written = [parameter(a, d) for a, d in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        written.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        written.append(f"*{parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        written.append("*")
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    written += [parameter(argument, default) for argument, default in keywords]
    if arguments.kwarg:
        written.append(f"**{parameter(arguments.kwarg, None)}")
    return [text for text in written if text not in {"self", "cls"}]


def parameter(argument: ast.arg, default: ast.expr | None) -> str:
    """`name: type = default`."""
    text = ast.unparse(argument)
    if default is None:
        return text
    return f"{text}{' = ' if argument.annotation else '='}{ast.unparse(default)}"
