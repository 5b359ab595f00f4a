"""The page on the layout says what the code is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_imports import MODULES, ORDER

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8") if (ROOT / "docs").exists() else ""


@pytest.mark.skipif(not PAGE, reason="the documents are not there")
def test_the_page_lists_the_packages_in_their_order() -> None:
    table = PAGE.split("## The order")[1].split("##")[0]
    listed = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert listed == [name for name in ORDER if name not in ("", "__main__")]


@pytest.mark.skipif(not PAGE, reason="the documents are not there")
def test_every_module_that_the_page_names_is_there() -> None:
    ways = PAGE.split("## The way of a weight")[1].split("## Where")[0]
    named = set(re.findall(r"`(\w+\.\w+)`", ways))
    assert len(named) > 15
    assert named <= {name.removeprefix("onnx_clp.") for name in MODULES}
    assert "fold.nowhere" not in named
