"""Gram matrices of many small matrices: of the smaller side, whose eigenvalues are the squared singular values."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_CORNERED_SIDE: Final = 32


def fill_products(matrices: Float64, out: Float64) -> None:
    """Write the inner products of each matrix's vectors along its longer side, all that `mirror` cannot.

    Args:
        matrices: shape (count, rows, columns), neither side 0.
        out: shape (count, n, n) with n = min(rows, columns), C-contiguous.

    NumPy hands a product of an array with its own transpose to BLAS's syrk, which takes two to three times as long
    as gemm on so small a side. Hence all vectors but the last times all but the first, and two corners: a 3×3 or 5×5
    kernel's 9 or 25 taps less one also fill whole vector registers.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    vectors = matrices if wide else matrices.transpose(0, 2, 1)
    side = vectors.shape[1]
    if side > _CORNERED_SIDE:
        np.matmul(vectors, vectors.transpose(0, 2, 1), out=out)
        return
    if side == 1:
        np.vecdot(vectors[:, 0], vectors[:, 0], out=out[:, 0, 0])
        return
    np.matmul(vectors[:, :-1], vectors[:, 1:].transpose(0, 2, 1), out=out[:, :-1, 1:])
    ends = vectors[:, :: side - 1]
    np.vecdot(ends, ends, out=out.reshape(len(out), -1)[:, :: side**2 - 1])


def mirror(products: Float64) -> None:
    """Complete the symmetric matrices that `fill_products` began: first column and last row."""
    products[:, 1:, 0] = products[:, 0, 1:]
    products[:, -1, 1:-1] = products[:, 1:-1, -1]
