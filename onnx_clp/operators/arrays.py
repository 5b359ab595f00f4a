"""What the rules that compute an operator are given, and what they may take: arrays, within a limit of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.operators.read import Known

Array = NDArray[Any]
Inputs = Sequence["Array | None"]
Rule = Callable[[NodeProto, Inputs], Array]
"""Computes the first output from the inputs; raises where it cannot."""

MAX_BYTES: Final = 1 << 29


class NotConstantError(Exception):
    """The node cannot be evaluated: missing input, unknown attribute, or a result too large."""


def need(inputs: Inputs, slot: int) -> Array:
    """The array at an input slot.

    Raises:
        NotConstantError: there is none.
    """
    value = inputs[slot] if slot < len(inputs) else None
    if value is None:
        raise NotConstantError(f"input {slot} is missing")
    return value


def fit(shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Make sure that a result of a shape and type takes no more than MAX_BYTES.

    Raises:
        NotConstantError: it would.
    """
    if int(np.prod([int(d) for d in shape], dtype=object)) * dtype.itemsize > MAX_BYTES:
        raise NotConstantError(f"a result of shape {tuple(shape)} is too large to evaluate")


def ints(value: Array) -> list[int]:
    """Entries as integers, in order."""
    return [int(v) for v in value.reshape(-1)]


def given(node: NodeProto, inputs: Inputs) -> Known:
    """What `read` takes parameters from: the inputs by their names."""
    return dict(zip(node.input, inputs, strict=False)).get
