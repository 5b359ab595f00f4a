"""Gradients of sliding windows: Conv, ConvTranspose and the pools over many shapes and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.gradients import Array, Case, check, draw

FEW = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
Window = dict[str, Any]


@st.composite
def windows(draws: st.DrawFn, spatial: int, *, pooling: bool) -> Window:
    """Attributes of a window: kernel, strides, dilations, and pads or auto_pad."""

    def numbers(low: int, high: int, count: int = spatial) -> list[int]:
        return draws(st.lists(st.integers(low, high), min_size=count, max_size=count))

    found: Window = {"kernel_shape": numbers(1, 3), "strides": numbers(1, 3), "dilations": numbers(1, 2)}
    mode = draws(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if mode == "NOTSET":
        most = min(found["kernel_shape"]) - 1 if pooling else 3
        found["pads"] = numbers(0, most, 2 * spatial)
    else:
        found["auto_pad"] = mode
        found["dilations"] = [1] * spatial
        found["strides"] = [min(s, k) for s, k in zip(found["strides"], found["kernel_shape"], strict=True)]
    return found


def fits(window: Window, sizes: list[int]) -> bool:
    """Whether every window lies on the padded input."""
    spatial = len(sizes)
    pads = window.get("pads") or [0] * (2 * spatial)
    reach = [(k - 1) * d + 1 for k, d in zip(window["kernel_shape"], window["dilations"], strict=True)]
    return all(n + pads[a] + pads[spatial + a] >= r for a, (n, r) in enumerate(zip(sizes, reach, strict=True)))


@st.composite
def convolutions(draws: st.DrawFn) -> Case:
    spatial = draws(st.integers(1, 2))
    window = draws(windows(spatial, pooling=False))
    sizes = draws(st.lists(st.integers(3, 7), min_size=spatial, max_size=spatial))
    assume(fits(window, sizes))
    group, into, out = (draws(st.integers(1, 2)) for _ in range(3))
    biased = draws(st.booleans())
    weight = draw(group * out, into, *window["kernel_shape"])
    inputs: list[Array | None] = [draw(2, group * into, *sizes), weight, *([draw(group * out)] if biased else [])]
    wanted = (0, 2) if biased else (0,)
    dynamic = draws(st.booleans())
    return Case("Conv", inputs, wanted, {**window, "group": group}, linear=True, dynamic=dynamic, reference=False)


@FEW
@given(convolutions())
def test_conv(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [2, 1]])
@pytest.mark.parametrize(("group", "kernel"), [(1, [3, 3]), (1, [1, 1]), (4, [3, 3])])
def test_conv_in_float64(group: int, kernel: list[int], strides: list[int], dynamic: bool) -> None:
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": [1, 1, 1, 1], "group": group}
    inputs = [draw(2, 4, 6, 5), draw(4, 4 // group, *kernel)]
    check(Case("Conv", inputs, (0,), attributes, linear=True, dynamic=dynamic))


@pytest.mark.parametrize("strides", [1, 2])
def test_conv_in_three_dimensions(strides: int) -> None:
    attributes = {"kernel_shape": [3, 2, 3], "strides": [strides] * 3, "pads": [1, 0, 1, 1, 1, 1], "group": 2}
    inputs = [draw(1, 4, 4, 5, 4), draw(6, 2, 3, 2, 3)]
    check(Case("Conv", inputs, (0,), attributes, linear=True, reference=False))


@pytest.mark.parametrize(("dynamic", "strides"), [(False, 1), (True, 1), (False, 2)])
def test_a_stride_of_one_becomes_a_conv_and_a_larger_one_a_conv_transpose(dynamic: bool, strides: int) -> None:
    attributes = {"strides": [strides] * 2, "pads": [1, 1, 1, 1]}
    found = check(Case("Conv", [draw(1, 2, 6, 6), draw(3, 2, 3, 3)], (0,), attributes, linear=True, dynamic=dynamic))
    made = [n.op_type for n in found.model.graph.node]
    assert made.count("Conv") == (2 if strides == 1 else 1)
    assert made.count("ConvTranspose") == (0 if strides == 1 else 1)


@st.composite
def transposed(draws: st.DrawFn) -> Case:
    spatial = draws(st.integers(1, 2))
    window = draws(windows(spatial, pooling=False))
    sizes = draws(st.lists(st.integers(2, 5), min_size=spatial, max_size=spatial))
    named = draws(st.booleans())
    reach = [(k - 1) * d + 1 for k, d in zip(window["kernel_shape"], window["dilations"], strict=True)]
    natural = [(n - 1) * s + r for n, s, r in zip(sizes, window["strides"], reach, strict=True)]
    if "pads" in window:
        window["output_padding"] = [draws(st.integers(0, s - 1)) for s in window["strides"]]
        pads, added = window["pads"], window["output_padding"]
        assume(all(f + added[a] - pads[a] - pads[spatial + a] >= 1 for a, f in enumerate(natural)))
    elif named and window["auto_pad"] != "VALID" and all(f - 2 >= n for f, n in zip(natural, sizes, strict=True)):
        # a smaller one than the input trips the shape inference of onnx
        window["output_shape"] = [f - draws(st.integers(0, 2)) for f in natural]
    else:
        assume(all(r >= s for r, s in zip(reach, window["strides"], strict=True)))
    group, into, out = (draws(st.integers(1, 2)) for _ in range(3))
    biased = draws(st.booleans())
    weight = draw(group * into, out, *window["kernel_shape"])
    inputs: list[Array | None] = [draw(2, group * into, *sizes), weight, *([draw(group * out)] if biased else [])]
    dynamic = draws(st.booleans()) and "output_shape" not in window
    wanted = (0, 2) if biased else (0,)
    attributes = {**window, "group": group}
    return Case("ConvTranspose", inputs, wanted, attributes, linear=True, dynamic=dynamic, reference=False)


@FEW
@given(transposed())
def test_conv_transpose(case: Case) -> None:
    check(case)


def test_conv_transpose_in_float64() -> None:
    attributes = {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 0]}
    check(Case("ConvTranspose", [draw(2, 4, 3, 4), draw(4, 3, 3, 2)], (0,), attributes, linear=True))


def spaced(*shape: int) -> Array:
    """Numbers of which no two are nearer than 0.2, so that a small step changes no maximum."""
    count = int(np.prod(shape))
    return (np.random.default_rng(0).permutation(count) * 0.2 - count * 0.1).reshape(shape)


@st.composite
def pools(draws: st.DrawFn, op: str) -> Case:
    spatial = draws(st.integers(1, 2))
    window = draws(windows(spatial, pooling=True))
    sizes = draws(st.lists(st.integers(3, 7), min_size=spatial, max_size=spatial))
    assume(fits(window, sizes))
    if "auto_pad" not in window and all(k >= s for k, s in zip(window["kernel_shape"], window["strides"], strict=True)):
        window["ceil_mode"] = draws(st.integers(0, 1))
    if op == "AveragePool":
        window["count_include_pad"] = draws(st.integers(0, 1))
    dynamic = draws(st.booleans()) and (op == "MaxPool" or not window.get("ceil_mode"))
    opset = 19 if op == "AveragePool" else 18
    linear = op == "AveragePool"
    return Case(op, [spaced(2, 3, *sizes)], (0,), window, opset, linear=linear, dynamic=dynamic, reference=False)


@FEW
@given(pools("MaxPool"))
def test_max_pool(case: Case) -> None:
    check(case)


@FEW
@given(pools("AveragePool"))
def test_average_pool(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_in_float64(include: int) -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": include}
    check(Case("AveragePool", [draw(2, 3, 6, 5)], (0,), attributes, linear=True))


def test_equal_maxima_have_one_winner_the_first() -> None:
    tied: Array = np.ones((1, 1, 4, 4))
    found = check_once("MaxPool", tied, {"kernel_shape": [2, 2], "strides": [2, 2]})
    assert (found[0, 0] != 0).tolist() == [[True, False] * 2, [False] * 4] * 2


def check_once(op: str, x: Array, attributes: dict[str, Any]) -> Array:
    """The float32 gradient of Σ r·op(x)."""
    from onnx_clp.gradient.differentiate import differentiate
    from tests.gradients import build, runtime

    found = differentiate(build(Case(op, [x], (0,), attributes), np.float32), "f", ["x0"])
    return np.asarray(runtime(found.model).run([found.gradients["x0"]], {"x0": x.astype(np.float32)})[0])
