"""Ordinary signals for inputs that take no images, such as sound: rows of photographs, of equal mean and spread.

The brightness along a row of a photograph falls off with the frequency as sound and other signals of nature do (1/f),
and is as little noise as they are. Only inputs of floats are filled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_clp.gauge.crops import grey
from onnx_clp.gauge.photographs import load
from onnx_clp.validation.anatomy import InputSpec

Array = NDArray[Any]
Float32 = NDArray[np.float32]

_LOUDNESS: Final = (1.0, 0.1)
"""Standard deviations of the signals, in turn."""
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def of(specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]], index: int) -> dict[str, Array]:
    """Signal number `index` for every input of floats with at least two dimensions."""
    return {
        spec.name: _signal(shapes[spec.name], index).astype(tensor_dtype_to_np_dtype(spec.elem_type))
        for spec in specs
        if spec.elem_type in _FLOATS and len(shapes[spec.name]) > 1
    }


def _signal(shape: tuple[int, ...], index: int) -> Float32:
    rows, count = _rows(), math.prod(shape)
    row = np.roll(rows[index % len(rows)], index * 7919)
    part = np.resize(row, count)
    spread = float(part.std()) or 1.0
    loudness = _LOUDNESS[index % len(_LOUDNESS)]
    return np.asarray((part - part.mean()) / spread * loudness, np.float32).reshape(shape)


@lru_cache(maxsize=1)
def _rows() -> list[Float32]:
    """The brightness of every photograph, row after row, every other row backwards so that it runs on."""
    found = []
    for photograph in load():
        plane = grey(np.asarray(photograph / 255, np.float32).transpose(2, 0, 1)[None])[0, 0].copy()
        plane[1::2] = plane[1::2, ::-1]
        found.append(plane.ravel())
    return found
