"""The notebook of the docs, run cell by cell."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from onnx_clp import config as configuration

ROOT = Path(__file__).parent.parent
CELLS = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "cell", "exec"), names)
        return None
    tree.body.pop()
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.parametrize("folder", ["docs", "."])
def test_every_cell_runs_and_shows_what_its_text_says(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Jupyter runs a notebook in the folder that it lies in."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(configuration, "_own_rules", {})
    names: dict[str, Any] = {}
    _, report, evidence, frame, changed, sizes, pruned = (shown(source, names) for source in CODE)
    assert "suspicious" in report._repr_html_()
    said = capsys.readouterr().out
    assert "suspicious | class that stands out | /fc/Gemm | 0" in said
    assert "<CleanResult suspicious, open: " in said
    assert (evidence, changed) == (None, None)
    assert "pandas" in frame if isinstance(frame, str) else len(frame) == 5
    assert min(sizes) > 10
    assert pruned > 0


def test_the_notebook_is_kept_without_outputs() -> None:
    assert all(cell["outputs"] == [] for cell in CELLS if cell["cell_type"] == "code")
