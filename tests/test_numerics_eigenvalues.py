"""The largest eigenvalue of each matrix of a batch: the filter, its proof, and LAPACK where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnx_clp.numerics import eigenvalues
from onnx_clp.numerics.eigenvalues import largest_eigenvalue

Array = NDArray[Any]
EPS = float(np.finfo(np.float64).eps)


def with_spectrum(spectra: Array, seed: int = 0) -> Array:
    """Symmetric matrices with these eigenvalues, to rounding, and random eigenvectors."""
    count, side = spectra.shape
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(count, side, side)))[0]
    found = np.matmul(basis * spectra[:, None, :], basis.transpose(0, 2, 1))
    return np.asarray((found + found.transpose(0, 2, 1)) / 2)


def by_filter(matrices: Array) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        return eigenvalues._by_filter(matrices)


def grams(count: int, inputs: int, side: int, seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, inputs, side))
    return np.asarray(np.matmul(rows.transpose(0, 2, 1), rows))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many matrices LAPACK was given, call by call."""
    calls: list[int] = []
    real = np.linalg.eigvalsh

    def counted(matrices: Array) -> Array:
        calls.append(len(matrices))
        return real(matrices)

    monkeypatch.setattr(np.linalg, "eigvalsh", counted)
    return calls


# --- exactness ----------------------------------------------------------------------------------------

levels = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0.0, 1e-300, 1e-16, 1e-12, 1e-8, 0.5, 1 - 1e-4, 1 - 1e-8, 1 - 1e-12, 1 - 1e-15, 1.0]),
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_spectrum(data: st.DataObject) -> None:
    """Clusters at the top, at the bottom and throughout, rank one, all zero: against LAPACK and the spectrum itself."""
    side = data.draw(st.integers(4, 12))
    spectra = np.array(data.draw(st.lists(st.lists(levels, min_size=side, max_size=side), min_size=1, max_size=4)))
    scale = 10.0 ** data.draw(st.integers(-80, 80))
    sign = data.draw(st.sampled_from([1.0, 1.0, 1.0, -1.0]))
    matrices = with_spectrum(spectra * scale * sign, data.draw(st.integers(0, 99)))
    size = spectra.max(axis=1) * scale
    truth = np.linalg.eigvalsh(matrices)[:, -1]
    top, proven = by_filter(matrices)
    assert (np.abs(top - truth) <= 8 * side * EPS * size)[proven].all()
    repeated = np.tile(matrices, (300, 1, 1))  # enough of them for the filter
    found = largest_eigenvalue(repeated).reshape(300, -1)
    assert (np.abs(found - truth) <= 8 * side * EPS * size).all()
    assert (np.abs(found - (sign * spectra).max(axis=1) * scale) <= 20 * side * EPS * size).all()


@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.5])
@pytest.mark.parametrize("side", [4, 9, 25, 49])
def test_what_the_filter_calls_proven_is_exact_at_every_gap(gap: float, side: int) -> None:
    rng = np.random.default_rng(1)
    spectra = rng.uniform(0, 1 - gap, size=(200, side))
    spectra[:, 0] = 1
    spectra[:, 1] = 1 - gap
    top, proven = by_filter(with_spectrum(spectra))
    assert np.abs(top - 1)[proven].max(initial=0) <= 8 * side * EPS
    if gap >= 0.5:
        assert proven.all()
    if gap < 1e-6:
        assert not proven.any()


@pytest.mark.parametrize("side", [2, 3, 4, 9, 27, 49, 64, 65, 96])
def test_grams_of_random_kernels(side: int) -> None:
    matrices = grams(1 + 6000 // side**2, 2 * side, side)
    truth = np.linalg.eigvalsh(matrices)[:, -1]
    np.testing.assert_allclose(largest_eigenvalue(matrices), truth, rtol=1e-14)


def test_an_outlier_below_is_not_taken_for_the_largest() -> None:
    """One eigenvalue far below the others is what the filter amplifies most; the proof must refuse it."""
    spectra = np.linspace(0.9, 1, 9)[None] * np.ones((60, 1))
    spectra[:, 0] = -4
    top, proven = by_filter(with_spectrum(spectra))
    assert not (proven & (np.abs(top - 1) > 1e-14)).any()
    np.testing.assert_allclose(largest_eigenvalue(with_spectrum(spectra)), 1, rtol=1e-14)


def test_a_wrong_guess_costs_no_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = grams(200, 30, 9)
    truth = np.linalg.eigvalsh(matrices)[:, -1]
    spread = truth[:, None] * np.linspace(-1.0, 3.0, 23)
    shares = []
    for centre in spread.T:
        for width in (0.01, 0.3, 2.0):
            monkeypatch.setattr(eigenvalues, "_interval", lambda _, c=centre, w=width: (c, w * truth))
            top, proven = by_filter(matrices)
            assert np.abs(top / truth - 1)[proven].max(initial=0) <= 20 * EPS
            shares.append(proven.mean())
    assert min(shares) == 0
    assert max(shares) > 0.5


# --- who does the work --------------------------------------------------------------------------------


def test_the_filter_proves_most_random_kernels(asked: list[int]) -> None:
    matrices = grams(1000, 128, 9)
    largest_eigenvalue(matrices)
    assert sum(asked) < 80


def test_a_cluster_goes_to_lapack_alone(asked: list[int]) -> None:
    spectra = np.ones((100, 1)) * np.array([1.0] + [0.1] * 8)
    spectra[7] = 1.0
    spectra[30, 1] = 1 - 1e-13
    found = largest_eigenvalue(with_spectrum(spectra))
    np.testing.assert_allclose(found, 1, rtol=1e-14)
    assert asked == [2]


@pytest.mark.parametrize("count", [1, 20])
def test_a_few_matrices_go_to_lapack(asked: list[int], count: int) -> None:
    largest_eigenvalue(grams(count, 20, 9))
    assert asked == [count]


def test_squares_too_small_for_float64_prove_nothing() -> None:
    matrices = with_spectrum(np.ones((50, 1)) * np.array([1.0] + [0.1] * 8))
    assert by_filter(matrices)[1].all()
    assert not by_filter(matrices * 1e-200)[1].any()
    np.testing.assert_allclose(largest_eigenvalue(matrices * 1e-200), 1e-200, rtol=1e-14)


def test_the_order_in_memory_does_not_matter(asked: list[int]) -> None:
    matrices = grams(200, 128, 9)
    turned = np.ascontiguousarray(matrices.transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_allclose(largest_eigenvalue(turned), largest_eigenvalue(matrices), rtol=1e-14)
    assert sum(asked) < 40


# --- other batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 9, 97])
def test_hermitian_matrices_of_any_batch_shape(side: int) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(2, 3, side, side)) + 1j * rng.normal(size=(2, 3, side, side))
    matrices = np.matmul(rows, rows.conj().swapaxes(-1, -2))
    truth = np.linalg.eigvalsh(matrices)[..., -1]
    found = largest_eigenvalue(matrices)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, truth, rtol=1e-13)


@pytest.mark.parametrize("side", [1, 3, 9, 100])
def test_an_empty_batch(side: int) -> None:
    assert largest_eigenvalue(np.zeros((0, side, side))).shape == (0,)
