"""Channel norms against dense matrices: the estimate, the bound, and the exact circular norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_clp.numerics import lipschitz
from onnx_clp.numerics.affine import KernelLayout, kernels
from onnx_clp.numerics.lipschitz import Geometry, exact_norm, sigma, upper_bound
from tests.convolutions import Case, channel_matrices, norms

Array = NDArray[Any]

SMALL_GRID = {1: 6, 2: 4, 3: 3}


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids on which a dense matrix of the operator is small."""
    for dims, points in SMALL_GRID.items():
        monkeypatch.setitem(lipschitz.GRID_POINTS, dims, points)


def geometry(case: Case) -> Geometry:
    return Geometry(case.kernel, case.strides, case.dilations, case.transposed)


def reshaped(case: Case) -> Array:
    layout = KernelLayout(1, 0, case.groups, True) if case.transposed else KernelLayout(0, 1, case.groups)
    return kernels(case.weight, layout)


def weight(rng: np.random.Generator, inputs: int, outputs: int, kernel: tuple[int, ...], turn: bool) -> Array:
    return rng.normal(size=(inputs, outputs, *kernel) if turn else (outputs, inputs, *kernel))


# --- sigma --------------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=80, deadline=None)
@given(shapes, st.integers(0, 2**32 - 1))
def test_sigma_is_the_largest_singular_value(shape: tuple[int, int, int], seed: int) -> None:
    matrices = np.random.default_rng(seed).normal(size=shape)
    expected = np.linalg.svd(matrices, compute_uv=False)[:, 0] if shape[0] else np.zeros(0)
    np.testing.assert_allclose(sigma(matrices), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 97, 100), (2, 300, 9), (2, 9, 300), (1, 97, 97), (40, 64, 49)])
def test_sigma_of_wide_and_tall_kernels(shape: tuple[int, int, int]) -> None:
    matrices = np.random.default_rng(0).normal(size=shape)
    expected = np.linalg.svd(matrices, compute_uv=False)[:, 0]
    np.testing.assert_allclose(sigma(matrices), expected, rtol=1e-12)


@pytest.mark.parametrize("limit", ["_CACHED_ELEMENTS", "_GRAM_ELEMENTS"])
def test_sigma_in_blocks_is_sigma_at_once(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    matrices = np.random.default_rng(0).normal(size=(90, 4, 9))
    matrices[[3, 50, 51]] *= 1e120
    matrices[60] = np.nan
    whole = sigma(matrices)
    for elements in (1, 80, 700):
        monkeypatch.setattr(lipschitz, limit, elements)
        np.testing.assert_allclose(sigma(matrices), whole, rtol=1e-14)


FORMS = st.sampled_from(["random", "rank one", "orthogonal", "twins", "nearly twins", "sparse", "zero", "smooth"])


def formed(form: str, rng: np.random.Generator, inputs: int, taps: int) -> Array:
    """A kernel matrix with the singular values of its name."""
    random = rng.normal(size=(inputs, taps))
    left, values, right = np.linalg.svd(random, full_matrices=False)
    if form == "rank one":
        values[1:] = 0
    elif form == "orthogonal":
        values[:] = 1
    elif form == "twins":
        values[:2] = values[0]
    elif form == "nearly twins":
        values[1:2] = values[0] * (1 - 10.0 ** rng.uniform(-15, -2))
    elif form == "zero":
        values[:] = 0
    elif form == "smooth":
        values *= 0.5 ** np.arange(len(values))
    kernel = (left * values) @ right
    return np.where(rng.random(kernel.shape) < 0.1, kernel, 0.0) if form == "sparse" else np.asarray(kernel)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(FORMS, min_size=1, max_size=3),
    st.integers(1, 40),
    st.sampled_from([2, 3, 5, 9, 16, 25, 49]),
    st.integers(-150, 150),
    st.integers(0, 2**32 - 1),
)
def test_sigma_of_layers_of_every_form(forms: list[str], inputs: int, taps: int, power: int, seed: int) -> None:
    """Enough channels for the filter; forms, and sizes from 10^-150 to 10^150, side by side in one layer."""
    rng = np.random.default_rng(seed)
    layer = np.array([formed(forms[i % len(forms)], rng, inputs, taps) for i in range(120)])
    layer[::7] *= 10.0**power
    truth = np.linalg.svd(layer, compute_uv=False)[:, 0]
    np.testing.assert_allclose(sigma(layer), truth, rtol=2e-14, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spoilt_channels_of_a_layer_do_not_touch_the_others(dtype: Any) -> None:
    layer = np.random.default_rng(4).normal(size=(300, 64, 9)).astype(dtype)
    layer[5, 63, 8] = np.nan
    layer[6, 0, 0] = -np.inf
    layer[7] = 0
    layer[8] *= dtype(1e37)
    layer[9] *= dtype(1e-40)
    found = sigma(layer)
    assert np.flatnonzero(np.isnan(found)).tolist() == [5, 6]
    rest = np.delete(np.arange(300), [5, 6])
    truth = np.linalg.svd(layer[rest].astype(np.float64), compute_uv=False)[:, 0]
    np.testing.assert_allclose(found[rest], truth, rtol=1e-14)
    assert found[7] == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_sigma_of_deficient_kernels(rank: int) -> None:
    row = np.arange(1.0, 5.0)
    matrices = rank * row[None, :, None] * np.ones(9)[None, None, :]
    np.testing.assert_allclose(sigma(matrices), rank * np.linalg.norm(row) * 3, rtol=1e-12)


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.integers(0, 2**32 - 1))
def test_a_factor_scales_every_norm_by_its_size(factor: float, seed: int) -> None:
    matrices = np.random.default_rng(seed).normal(size=(4, 3, 4))
    at = Geometry((2, 2), (2, 1), (1, 1))
    np.testing.assert_allclose(sigma(factor * matrices), abs(factor) * sigma(matrices), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(
        exact_norm(factor * matrices, at), abs(factor) * exact_norm(matrices, at), rtol=1e-12, atol=1e-300
    )


@settings(deadline=None)
@given(st.permutations(range(6)), st.permutations(range(3)))
def test_permuted_channels_have_permuted_norms(outputs: list[int], inputs: list[int]) -> None:
    matrices = np.random.default_rng(0).normal(size=(6, 3, 4))
    moved = matrices[outputs][:, inputs]
    at = Geometry((2, 2), (1, 2), (1, 1))
    np.testing.assert_allclose(sigma(moved), sigma(matrices)[outputs], rtol=1e-12)
    np.testing.assert_allclose(exact_norm(moved, at), exact_norm(matrices, at)[outputs], rtol=1e-12)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-30, 1e30, 1e200, 1e307])
def test_huge_and_tiny_weights(size: float) -> None:
    rng = np.random.default_rng(0)
    unit = rng.uniform(-1, 1, size=(4, 3, 4))
    matrices = unit * size
    wide = sigma(matrices / size) if size > 1e-300 else sigma(matrices / 1e-310) * (1e-310 / size)
    expected = wide * size
    finite = np.isfinite(expected)
    np.testing.assert_allclose(sigma(matrices)[finite], expected[finite], rtol=1e-12, atol=5e-324)
    at = Geometry((4,), (1,), (1,))
    assert (exact_norm(matrices, at)[finite] > 0).all()


def test_small_and_large_channels_do_not_spoil_each_other() -> None:
    matrices = np.random.default_rng(0).normal(size=(3, 3, 4))
    factors = np.array([1e-180, 1.0, 1e180])
    found = sigma(matrices * factors[:, None, None])
    np.testing.assert_allclose(found, sigma(matrices) * factors, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_makes_its_channel_nan_alone(bad: float) -> None:
    matrices = np.random.default_rng(0).normal(size=(5, 3, 4))
    clean = sigma(matrices)
    matrices[2, 1, 1] = bad
    at = Geometry((2, 2), (1, 1), (1, 1))
    for found in (sigma(matrices), exact_norm(matrices, at)):
        assert np.isnan(found).tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(np.delete(sigma(matrices), 2), np.delete(clean, 2), rtol=1e-14)


def test_a_kernel_without_inputs_has_norm_zero() -> None:
    assert sigma(np.zeros((3, 0, 9))).tolist() == [0, 0, 0]
    assert exact_norm(np.zeros((3, 0, 9)), Geometry((3, 3), (1, 1), (1, 1))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_arithmetic_is_float64_whatever_the_weights_are(dtype: Any) -> None:
    matrices = np.random.default_rng(0).normal(size=(4, 3, 4)).astype(dtype)
    np.testing.assert_array_equal(sigma(matrices), sigma(matrices.astype(np.float64)))


# --- the upper bound ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_channel_amplifies_more_than_its_upper_bound(data: st.DataObject) -> None:
    """The norm of the channel's dense matrix is the largest of ‖Wx‖/‖x‖ over all x."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dims = data.draw(st.integers(1, 2))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(dims))
    groups = data.draw(st.integers(1, 2))
    transposed = data.draw(st.booleans())
    inputs, outputs = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    first, second = (inputs * groups, outputs) if transposed else (outputs * groups, inputs)
    case = Case(
        rng.normal(size=(first, second, *kernel)),
        tuple(data.draw(st.integers(1, 3)) for _ in range(dims)),
        tuple(data.draw(st.integers(1, 2)) for _ in range(dims)),
        tuple(0 if transposed else data.draw(st.integers(0, 2)) for _ in range(dims)),
        groups,
        transposed,
    )
    size = 5 if dims == 2 else 9
    matrices = channel_matrices(case, (size,) * dims)
    bounds = upper_bound(sigma(reshaped(case)), math.prod(kernel))
    gains = norms(matrices)
    assert (gains <= bounds * (1 + 1e-9)).all()
    x = rng.normal(size=matrices[0].shape[1])
    for matrix, bound in zip(matrices, bounds, strict=True):
        assert np.linalg.norm(matrix @ x) <= bound * np.linalg.norm(x) * (1 + 1e-9)


def test_the_upper_bound_is_reached() -> None:
    """A constant kernel on a large constant image: no smaller factor than sqrt(prod(kernel)) would do."""
    case = Case(np.ones((1, 1, 3)), (1,), (1,), (0,))
    gain = norms(channel_matrices(case, (400,)))[0]
    bound = upper_bound(sigma(reshaped(case)), 3)[0]
    assert bound == pytest.approx(3)
    assert gain == pytest.approx(bound, rel=1e-3)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_the_chain_of_inequalities_at_stride_one(seed: int, outputs: int, inputs: int, dims: int) -> None:
    """sigma ≤ ‖W‖_F ≤ exact ≤ sqrt(prod(kernel))·sigma."""
    rng = np.random.default_rng(seed)
    kernel = tuple(int(k) for k in rng.integers(1, 4, dims))
    matrices = rng.normal(size=(outputs, inputs, math.prod(kernel)))
    low = sigma(matrices)
    frobenius = np.linalg.norm(matrices, axis=(1, 2))
    exact = exact_norm(matrices, Geometry(kernel, (1,) * dims, (1,) * dims))
    assert (low <= frobenius * (1 + 1e-12)).all()
    assert (frobenius <= exact * (1 + 1e-12)).all()
    assert (exact <= upper_bound(low, math.prod(kernel)) * (1 + 1e-12)).all()


# --- the exact norm -----------------------------------------------------------------------------------

RINGS = [
    (kernel, strides, dilations)
    for kernel, strides, dilations in [
        ((3,), (1,), (1,)),
        ((3,), (2,), (1,)),
        ((3,), (3,), (1,)),
        ((2,), (2,), (2,)),
        ((3,), (2,), (2,)),
        ((3,), (2,), (3,)),
        ((1,), (2,), (1,)),
        ((3,), (1,), (2,)),
        ((3,), (1,), (3,)),
        ((3, 3), (1, 1), (1, 1)),
        ((3, 2), (2, 1), (1, 1)),
        ((2, 2), (2, 2), (2, 1)),
        ((1, 1), (2, 2), (1, 1)),
        ((2, 3), (1, 2), (3, 2)),
        ((2, 2, 2), (1, 2, 1), (1, 1, 1)),
        ((2, 1, 2), (2, 1, 2), (1, 1, 2)),
    ]
]


@pytest.mark.usefixtures("small_grid")
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize(("kernel", "strides", "dilations"), RINGS)
def test_the_exact_norm_is_that_of_the_dense_circular_operator(
    kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], transposed: bool
) -> None:
    rng = np.random.default_rng(len(kernel))
    shape = Geometry(kernel, strides, dilations, transposed)
    case = Case(weight(rng, 2, 2, kernel, transposed), strides, shape.spacing, (0,) * len(kernel), 1, transposed, True)
    ring = shape.grid
    sizes = tuple(n // s for n, s in zip(ring, strides, strict=True)) if transposed else ring
    expected = norms(channel_matrices(case, sizes))
    np.testing.assert_allclose(exact_norm(reshaped(case), shape), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("kernel", "strides", "dilations"), [((3,), (1,), (3,)), ((3,), (2,), (3,)), ((2,), (3,), (2,))]
)
def test_a_dilation_coprime_to_the_stride_changes_no_norm(
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a ring whose size the dilation does not divide it only permutes the frequencies."""
    points = 16 if strides != (3,) else 15
    monkeypatch.setitem(lipschitz.GRID_POINTS, 1, points)
    rng = np.random.default_rng(0)
    for transposed in (False, True):
        shape = Geometry(kernel, strides, dilations, transposed)
        assert shape.spacing == (1,)
        case = Case(weight(rng, 2, 2, kernel, transposed), strides, dilations, (0,), 1, transposed, True)
        sizes = (points // strides[0],) if transposed else (points,)
        expected = norms(channel_matrices(case, sizes))
        np.testing.assert_allclose(exact_norm(reshaped(case), shape), expected, rtol=1e-10)


def test_a_dilation_that_shares_a_factor_with_the_stride_matters() -> None:
    assert Geometry((3, 3), (2, 2), (2, 3)).spacing == (2, 1)
    matrices = np.array([[[1.0, 1.0]]])
    at = exact_norm(matrices, Geometry((2,), (2,), (2,)))
    np.testing.assert_allclose(at, 2.0, rtol=1e-9)  # both taps see the same positions
    near = exact_norm(matrices, Geometry((2,), (2,), (1,)))
    np.testing.assert_allclose(near, math.sqrt(2), rtol=1e-9)  # even and odd positions: disjoint


@pytest.mark.usefixtures("small_grid")
@pytest.mark.parametrize("transposed", [False, True])
def test_the_exact_norm_never_exceeds_the_upper_bound(transposed: bool) -> None:
    rng = np.random.default_rng(5)
    for stride in (1, 2, 3):
        for kernel in (1, 2, 3, 5):
            case = Case(weight(rng, 3, 4, (kernel,), transposed), (stride,), (1,), (0,), 1, transposed)
            found = exact_norm(reshaped(case), geometry(case))
            assert (found <= upper_bound(sigma(reshaped(case)), kernel) * (1 + 1e-9)).all()


def test_a_grouped_transposed_convolution_has_the_norms_of_its_groups() -> None:
    rng = np.random.default_rng(6)
    halves = [rng.normal(size=(2, 3, 2, 2)) for _ in range(2)]
    at = Geometry((2, 2), (2, 2), (1, 1), True)
    whole = kernels(np.concatenate(halves), KernelLayout(1, 0, 2, True))
    parts = [exact_norm(kernels(half, KernelLayout(1, 0, 1, True)), at) for half in halves]
    np.testing.assert_allclose(exact_norm(whole, at), np.concatenate(parts), rtol=1e-12)


def test_the_grid_is_fine_enough_for_the_kernel_and_divides_by_the_stride() -> None:
    for kernel, stride, dilation in [(3, 1, 1), (7, 3, 1), (300, 1, 1), (5, 3, 90)]:
        shape = Geometry((kernel,), (stride,), (dilation,))
        assert shape.grid[0] % stride == 0
        assert shape.grid[0] >= shape.spans[0]
        assert shape.grid[0] >= 256


def test_the_exact_norm_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = np.random.default_rng(0).normal(size=(7, 2, 9))
    at = Geometry((3, 3), (1, 1), (1, 1))
    whole = exact_norm(matrices, at)
    monkeypatch.setattr(lipschitz, "_CHUNK_ELEMENTS", 2 * 32 * 32 * 2)
    np.testing.assert_allclose(exact_norm(matrices, at), whole, rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_the_grid_comes_close_to_the_unbounded_plane(seed: int) -> None:
    """Against a grid 16 times as fine the default one lacks less than 0.1 %."""
    matrices = np.random.default_rng(seed).normal(size=(8, 3, 5))
    at = Geometry((5,), (1,), (1,))
    found = exact_norm(matrices, at)
    fine = np.abs(np.fft.fft(matrices, 4096, axis=2)) ** 2
    limit = np.sqrt(fine.sum(axis=1).max(axis=1))
    assert (found <= limit * (1 + 1e-12)).all()
    assert (found >= limit * (1 - 1e-3)).all()
