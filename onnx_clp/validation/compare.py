"""How far two models' outputs on the same inputs lie apart: the agreement that a fold must keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_clp.validation.provider import CUDA, TENSORRT
from onnx_clp.validation.session import Array, Outputs

# Largest allowed max|Δ| / max|reference| of a fold, by the model's least precise arithmetic. Over real
# networks of up to 52 folded normalisations rounding alone reached 2.5e-6 in float32 and 6.2e-3 in float16.
TOLERANCES = {
    "float64": 1e-9,
    "float32": 1e-4,
    "float16": 2e-2,
    "bfloat16": 1e-1,
    "float8": 2.5e-1,
    "quantised": 1e-1,
}
# A GPU may take another algorithm for a convolution once it has a bias (Winograd's among them), and TensorRT fuses
# whatever it is told. Chosen from how far such algorithms differ, not measured here; TF32 is off on both.
_ON_GPU = {
    CUDA: {"float32": 5e-4, "float16": 5e-2},
    TENSORRT: {"float32": 1e-3, "float16": 5e-2},
}
DISCRETE_FLOOR = 0.9


def tolerance_for(precision: str, provider: str) -> float:
    """The largest error allowed to a fold in arithmetic of `precision` on `provider` (ONNX Runtime's name)."""
    return _ON_GPU.get(provider, {}).get(precision, TOLERANCES[precision])


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one output of two models agrees over all draws.

    `error` is max|Δ| / max|reference| of a float output (0 when all values are equal, infinite when they are
    non-finite in different places), `equal` the share of equal entries of any other output. `changed` names
    a changed shape or type and is empty otherwise.
    """

    output: str
    error: float | None
    equal: float | None
    changed: str = ""


def agreements(reference: Sequence[Outputs], other: Sequence[Outputs]) -> list[Agreement]:
    """One agreement per output of `reference`; both hold the outputs of the same draws in the same order."""
    with np.errstate(all="ignore"):
        return [_agreement(name, [r[name] for r in reference], [o.get(name) for o in other]) for name in reference[0]]


def disagrees(agreement: Agreement, tolerance: float, data_dependent: bool = False) -> bool:
    """Whether an output changed beyond `tolerance`; a discrete shape may follow the data."""
    if agreement.changed:
        return agreement.error is not None or not data_dependent
    return agreement.error is not None and agreement.error > tolerance


def _agreement(name: str, reference: list[Array], other: list[Array | None]) -> Agreement:
    floating = is_float(reference[0].dtype)
    pairs = [(r, o) for r, o in zip(reference, other, strict=True) if o is not None]
    changed = next((c for r, o in pairs if (c := change(r, o))), "" if len(pairs) == len(reference) else "missing")
    if changed:
        return Agreement(name, math.inf if floating else None, None if floating else 0.0, changed)
    if not floating:
        total = sum(r.size for r, _ in pairs)
        same = sum(int(np.count_nonzero(r == o)) for r, o in pairs)
        return Agreement(name, None, same / total if total else 1.0)
    worst, scale = 0.0, 0.0
    for r, o in pairs:
        delta, size = _distance(wide(r), wide(o))
        worst, scale = max(worst, delta), max(scale, size)
    return Agreement(name, worst / (scale or 1.0), None)


def _distance(reference: Array, other: Array) -> tuple[float, float]:
    """(max|Δ|, max|reference|) over finite entries; an infinite Δ where non-finite entries differ."""
    finite = np.isfinite(reference)
    if not np.array_equal(reference[~finite], other[~finite], equal_nan=True) or not np.isfinite(other[finite]).all():
        return math.inf, 0.0
    r, o = reference[finite], other[finite]
    return float(np.max(np.abs(r - o), initial=0.0)), float(np.max(np.abs(r), initial=0.0))


def change(reference: Array, other: Array) -> str:
    """In words, how `other`'s type or shape differs from `reference`'s; empty when it does not."""
    if reference.dtype != other.dtype:
        return f"type {reference.dtype} became {other.dtype}"
    if reference.shape != other.shape:
        return f"shape {reference.shape} became {other.shape}"
    return ""


def identical(reference: Array, other: Array | None) -> bool:
    """Whether type, shape and every value are the same, NaN equal to NaN."""
    if other is None or change(reference, other):
        return False
    if is_float(reference.dtype):
        return np.array_equal(wide(reference), wide(other), equal_nan=True)
    return np.array_equal(reference, other)


def class_scores(output: Array) -> Array | None:
    """`output` as (images, classes) when it has that form, trailing axes of length 1 dropped; else None."""
    if not is_float(output.dtype) or output.ndim < 2 or output.shape[1] < 2 or set(output.shape[2:]) - {1}:
        return None
    return wide(output).reshape(output.shape[:2])


def turned_non_finite(reference: Array, other: Array) -> int:
    """How many entries are finite in `reference` and not in `other`, or the excess where shapes differ."""
    if not is_float(reference.dtype):
        return 0
    if reference.shape == other.shape:
        return int(np.count_nonzero(np.isfinite(wide(reference)) & ~np.isfinite(wide(other))))
    bad = [int(np.count_nonzero(~np.isfinite(wide(a)))) for a in (reference, other)]
    return max(0, bad[1] - bad[0])


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` holds real or complex numbers, ml_dtypes' formats included."""
    return dtype.name.startswith(("float", "bfloat", "complex"))


def wide(array: Array) -> Array:
    """`array` in float64 or complex128."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
