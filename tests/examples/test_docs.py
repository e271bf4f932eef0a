"""Every code block of README.md and docs/ runs."""

from pathlib import Path

import pytest

from tests.support.doc_blocks import run_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.timeout(300)  # a page has many blocks, each a process
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(page, cwd=tmp_path)
