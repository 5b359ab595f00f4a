"""No list of operators stands outside the table: a pass asks it, and keeps by name only what it does itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import defs

from tests.test_imports import PACKAGE

NAMES = frozenset(schema.name for schema in defs.get_all_schemas_with_history())
MOST = 4
"""So many operators may be named together, as the forms of one thing."""
DOES = {
    "audit/flatness.py": "operators that may have a slope that is no number",
    "gradient/rules.py": "operators whose gradient is 0: a gradient rule each",
    "compaction/rules.py": "operators that make channels of their own",
    "compaction/counts.py": "operators that it follows sizes through: one rule",
}
"""Lists of what a pass does itself, by operator."""


def lists(source: str) -> Iterator[tuple[str, ...]]:
    """The operators named together in one place: a tuple, list or set, or a text that is taken apart."""
    for one in ast.walk(ast.parse(source)):
        if isinstance(one, (ast.Tuple, ast.List, ast.Set)):
            found = _texts(one.elts)
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "is_op":
            found = _texts(one.args)
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "split":
            value = one.func.value
            found = value.value.split() if isinstance(value, ast.Constant) and isinstance(value.value, str) else []
        else:
            continue
        named = tuple(text for text in found if text in NAMES)
        if len(named) > MOST:
            yield named


def _texts(parts: list[ast.expr]) -> list[str]:
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('A = ("Relu", "Elu", "Selu", "Celu", "Tanh")', 1),
        ('A = frozenset(["Relu", "Elu", "Selu", "Celu", "Tanh"])', 1),
        ('A = "Relu Elu Selu Celu Tanh".split()', 1),
        ('is_op(node, "Relu", "Elu", "Selu", "Celu", "Tanh")', 1),
        ('is_op(node, "Add", "Sub", "Mul", "Div")', 0),
        ('RULES = {"Relu": a, "Elu": b, "Selu": c, "Celu": d, "Tanh": e}', 0),
    ],
)
def test_the_walk_sees_lists(source: str, count: int) -> None:
    assert len(list(lists(source))) == count


def others() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "operators"]


def test_no_pass_keeps_a_list_of_operators() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): list(lists(path.read_text(encoding="utf-8"))) for path in others()}
    assert {name: some for name, some in found.items() if some and name not in DOES} == {}
    assert all(found[name] for name in DOES)
