"""Runs the code blocks of a documentation page, top to bottom, in one working directory.

CONTRIBUTING.md tells authors the rules; this is all there is to them:

- A `python` block is a complete script and may `await` at its top level. One that is tagged
  `{.python .continuation}` is appended to the script before it.
- A block with `title="Output"` is what the script before it prints; `...` stands for any text.
- In a `console` or `sh` block the lines that start with `$ ` and call hms-bus, or a script that the
  page has saved, are run together by one shell. Other lines show what is printed.
- A block of any language with `title="NAME"` is saved as NAME first.
- Blocks of other languages are not run.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.example_output import matches
from tests.support.programs import Run, run_program

PYTHON = frozenset({"python", "py", "python3"})
SHELL = frozenset({"console", "sh", "bash", "shell", "shell-session"})
OUTPUT = "Output"

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<info>[^`]*)$")
_TITLE = re.compile(r"title=\"(?P<title>[^\"]+)\"|title='(?P<other>[^']+)'")
# `VAR=x hms-bus …`, `… | hms-bus …`, `python -m hms_bus …`, `python app.py`
_CALLS_US = re.compile(
    r"(?:^|[|;&(])\s*(?:\w+=\S*\s+)*(?:hms-bus\b|python -m hms_bus\b|python [\w-]+\.py\b)"
)
_RUNNER = Path(__file__).with_name("run_script.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `line` is the number of its first line of code, counted from 1."""

    language: str
    line: int
    code: str
    title: str | None = None
    continues: bool = False


class BlockError(Exception):
    """The block of `page` at `line` did not end well."""

    def __init__(self, page: Path, block: Block, run: Run) -> None:
        super().__init__(f"{page}:{block.line}: {run}\n--- block ---\n{block.code}")
        self.page = page
        self.line = block.line
        self.run = run


def run_page(page: Path, *, cwd: Path) -> None:
    """Run every block of `page` in `cwd`. Raises `BlockError` at the first that fails."""
    blocks = joined(parse_blocks(page.read_text(encoding="utf-8")))
    script = Run(status=None, stdout="", stderr="no script stands before this output")
    for block in blocks:
        if block.title == OUTPUT:
            _check_output(page, block, script)
        elif block.title:
            (cwd / block.title).write_text(block.code, encoding="utf-8")
        if block.language in PYTHON:
            script = _run_python(page, block, cwd)
        elif block.language in SHELL:
            _run_shell(page, block, cwd)


def parse_blocks(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a page, also those that are indented below a list or an admonition.

    As CommonMark has it, a fence is closed by one of the same character that is at least as long,
    so a block may show fences; one that is never closed ends with the page.
    """
    lines = enumerate(markdown.splitlines(), start=1)
    for number, line in lines:
        if opening := _FENCE.match(line):
            code = list(_until_closed(lines, opening["fence"], len(opening["indent"])))
            yield _block(opening["info"], number + 1, "".join(f"{text}\n" for text in code))


def joined(blocks: Iterable[Block]) -> list[Block]:
    """The blocks with each continuation appended to its script, on the same line as in the page."""
    scripts: list[Block] = []
    for block in blocks:
        if not block.continues:
            scripts.append(block)
            continue
        at = next(i for i in reversed(range(len(scripts))) if scripts[i].language in PYTHON)
        script = scripts[at]
        gap = block.line - script.line - script.code.count("\n")
        scripts[at] = replace(script, code=script.code + "\n" * gap + block.code)
    return scripts


def commands(block: Block) -> list[str]:
    """What a shell block asks to run and we can run. A backslash joins a line with the next."""
    logical = re.sub(r"\\\n\s*", "", block.code).splitlines()
    typed = (line.removeprefix("$ ") for line in logical if line.startswith("$ "))
    return [command for command in typed if _CALLS_US.search(command)]


def _until_closed(lines: Iterator[tuple[int, str]], fence: str, indent: int) -> Iterator[str]:
    closing = re.compile(rf"\s*{fence[0]}{{{len(fence)},}}\s*")
    for _, line in lines:
        if closing.fullmatch(line):
            return
        yield line[min(indent, len(line) - len(line.lstrip())) :]


def _block(info: str, line: int, code: str) -> Block:
    language, *tags = info.replace("{", " ").replace("}", " ").split() or [""]
    title = _TITLE.search(info)
    return Block(
        language=language.removeprefix(".").lower(),
        line=line,
        code=code,
        title=title["title"] or title["other"] if title else None,
        continues=".continuation" in tags or "continuation" in tags,
    )


def _run_python(page: Path, block: Block, cwd: Path) -> Run:
    # Padded, so that a traceback shows the line of the page.
    script = cwd / f".block-{block.line}.py"
    script.write_text("\n" * (block.line - 1) + block.code, encoding="utf-8")
    run = run_program([sys.executable, _RUNNER, script, page.resolve()], cwd=cwd)
    if not run.succeeded:
        raise BlockError(page, block, run)
    return run


def _check_output(page: Path, block: Block, run: Run) -> None:
    if not matches(block.code.rstrip(), run.stdout.rstrip()):
        raise BlockError(page, block, run)


def _run_shell(page: Path, block: Block, cwd: Path) -> None:
    if not (lines := commands(block)):
        return
    run = run_program(["/bin/sh", "-e", "-c", "\n".join(lines)], cwd=cwd)
    if not run.succeeded:
        raise BlockError(page, block, run)
