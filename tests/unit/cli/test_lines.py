"""Reading lines beside a running event loop."""

import asyncio
import os
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.cli.lines import read_lines


async def collect(descriptor: int) -> list[bytes]:
    return [line async for lines in read_lines(descriptor) for line in lines]


@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), max_size=20))
def test_lines_come_as_they_were_written(lines: list[bytes]) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"".join(line + b"\n" for line in lines))
    os.close(theirs)
    assert asyncio.run(collect(ours)) == lines
    os.close(ours)


async def test_a_last_line_needs_no_end(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\n\ntwo")
    with closing((tmp_path / "lines").open("rb")) as file:
        assert await collect(file.fileno()) == [b"one", b"", b"two"]


async def test_long_input_is_put_together_again(tmp_path: Path) -> None:
    lines = [b"%d" % n * (n % 50) for n in range(50_000)]
    (tmp_path / "lines").write_bytes(b"\n".join(lines))
    with closing((tmp_path / "lines").open("rb")) as file:
        assert await collect(file.fileno()) == lines


async def test_lines_come_as_soon_as_they_are_there() -> None:
    ours, theirs = os.pipe()
    async with aclosing(read_lines(ours)) as lines:
        for line in (b"first", b"second"):
            os.write(theirs, line + b"\n")
            assert await anext(lines) == [line]
        os.close(theirs)
        assert [line async for line in lines] == []
    os.close(ours)


async def test_a_descriptor_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        await collect(folder)
    os.close(folder)
