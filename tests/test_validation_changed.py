"""Which values a fold must leave as they are: those behind it, not those between a layer and what went into it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_clp
from onnx_clp.validation.changed import changed_values
from tests.forms.build import bn, constant, model, rand

NORM = "BatchNormalization({}, g, b, m, v)"
GIVEN: dict[str, Any] = bn(4) | {
    "w": rand(4, 3, 3, 3),
    "w2": rand(5, 4, 1, 1, seed=2),
    "k": np.abs(rand(4)) + 0.5,
    "one": np.float32(0.7).reshape(1),
    "wm": rand(8, 4, seed=3),
}
# body: (values that must agree, values that keep their name and need not)
FOLDS: dict[str, tuple[str, set[str], set[str]]] = {
    "behind a layer": (f"c = Conv(x, w) n = {NORM.format('c')} r = Relu(n) y = Conv(r, w2)", {"n"}, set()),
    "at the end": (f"c = Conv(x, w) y = {NORM.format('c')}", {"y"}, set()),
    "beyond a Transpose": (
        "c = Conv(x, w) t = Transpose<perm=[0,2,3,1]>(c) a = Mul(t, k) r = Relu(a) y = Transpose<perm=[0,3,1,2]>(r)",
        {"a"},
        {"c"},
    ),
    "before a layer": (f"n = {NORM.format('q')} d = Dropout(n) y = Conv(d, w2)", {"y"}, {"d"}),
    "twice": (
        f"c = Conv(x, w) n = {NORM.format('c')} i = Identity(n) e = Conv(i, w2) y = Mul(e, one)",
        {"n", "y"},
        set(),
    ),
    "an offset that goes into a sum": ("c = MatMul(z, wm) s = Sub(c, k) a = Add(s, k) y = Relu(a)", {"a"}, {"s"}),
}


def pair(body: str, folder: Path) -> tuple[Path, Path]:
    inputs = {"x": "float[1,3,8,8] x", "q": "float[1,4,8,8] q", "z": "float[2,8] z"}
    used = next(name for name in inputs if f"({name}," in body)
    words = set(re.findall(r"\w+", body))
    given = {name: value for name, value in GIVEN.items() if name in words}
    before = model(body, x=inputs[used], **given)()
    after = onnx_clp.clean(before, onnx_clp.CleanConfig(prune=False, validate=False)).model
    assert len(after.graph.node) < len(before.graph.node)
    paths = folder / "before.onnx", folder / "after.onnx"
    for path, proto in zip(paths, (before, after), strict=True):
        onnx.save(proto, path)
    return paths


@pytest.mark.parametrize("name", FOLDS)
def test_values_behind_a_fold_must_agree_and_those_inside_it_need_not(name: str, tmp_path: Path) -> None:
    body, must, need_not = FOLDS[name]
    paths = pair(body, tmp_path)
    assert set(changed_values(*paths)) == must
    left = {value for node in onnx.load(paths[1]).graph.node for value in node.output}
    assert need_not <= left


def test_constants_are_none_of_them(tmp_path: Path) -> None:
    """The weight of a Constant node keeps its name and is another."""
    body = constant("f", rand(4, 3, 3, 3)) + f"c = Conv(x, f) n = {NORM.format('c')} y = Relu(n)"
    before, after = pair(body, tmp_path)
    assert changed_values(before, after) == ["n"]


def test_equal_models_have_none(tmp_path: Path) -> None:
    before, _ = pair(FOLDS["behind a layer"][0], tmp_path)
    assert changed_values(before, before) == []
