"""Gradients of Slice, Gather, Pad and Resize, which read along an axis by a rule of their own, and of quantisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from onnx_clp.errors import UnsupportedModelError
from onnx_clp.gradient.differentiate import differentiate
from tests.gradients import Case, check, draw, runtime

FEW = settings(max_examples=30, deadline=None, derandomize=True)


def ints(*values: int) -> Any:
    return np.asarray(values, np.int64)


@st.composite
def slices(draws: st.DrawFn) -> Case:
    sizes = draws(st.lists(st.integers(1, 6), min_size=2, max_size=3))
    axes = draws(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=2, unique=True))
    starts, ends, steps = [], [], []
    for axis in axes:
        by = draws(st.sampled_from([1, 1, 2, 3, -1, -2]))
        first, last = draws(st.integers(-8, 8)), draws(st.integers(-8, 8))
        end = last if by > 0 or last != -1 else -2 - sizes[axis]
        while not len(_taken(sizes[axis], first, end, by)):
            first, end = (0, 2**31) if by > 0 else (-1, -(2**31))
        starts.append(first)
        ends.append(end)
        steps.append(by)
    signed = [a - len(sizes) if draws(st.booleans()) else a for a in axes]
    inputs = [draw(*sizes), ints(*starts), ints(*ends), ints(*signed), ints(*steps)]
    return Case("Slice", inputs, (0,), linear=True, dynamic=draws(st.booleans()), reference=False)


def _taken(size: int, start: int, end: int, by: int) -> Any:
    """The indices ONNX Slice takes (operator version 13): negative numbers count from the end, then all are clamped."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    if by > 0:
        return np.arange(min(max(start, 0), size), min(max(end, 0), size), by)
    return np.arange(min(max(start, 0), size - 1), min(max(end, -1), size - 1), by)


@FEW
@given(slices())
def test_slice(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Slice", [draw(4, 6), ints(1), ints(3)], {}),
        ("Slice", [draw(4, 6), ints(3, -2), ints(0, 0), ints(0, 1), ints(-1, -2)], {}),
        ("Gather", [draw(4, 3, 2), ints(1, 1, -1)], {}),
        ("Gather", [draw(4, 3, 2), ints(2, 0, 2).reshape(1, 3)], {"axis": 1}),
        ("Gather", [draw(4, 3, 2), np.asarray(1, np.int64)], {"axis": -1}),
        ("Pad", [draw(3, 4), ints(1, 0, 2, 1)], {}),
        ("Pad", [draw(3, 4), ints(1, 0, 2, 1), None, ints(0, -1)], {"mode": "constant"}),
        ("Pad", [draw(3, 4), ints(0, 2), None, ints(1)], {"mode": "constant"}),
        ("Pad", [draw(3, 4), ints(1, 0, 2, 1)], {"mode": "edge"}),
        ("Pad", [draw(2, 3, 4, 5), ints(0, 1, 1, 2, 0, 1, 2, 3)], {"mode": "reflect"}),
        ("Pad", [draw(3, 4), ints(2, 1), None, ints(-1)], {"mode": "reflect"}),
    ],
)
def test_picking_in_float64(op: str, inputs: list[Any], attributes: dict[str, Any], dynamic: bool) -> None:
    check(Case(op, inputs, (0,), attributes, linear=True, dynamic=dynamic))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("pads", "opset"), [((1, 0, -1, 1), 18), ((-1, -1, 0, 2), 17)])
def test_a_pad_that_cuts(pads: tuple[int, ...], opset: int, dynamic: bool) -> None:
    check(Case("Pad", [draw(3, 4), ints(*pads)], (0,), {}, opset, linear=True, dynamic=dynamic, reference=False))


def test_a_pad_that_wraps() -> None:
    attributes = {"mode": "wrap"}
    check(Case("Pad", [draw(3, 4), ints(1, 0, 2, 1)], (0,), attributes, 19, linear=True, reference=False))


SCALES = np.asarray([1, 1, 2, 1.5], np.float32)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "nearest"},
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"mode": "nearest", "coordinate_transformation_mode": "align_corners", "nearest_mode": "round_prefer_ceil"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5},
    ],
)
@pytest.mark.parametrize("sized", [False, True])
def test_resize(attributes: dict[str, Any], sized: bool, dynamic: bool) -> None:
    tail = [None, ints(1, 2, 6, 7)] if sized else [SCALES]
    inputs = [draw(1, 2, 3, 5), None, *tail]
    check(Case("Resize", inputs, (0,), attributes, linear=True, dynamic=dynamic, reference=False))


def test_resize_of_named_axes_in_float64() -> None:
    attributes = {"mode": "nearest", "axes": [2, 3]}
    check(Case("Resize", [draw(1, 2, 3, 4), None, SCALES[2:]], (0,), attributes, linear=True))


def test_a_crop_has_no_rule() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1, 1, 4, 4] x) => (float y)
    <float[8] roi = {0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8}, float[4] s = {1, 1, 2, 2}> {
      [cut] a = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, roi, s)
      y = ReduceSum <keepdims = 0> (a)
    }"""
    with pytest.raises(UnsupportedModelError, match=r"'cut': cannot be differentiated: .*tf_crop_and_resize"):
        differentiate(parser.parse_model(text), "y", ["x"])


# Quantisation: an estimate, so held to what it says it is


QUANTISED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 3] x) => (float y)
<float[3] s = {0.1, 0.2, 0.5}, int8[3] z = {0, 10, -20}, float[2, 3] r = {1, 2, 3, 4, 5, 6}> {
  q = QuantizeLinear <axis = 1> (x, s, z)
  t = Transpose (q)
  u = Transpose (t)
  d = DequantizeLinear <axis = 1> (u, s, z)
  p = Mul (d, r)
  y = ReduceSum <keepdims = 0> (p)
}"""


def test_quantisation_passes_the_gradient_inside_its_range_alone() -> None:
    found = differentiate(parser.parse_model(QUANTISED), "y", ["x"])
    onnx.checker.check_model(found.model, full_check=True)
    # levels x/s + z: 10 and −10; 130 (saturates) and 9; −18 and −130 (saturates)
    x = np.asarray([[1, 24, 1], [-1, -0.2, -55]], np.float32)
    gradient = runtime(found.model).run([found.gradients["x"]], {"x": x})[0]
    assert np.allclose(gradient, [[1, 0, 3], [4, 5, 0]], rtol=1e-6)


def test_an_unsigned_tensor_scale() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x) => (float y) <float s = {0.5}, float s2 = {1.5}> {
      q = QuantizeLinear (x, s)
      d = DequantizeLinear (q, s2)
      y = ReduceSum <keepdims = 0> (d)
    }"""
    found = differentiate(parser.parse_model(text), "y", ["x"])
    x = np.asarray([-1, 1, 127, 200], np.float32)
    assert np.allclose(runtime(found.model).run([found.gradients["x"]], {"x": x})[0], [0, 3, 3, 0])
