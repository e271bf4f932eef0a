"""The demo: a team of agents reads the source of Python's standard library and reports on it.

    survey.start -> scout -> source.found -> readers -> source.read -> editor -> report.ready
                                              |   ^
                               critic.review  v   |  findings
                                              critic

Each agent is a function that is given a bus and tells it what to handle. None of them knows where
the others run, or over which transport their messages travel: `run` decides that with one URL.
(`hms-bus demo --processes 4` lets the same functions run in four processes.)
What they have said can be replayed: `hms-bus replay demo.db --into hms_bus.demo:build --diff`.
"""

import ast
import asyncio
import sysconfig
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from heapq import nlargest
from pathlib import Path

from msgspec import Struct, structs

from hms_bus import Bus, BusStats

LONG, TWISTED = 200, 25  # lines and branches from which on the critic says something
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.BoolOp, ast.IfExp)


class SourceFile(Struct, frozen=True):
    """One file to read."""

    module: str
    path: str


class Function(Struct, frozen=True):
    """A function, its length in lines and its cyclomatic complexity."""

    name: str
    lines: int
    complexity: int


class FileFacts(Struct, frozen=True):
    """What a reader saw in one file; `error` says why it could not be read, as some cannot."""

    module: str
    bytes: int = 0
    functions: list[Function] = []
    imports: list[str] = []
    has_docstring: bool = True
    findings: list[str] = []
    error: str | None = None


class Report(Struct, frozen=True):
    """The editor's summary of all files."""

    files: int
    bytes: int
    functions: int
    findings: int
    unreadable: int
    largest: list[Function]
    most_complex: list[Function]
    without_docstring: list[str]
    import_hubs: dict[str, int]


def scout(bus: Bus) -> None:
    """Walk the tree and publish each file, a hundred at a time."""

    @bus.subscribe("survey.start")
    async def survey(root: str) -> None:
        files = await asyncio.to_thread(find_files, Path(root))
        for start in range(0, len(files), 100):
            await bus.publish_many(("source.found", file) for file in files[start : start + 100])
        await bus.publish("source.surveyed", len(files))


def reader(bus: Bus) -> None:
    """Parse one file at a time, ask the critic about it, and publish what was seen."""

    @bus.subscribe("source.found", group="readers")
    async def read(file: SourceFile) -> None:
        facts = await asyncio.to_thread(read_facts, file)
        findings = await bus.request("critic.review", facts, returns=list[str], timeout=30)
        await bus.publish("source.read", structs.replace(facts, findings=findings))


def critic(bus: Bus) -> None:
    """Answer requests with findings about a file."""

    @bus.serve("critic.review")
    async def review(facts: FileFacts) -> list[str]:
        long = [f"{f.name} has {f.lines} lines" for f in facts.functions if f.lines > LONG]
        twisted = [f"{f.name} branches a lot" for f in facts.functions if f.complexity > TWISTED]
        silent = [] if facts.has_docstring else [f"{facts.module} has no docstring"]
        return long + twisted + silent


def editor(bus: Bus) -> None:
    """Fold the events into one report, and publish it when every file is accounted for."""
    seen: list[FileFacts] = []
    totals: list[int] = []

    async def publish_when_complete() -> None:
        if totals == [len(seen)]:
            await bus.publish("report.ready", fold(seen))

    @bus.subscribe("source.read")
    async def note_file(facts: FileFacts) -> None:
        seen.append(facts)
        await publish_when_complete()

    @bus.subscribe("source.surveyed")
    async def note_total(files: int) -> None:
        totals.append(files)
        await publish_when_complete()


READERS = {f"reader-{number}": reader for number in range(1, 5)}
TEAM = {"critic": critic, "editor": editor, **READERS, "scout": scout}  # servers before clients


async def run(
    url: str = "direct://demo",
    *,
    log: str | None = None,
    root: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Report, dict[str, BusStats]]:
    """Let the team read all Python files below `root` (by default the standard library).

    Every agent has a bus of its own on `url`; all share `log`. `progress` is told each module that
    was read. Returns the report and what each agent's bus counted. Raises what `Bus` raises.
    """
    async with at_work(TEAM, url, log) as buses, Bus(url, log=log, source="/agents/desk") as desk:
        report, seen = await commission(desk, root, progress)
        return report, {**{name: bus.stats() for name, bus in buses.items()}, "desk": seen}


def build(url: str) -> dict[str, Bus]:
    """Return the team, each agent by its name with a bus of its own at `url`; none is open yet."""
    return {name: _hired(name, url, None) for name in TEAM}


@asynccontextmanager
async def at_work(
    names: Iterable[str], url: str, log: str | None
) -> AsyncGenerator[dict[str, Bus]]:
    """Let these agents of the team work until the scope ends; the last one is drained first."""
    async with AsyncExitStack() as stack:
        buses = {name: _hired(name, url, log) for name in names}
        for bus in buses.values():
            await stack.enter_async_context(bus)
        yield buses


def _hired(name: str, url: str, log: str | None) -> Bus:
    bus = Bus(url, log=log, source=f"/agents/{name}")
    TEAM[name](bus)
    return bus


async def commission(
    desk: Bus, root: str | None, progress: Callable[[str], None] | None
) -> tuple[Report, BusStats]:
    """Start the team, watch it work, and wait for its report; with what the desk's bus counted."""
    async with desk.subscribe(">") as news:
        await desk.publish("survey.start", root or sysconfig.get_path("stdlib"))
        while (message := await anext(news)).topic != "report.ready":
            if message.topic == "source.read" and progress:
                progress(message.decode(FileFacts).module)
        return message.decode(Report), desk.stats()


def find_files(root: Path) -> list[SourceFile]:
    """Return the Python files below `root`, those of installed packages left out."""
    paths = (path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts)
    names = (Path(str(path).encode(errors="replace").decode()) for path in paths)  # all as text
    return [SourceFile(".".join(p.relative_to(root).with_suffix("").parts), str(p)) for p in names]


def read_facts(file: SourceFile) -> FileFacts:
    """Parse one file. Files fail in many ways, and each is to be accounted for."""
    try:
        source = Path(file.path).read_bytes()
        nodes = list(ast.walk(tree := ast.parse(source)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, SystemError) as error:
        return FileFacts(file.module, error=f"{type(error).__name__}: {error}")
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imports += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
    return FileFacts(
        file.module,
        bytes=len(source),
        functions=[measure(function, file.module) for function in functions],
        imports=imports,
        has_docstring=ast.get_docstring(tree, clean=False) is not None,
    )


def measure(node: ast.FunctionDef | ast.AsyncFunctionDef, module: str) -> Function:
    """Measure one function; its complexity is 1 and its branches."""
    complexity = 1 + sum(isinstance(inner, BRANCHES) for inner in ast.walk(node))
    return Function(f"{module}.{node.name}", (node.end_lineno or 0) - node.lineno + 1, complexity)


def fold(files: list[FileFacts]) -> Report:
    """Sum up what was seen in all files, in whatever order they were read."""
    files = sorted(files, key=lambda file: file.module)
    functions = [function for file in files for function in file.functions]
    imports = Counter(name for file in files for name in sorted(set(file.imports)))
    return Report(
        files=len(files),
        bytes=sum(file.bytes for file in files),
        functions=len(functions),
        findings=sum(len(file.findings) for file in files),
        unreadable=sum(file.error is not None for file in files),
        largest=nlargest(10, functions, key=lambda function: function.lines),
        most_complex=nlargest(10, functions, key=lambda function: function.complexity),
        without_docstring=sorted(file.module for file in files if not file.has_docstring),
        import_hubs=dict(imports.most_common(10)),
    )
