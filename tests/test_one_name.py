"""One name for one thing: no two classes of the package are called alike, and no two tables of rules."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from tests.test_imports import PACKAGE


def classes(source: str) -> Iterator[str]:
    """The public classes at the top of a module."""
    for one in ast.parse(source).body:
        if isinstance(one, ast.ClassDef) and not one.name.startswith("_"):
            yield one.name


def assigned(source: str) -> Iterator[str]:
    """The names a module assigns at its top."""
    for one in ast.parse(source).body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def sources() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))]


def test_the_walks_see_classes_and_tables() -> None:
    source = "class A: pass\nclass _B: pass\nRULES: dict[str, int] = {}\nX = 1\ndef f(): RULES = 2\n"
    assert list(classes(source)) == ["A"]
    assert list(assigned(source)) == ["RULES", "X"]


def test_no_two_classes_have_one_name() -> None:
    found = Counter(name for source in sources() for name in classes(source))
    assert len(found) > 300
    assert {name for name, count in found.items() if count > 1} == set()


def test_one_table_is_called_rules() -> None:
    found = Counter(name for source in sources() for name in assigned(source))
    assert found["RULES"] == 1
    assert found["Tick"] == 1
