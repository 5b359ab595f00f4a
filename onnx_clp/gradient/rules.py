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

RULES: Final[Rules] = {
    **elementwise.RULES,
    **products.RULES,
    **reduction.RULES,
    **layout.RULES,
    **selection.RULES,
    **convolution.RULES,
    **pooling.RULES,
    **normalisation.RULES,
    **quantised.RULES,
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
