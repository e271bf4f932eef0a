"""The runner of documentation blocks: what it finds, what it runs, and that a failure fails."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.doc_blocks import Block, BlockError, commands, joined, parse_blocks, run_page


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder


def blocks_of(markdown: str) -> list[Block]:
    return list(parse_blocks(dedent(markdown)))


def test_finds_language_line_title_and_code() -> None:
    assert blocks_of(
        """\
        Text.

        ```python title="app.py"
        x = 1
        ```
        """
    ) == [Block(language="python", line=4, code="x = 1\n", title="app.py")]


def test_an_indented_block_loses_its_indent_only() -> None:
    [block] = blocks_of(
        """\
        !!! note

            ```python
            if True:
                x = 1

            y = 2
            ```
        """
    )
    assert block.code == "if True:\n    x = 1\n\ny = 2\n"


def test_a_longer_fence_shows_a_shorter_one() -> None:
    [block] = blocks_of(
        """\
        ````markdown
        ```python
        raise SystemExit(1)
        ```
        ````
        """
    )
    assert block.language == "markdown"


@pytest.mark.parametrize("info", ["python", "py", "python3", "{.python .annotate}", "Python"])
def test_no_spelling_of_python_escapes(info: str, page: Path, cwd: Path) -> None:
    page.write_text(f"```{info}\nraise SystemExit(3)\n```\n")
    with pytest.raises(BlockError, match="exit status 3"):
        run_page(page, cwd=cwd)


def test_a_continuation_keeps_its_line_of_the_page() -> None:
    [script] = joined(
        blocks_of(
            """\
            ```python
            x = 1
            ```

            ```{.python .continuation}
            print(x)
            ```
            """
        )
    )
    assert script.line == 2
    assert script.code == "x = 1\n\n\n\nprint(x)\n"


def test_a_script_may_await_and_go_on(page: Path, cwd: Path) -> None:
    page.write_text(
        dedent(
            """\
            ```python
            import asyncio
            await asyncio.sleep(0)
            name = "proof"
            ```

            ```{.python .continuation}
            async with asyncio.timeout(5):
                open(name, "w").close()
            ```
            """
        )
    )
    run_page(page, cwd=cwd)
    assert (cwd / "proof").exists()


def test_a_failing_block_fails_and_says_where(page: Path, cwd: Path) -> None:
    page.write_text("Text.\n\n```python\nx = 1\nassert x == 2\n```\n")
    with pytest.raises(BlockError) as raised:
        run_page(page, cwd=cwd)
    assert raised.value.line == 4
    assert f'{page}", line 5' in raised.value.run.stderr
    assert "assert x == 2" in raised.value.run.stderr


def test_a_script_that_loses_an_exception_fails(page: Path, cwd: Path) -> None:
    page.write_text(
        dedent(
            """\
            ```python
            import asyncio, gc
            async def lose(): raise ValueError
            task = asyncio.create_task(lose())
            await asyncio.sleep(0.01)
            del task
            gc.collect()
            ```
            """
        )
    )
    with pytest.raises(BlockError, match="never retrieved"):
        run_page(page, cwd=cwd)


OUTPUT = """\
```python
print("eu: order 7")
print("took 0.1 s")
```

```text title="Output"
{shown}
```
"""


def test_shown_output_is_what_the_script_prints(page: Path, cwd: Path) -> None:
    page.write_text(OUTPUT.format(shown="eu: order 7\ntook ... s"))
    run_page(page, cwd=cwd)
    assert not (cwd / "Output").exists()


@pytest.mark.parametrize("shown", ["eu: order 8\ntook ... s", "eu: order 7", "...", "took ... s"])
def test_shown_output_that_is_not_printed_fails(shown: str, page: Path, cwd: Path) -> None:
    page.write_text(OUTPUT.format(shown=shown))
    with pytest.raises(BlockError) as raised:
        run_page(page, cwd=cwd)
    assert raised.value.line == 7


def test_output_without_a_script_fails(page: Path, cwd: Path) -> None:
    page.write_text('```text title="Output"\nnothing\n```\n')
    with pytest.raises(BlockError, match="no script"):
        run_page(page, cwd=cwd)


def test_commands_are_those_that_call_us() -> None:
    [block] = blocks_of(
        """\
        ```console
        $ make demo
        $ hms-bus pub orders.eu.created '{"qty": 1}' \\
            --log events.db
        position 1
        $ cat lines | hms-bus pub orders.eu.created
        $ HMS_BUS_URL=direct:// python -m hms_bus version
        $ python app.py
        $ python -m pip install hms-bus
        $ echo hms-bus
        ```
        """
    )
    assert commands(block) == [
        "hms-bus pub orders.eu.created '{\"qty\": 1}' --log events.db",
        "cat lines | hms-bus pub orders.eu.created",
        "HMS_BUS_URL=direct:// python -m hms_bus version",
        "python app.py",
    ]


def test_a_failing_command_fails_although_a_later_one_succeeds(page: Path, cwd: Path) -> None:
    page.write_text("```sh\n$ hms-bus no-such-command\n$ python -m hms_bus version\n```\n")
    with pytest.raises(BlockError) as raised:
        run_page(page, cwd=cwd)
    assert raised.value.run.status not in {0, None}
    assert "no-such-command" in raised.value.run.stderr


def test_a_titled_block_is_saved_for_the_commands_of_the_page(page: Path, cwd: Path) -> None:
    page.write_text(
        dedent(
            """\
            ```toml title="settings.toml"
            answer = 42
            ```

            ```python title="app.py"
            import tomllib
            assert tomllib.load(open("settings.toml", "rb")) == {"answer": 42}
            open("proof", "a").write("x")
            ```

            ```console
            $ python app.py
            ```
            """
        )
    )
    run_page(page, cwd=cwd)
    assert (cwd / "proof").read_text() == "xx"


def test_blocks_of_other_languages_are_not_run(page: Path, cwd: Path) -> None:
    page.write_text("```text\n$ hms-bus no-such-command\n```\n\n```\nraise SystemExit(1)\n```\n")
    run_page(page, cwd=cwd)
    assert list(cwd.iterdir()) == []
