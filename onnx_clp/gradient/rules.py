"""Which operators have a rule, and which have a gradient of zero."""

from __future__ import annotations

from typing import Final

from onnx_clp.gradient import (
    convolution,
    elementwise,
    layout,
    normalisation,
    pooling,
    products,
    quantised,
    reduction,
    selection,
)
from onnx_clp.gradient.tape import Rules

GRADIENTS: Final[Rules] = {
    **elementwise.GRADIENTS,
    **products.GRADIENTS,
    **reduction.GRADIENTS,
    **layout.GRADIENTS,
    **selection.GRADIENTS,
    **convolution.GRADIENTS,
    **pooling.GRADIENTS,
    **normalisation.GRADIENTS,
    **quantised.GRADIENTS,
}
"""One function for each standard operator that a gradient can pass."""

FLAT: Final = frozenset(
    (
        "Shape",
        "Size",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Not",
        "IsNaN",
        "IsInf",
        "ArgMax",
        "ArgMin",
        "NonZero",
        "Sign",
        "Floor",
        "Ceil",
        "Round",
        "ConstantOfShape",
        "OneHot",
        "EyeLike",
        "NonMaxSuppression",
    )
)
"""Operators whose outputs do not change with their inputs, but for jumps: no gradient passes them."""
