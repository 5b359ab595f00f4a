"""Gram matrices of the smaller side, whichever way BLAS is asked for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnx_clp.numerics.gram import fill_products, mirror

Array = NDArray[Any]


def gram(matrices: Array) -> Array:
    side = min(matrices.shape[1:])
    found = np.full((len(matrices), side, side), np.nan)
    fill_products(matrices, found)
    mirror(found)
    return found


@pytest.mark.parametrize("longer", [0, 1, 40])
@pytest.mark.parametrize("side", [1, 2, 3, 9, 25, 32, 33, 49])
@pytest.mark.parametrize("wide", [False, True])
def test_integers_multiply_exactly(side: int, longer: int, wide: bool) -> None:
    rng = np.random.default_rng(side)
    shape = (3, side, side + longer) if wide else (3, side + longer, side)
    matrices = rng.integers(-50, 50, shape).astype(np.float64)
    rows = matrices if shape[1] <= shape[2] else matrices.transpose(0, 2, 1)
    expected = [[[sum(a * b) for b in one] for a in one] for one in rows]
    np.testing.assert_array_equal(gram(matrices), expected)


@pytest.mark.parametrize("shape", [(5, 64, 9), (5, 9, 64), (5, 1, 9), (5, 60, 40)])
def test_what_is_not_finite_stays_in_its_own_matrix(shape: tuple[int, int, int]) -> None:
    matrices = np.random.default_rng(0).normal(size=shape)
    clean = gram(matrices)
    for place in [(2, 0, 0), (2, -1, -1)]:
        spoilt = matrices.copy()
        spoilt[place] = np.nan
        found = gram(spoilt)
        np.testing.assert_array_equal(np.delete(found, 2, axis=0), np.delete(clean, 2, axis=0))
        assert np.isnan(np.trace(found[2]))
