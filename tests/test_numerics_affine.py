"""Folding an affine into a weight is the convolution with the affine after (or before) it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from onnx_clp.numerics.affine import (
    ChannelAffine,
    KernelLayout,
    carry_shift,
    channel_factor,
    kernels,
    scale_weight,
)
from tests.convolutions import Array, Case, apply

WIDE = np.dtype(np.float64)


def layout(case: Case) -> KernelLayout:
    return KernelLayout(1, 0, case.groups, True) if case.transposed else KernelLayout(0, 1, case.groups)


@st.composite
def cases(draw: st.DrawFn, *, padded: bool = True) -> tuple[Case, np.random.Generator]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dims, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3]))
    per_input, per_output = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    first, second = (per_input * groups, per_output) if transposed else (per_output * groups, per_input)
    case = Case(
        rng.normal(size=(first, second, *kernel)),
        tuple(draw(st.integers(1, 2)) for _ in range(dims)),
        tuple(draw(st.integers(1, 2)) for _ in range(dims)),
        tuple(draw(st.integers(0, 1)) if padded else 0 for _ in range(dims)),
        groups,
        transposed,
    )
    return case, rng


def data(case: Case, rng: np.random.Generator) -> Array:
    return rng.normal(size=(2, case.inputs, *[5] * len(case.kernel)))


def random_affine(rng: np.random.Generator, channels: int) -> ChannelAffine:
    return ChannelAffine(rng.normal(size=channels), rng.normal(size=channels))


def applied(affine: ChannelAffine, y: Array) -> Array:
    shape = (1, -1, *[1] * (y.ndim - 2))
    return np.asarray(affine.scale.reshape(shape) * y + affine.shift.reshape(shape))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_folding_is_the_affine_after_the_convolution(drawn: tuple[Case, np.random.Generator]) -> None:
    case, rng = drawn
    affine, x = random_affine(rng, case.outputs), data(case, rng)
    none = np.zeros(case.outputs, dtype=bool)
    folded = scale_weight(case.weight, layout(case), affine.scale, None, none, WIDE)
    new = Case(folded, case.strides, case.dilations, case.pads, case.groups, case.transposed)
    bias = ChannelAffine(np.ones(case.outputs), affine.shift)
    np.testing.assert_allclose(applied(bias, apply(new, x)), applied(affine, apply(case, x)), atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(cases(padded=False))
def test_folding_forward_is_the_affine_before_the_convolution(
    drawn: tuple[Case, np.random.Generator],
) -> None:
    case, rng = drawn
    affine, x = random_affine(rng, case.inputs), data(case, rng)
    one, none = np.ones(case.outputs), np.zeros(case.outputs, dtype=bool)
    folded = scale_weight(case.weight, layout(case), one, affine.scale, none, WIDE)
    new = Case(folded, case.strides, case.dilations, case.pads, case.groups, case.transposed)
    expected = apply(case, applied(affine, x))
    if case.transposed:  # not every output position sees every tap: the shift is no constant there
        expected = apply(case, applied(ChannelAffine(affine.scale, np.zeros(case.inputs)), x))
        np.testing.assert_allclose(apply(new, x), expected, atol=1e-11)
    else:
        carried = ChannelAffine(one, carry_shift(case.weight, layout(case), affine.shift))
        np.testing.assert_allclose(applied(carried, apply(new, x)), expected, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_zeroed_channel_gives_exactly_zero_and_no_other_changes(
    drawn: tuple[Case, np.random.Generator],
) -> None:
    case, rng = drawn
    zeroed = rng.random(case.outputs) < 0.5
    one = np.ones(case.outputs)
    silent = scale_weight(case.weight, layout(case), one, None, zeroed, WIDE)
    x = data(case, rng)
    before = apply(case, x)
    after = apply(Case(silent, case.strides, case.dilations, case.pads, case.groups, case.transposed), x)
    assert (after[:, zeroed] == 0).all()
    np.testing.assert_array_equal(after[:, ~zeroed], before[:, ~zeroed])


def test_a_channel_of_nan_or_inf_is_zeroed_too() -> None:
    weight = np.ones((2, 1, 3))
    weight[0, 0] = [np.nan, np.inf, 1.0]
    zeroed = np.array([True, False])
    out = scale_weight(weight, KernelLayout(0, 1), np.ones(2), None, zeroed, np.dtype(np.float32))
    np.testing.assert_array_equal(out, [[[0, 0, 0]], [[1, 1, 1]]])
    assert out.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(cases())
def test_kernels_are_the_channels_of_the_operator(drawn: tuple[Case, np.random.Generator]) -> None:
    """Row c of the reshaped kernels holds what output channel c takes from its group's inputs."""
    case, _ = drawn
    found = kernels(case.weight, layout(case))
    per_input, per_output = case.inputs // case.groups, case.outputs // case.groups
    assert found.shape == (case.outputs, per_input, int(np.prod(case.kernel)))
    for channel in range(case.outputs):
        group, inside = divmod(channel, per_output)
        for i in range(per_input):
            at = (group * per_input + i, inside) if case.transposed else (channel, i)
            taps = case.weight[at]
            np.testing.assert_array_equal(found[channel, i], taps.reshape(-1))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_oracle_agrees_with_onnx(groups: int) -> None:
    """What the other tests compare with is ONNX's own convolution."""
    rng = np.random.default_rng(groups)
    weight = rng.normal(size=(4, 6 // groups, 3, 2))
    case = Case(weight, (2, 1), (1, 2), (1, 0), groups)
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (double[2,6,7,6] x, double[4,?,3,2] w) => (double[?,?,?,?] y) '
        f"{{ y = Conv<strides=[2,1], dilations=[1,2], pads=[1,0,1,0], group={groups}>(x, w) }}"
    ).replace("?", "n")
    x = rng.normal(size=(2, 6, 7, 6))
    found: Any = ReferenceEvaluator(onnx.parser.parse_model(text)).run(None, {"x": x, "w": weight})
    np.testing.assert_allclose(apply(case, x), found[0], atol=1e-12)


def test_the_transposed_oracle_is_the_adjoint() -> None:
    """<conv(x), y> = <x, conv_transpose(y)> with the same weight, which defines the transposed convolution."""
    rng = np.random.default_rng(3)
    for groups in (1, 2):
        weight = rng.normal(size=(4, 3, 3, 2))
        forward = Case(weight, (2, 1), (1, 2), (0, 0), groups)
        back = Case(weight, (2, 1), (1, 2), (0, 0), groups, True)
        x = rng.normal(size=(1, 3 * groups, 7, 6))
        y = rng.normal(size=apply(forward, x).shape)
        assert np.isclose((apply(forward, x) * y).sum(), (x * apply(back, y)).sum())


# --- matrices (Gemm, MatMul) --------------------------------------------------------------------------


@pytest.mark.parametrize(("out_axis", "in_axis"), [(0, 1), (1, 0)])
def test_a_matrix_has_one_kernel_a_row_and_scales_by_its_output_axis(out_axis: int, in_axis: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 5))
    where = KernelLayout(out_axis, in_axis)
    matrix = weight if out_axis == 0 else weight.T
    np.testing.assert_array_equal(kernels(weight, where)[:, :, 0], matrix)
    scale, inputs = rng.normal(size=(matrix.shape[0],)), rng.normal(size=(matrix.shape[1],))
    zeroed = np.zeros(matrix.shape[0], dtype=bool)
    folded = scale_weight(weight, where, scale, inputs, zeroed, WIDE)
    np.testing.assert_allclose(
        folded if out_axis == 0 else folded.T, scale[:, None] * matrix * inputs[None, :], rtol=1e-15
    )
    np.testing.assert_allclose(carry_shift(weight, where, inputs), matrix @ inputs, rtol=1e-12)


def test_a_factor_of_a_grouped_axis_is_laid_out_by_group() -> None:
    where = KernelLayout(1, 0, 2, True)  # ConvTranspose, 4 inputs, 2 groups of 3 outputs
    factor = np.arange(6.0)
    table = channel_factor(factor, (4, 3, 2), where, output=True)
    np.testing.assert_array_equal(table[:, :, 0], [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]])


# --- the affine itself --------------------------------------------------------------------------------


def test_one_affine_then_another() -> None:
    first = ChannelAffine(np.array([2.0, -1.0]), np.array([1.0, 0.5]))
    second = ChannelAffine(np.array([3.0, 4.0]), np.array([-1.0, 2.0]))
    both = first.then(second)
    x = np.array([0.7, -2.0])
    expected = second.scale * (first.scale * x + first.shift) + second.shift
    np.testing.assert_allclose(both.scale * x + both.shift, expected)


def test_a_part_is_a_run_of_channels() -> None:
    part = ChannelAffine(np.arange(5.0), np.arange(5.0) * 10).part(1, 3)
    np.testing.assert_array_equal(part.scale, [1, 2, 3])
    np.testing.assert_array_equal(part.shift, [10, 20, 30])


def test_batch_normalisation_is_this_affine() -> None:
    rng = np.random.default_rng(1)
    gamma, beta, mean = rng.normal(size=(3, 4)).astype(np.float32)
    variance = rng.random(4).astype(np.float32)
    affine = ChannelAffine.of_batchnorm(gamma, beta, mean, variance, 1e-3)
    x = rng.normal(size=4)
    wide = [a.astype(np.float64) for a in (gamma, beta, mean, variance)]
    expected = wide[0] * (x - wide[2]) / np.sqrt(wide[3] + 1e-3) + wide[1]
    np.testing.assert_allclose(affine.scale * x + affine.shift, expected, rtol=1e-12)
    assert affine.is_finite
    assert affine.scale.dtype == np.float64


@pytest.mark.parametrize("variance", [-1.0, -1e-3, np.nan])
def test_a_variance_without_a_root_gives_no_finite_affine(variance: float) -> None:
    one = np.ones(2)
    affine = ChannelAffine.of_batchnorm(one, one, one, np.array([1.0, variance]), 1e-3)
    assert not affine.is_finite


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_the_product_is_rounded_once(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(3, 2, 3)).astype(kind)
    scale, inputs = rng.normal(size=3), rng.normal(size=2)
    zeroed = np.zeros(3, dtype=bool)
    folded = scale_weight(weight, KernelLayout(0, 1), scale, inputs, zeroed, kind)
    exact = (weight.astype(np.float64) * scale[:, None, None] * inputs[None, :, None]).astype(kind)
    assert folded.dtype == kind
    np.testing.assert_array_equal(folded, exact)
