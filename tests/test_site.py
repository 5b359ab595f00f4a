"""The documents: pages made from the program are fresh, links lead somewhere, every page has its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onnx_clp.cli.options import main_parser
from tools import pages, site

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("name", pages.PAGES)
def test_pages_made_from_the_program_are_fresh(name: str) -> None:
    """`python -m tools.pages` writes them."""
    assert pages.written(name) == (DOCS / name).read_text(encoding="utf-8")


def test_every_option_is_on_its_page() -> None:
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for action in main_parser()._actions:
        if action.option_strings and action.dest not in ("help", "version"):
            assert re.search(rf"`{re.escape(action.option_strings[-1])}[ `]", text), action.option_strings
    assert all((DOCS / where.partition("#")[0]).exists() for where in pages.MORE.values())


def entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from entries(one)


def test_every_page_has_one_place_in_the_menu() -> None:
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    found = list(entries(config["nav"]))
    assert sorted(found) == sorted([*WRITTEN, *site.PAGES.values(), "notebook.md"])
    assert config["strict"] is True


@pytest.mark.parametrize("name", [*(f"docs/{name}" for name in WRITTEN), *site.PAGES])
def test_every_link_of_a_page_leads_to_a_file(name: str) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)", text):
        if not re.match(r"[a-z]+:", target):
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


def prose(name: str) -> list[str]:
    """The lines of a page outside code and tables."""
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for line in text.splitlines() if not line.startswith("|")]


@pytest.mark.parametrize("name", [*(f"docs/{name}" for name in WRITTEN), *site.PAGES])
def test_the_lines_of_a_page_fit(name: str) -> None:
    assert [line for line in prose(name) if len(line) > 130] == []


def test_links_out_of_the_documents_stay_within_the_site() -> None:
    said = site.linked(
        "[a](docs/edge.md#x) [b](CHANGELOG.md) [c](docs/notebook.ipynb) [d](https://x.org) [e](LICENSE)", ""
    )
    assert said == "[a](edge.md#x) [b](changelog.md) [c](notebook.md) [d](https://x.org) e (`LICENSE`)"
    assert site.linked("[`f.py`](../onnx_clp/text.py) [r](../README.md)", "docs") == "`f.py` [r](index.md)"


def test_bars_in_the_code_of_a_cell_are_shown_as_bars() -> None:
    assert site.plain_pipes("| `a \\| b` | c \\| d |\n`e \\| f`") == "| `a | b` | c \\| d |\n`e \\| f`"


def test_a_notebook_becomes_a_page_with_its_code_and_output() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# T\n", "text"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [{"data": {"text/plain": ["2"]}}, {"text": ["out\n"]}]},
    ]
    assert (
        site.notebook({"cells": cells})
        == "# T\ntext\n\n```python\n1 + 1\n```\n\n```text\n2\n```\n\n```text\nout\n```\n"
    )
