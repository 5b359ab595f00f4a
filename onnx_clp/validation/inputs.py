"""Seeded inputs of valid shape and type, and sizes to try for the dimensions a model leaves open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.text import quoted
from onnx_clp.validation.anatomy import Dim, InputSpec
from onnx_clp.validation.session import Array

Shapes = dict[str, tuple[int, ...]]
Ints = Literal["small", "binary", "zeros", "ones"]

_INTS: tuple[Ints, ...] = ("small", "binary", "zeros", "ones")
# A cheap image size that networks without fixed dense layers take, then the common ones; the small ones at
# the end reach models of tokens, tabular rows and states.
_IMAGES = (64, 224, 32, 28, 96, 112, 128, 160, 192, 256, 299, 320, 384, 416, 512, 640)
SIZES = (*_IMAGES, 48, 40, 24, 16, 8, 4, 2, 1)
_VOLUME_SIZES = (32, 64, 16, 28, 48, 96, 8, 4, 2, 1)
_CHANNELS = (3, 1, 4, 2)
_OPEN_RANKS: tuple[tuple[Dim, ...], ...] = (
    (None, None, None, None),
    (None, None),
    (None, None, None),
    (None,),
    (),
)
_LARGEST = 1 << 31


def trial_shapes(specs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]]) -> Iterator[Shapes]:
    """Shapes for all inputs, the likeliest first, none twice.

    What `given` says is kept, also for other inputs that use the same symbol; batch dimensions are 1. Open
    dimensions of inputs after the first (states, lengths) are tried at the first one's size and at 1.

    Raises:
        UsageError: `given` names no input, or contradicts a size the model fixes.
    """
    _check_given(specs, given)
    if not specs:
        yield {}
    known = _known_symbols(specs, given)
    tried: set[tuple[tuple[int, ...], ...]] = set()
    for filler in _OPEN_RANKS if any(s.shape is None for s in specs) else _OPEN_RANKS[:1]:
        for size, side, channels in _sizes(specs):
            sizes = [size, *[side] * len(specs)]
            shapes = {
                s.name: given[s.name] if s.name in given else _fill(s, filler, known, n, channels)
                for s, n in zip(specs, sizes, strict=False)
            }
            key = tuple(shapes.values())
            if key not in tried:
                tried.add(key)
                yield shapes


def integer_fillings(specs: Sequence[InputSpec]) -> tuple[Ints, ...]:
    """Ways to fill integer inputs, to be tried in turn: they may be indices, lengths or flags."""
    wide = {TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}
    wide |= {TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
    return _INTS if any(s.elem_type in wide for s in specs) else _INTS[:1]


def _sizes(specs: Sequence[InputSpec]) -> Iterator[tuple[int, int, int]]:
    """(size of the first input's open dimensions, of the other inputs', channels) to try, in order."""
    volumes = any(s.shape is not None and sum(not isinstance(d, int) for d in s.shape[2:]) > 2 for s in specs)
    for channels in _CHANNELS:
        for size in _VOLUME_SIZES if volumes else SIZES:
            for side in (size, 1)[: len(specs)]:
                yield size, side, channels


def _check_given(specs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]]) -> None:
    by_name = {s.name: s for s in specs}
    for name, shape in given.items():
        spec = by_name.get(name)
        if spec is None:
            names = ", ".join(quoted(n, 60) for n in by_name) or "none"
            raise UsageError(f"--shape {quoted(name, 60)}: the model has no such input; it has {names}")
        declared = spec.shape
        if declared is not None and not _fits(shape, declared):
            raise UsageError(f"--shape {quoted(name, 60)}: {shown(shape)} does not fit the model's {shown(declared)}")


def _fits(shape: tuple[int, ...], declared: tuple[Dim, ...]) -> bool:
    pairs = zip(shape, declared, strict=False)
    return len(shape) == len(declared) and all(not isinstance(d, int) or s == d for s, d in pairs)


def _known_symbols(specs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of symbols: a first dimension is a batch, as is what is called one; what is given wins."""
    known: dict[str, int] = {}
    for spec in specs:
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str) and (axis == 0 or "batch" in dim.lower()):
                known[dim] = 1
    for spec in specs:
        for dim, size in zip(spec.shape or (), given.get(spec.name, ()), strict=False):
            if isinstance(dim, str):
                known[dim] = size
    return known


def _fill(
    spec: InputSpec, filler: tuple[Dim, ...], known: Mapping[str, int], size: int, channels: int
) -> tuple[int, ...]:
    dims = filler if spec.shape is None else spec.shape
    channel_axis = 1 if spec.channel_axis is None and len(dims) > 3 else spec.channel_axis
    filled = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            filled.append(dim)
        elif isinstance(dim, str) and dim in known:
            filled.append(known[dim])
        elif axis == channel_axis:
            filled.append(spec.channels or channels)
        else:
            filled.append(1 if axis == 0 else size)
    return tuple(filled)


def draw(
    specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]], seed: int, index: int, ints: Ints
) -> dict[str, Array]:
    """One set of inputs: draw `index` of `seed`.

    Even draws fill floats from the standard normal distribution, odd ones uniformly from 0..1. 8-bit
    integers span their range, as images do; wider ones follow `ints`. Equal arguments give equal arrays.

    Raises:
        NotValidated: an input is of a type no values can be made for, or too large to make.
    """
    rng = np.random.default_rng([seed, index])
    return {spec.name: _values(rng, spec, shapes[spec.name], index, ints) for spec in specs}


def _values(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...], index: int, ints: Ints) -> Array:
    if math.prod(shape) >= _LARGEST:
        raise NotValidated(
            f"not validated because input {quoted(spec.name, 60)} of shape {shown(shape)} is too large "
            "to make; say another with --shape"
        )
    try:
        dtype = tensor_dtype_to_np_dtype(spec.elem_type)
    except KeyError:
        raise NotValidated(
            f"not validated because input {quoted(spec.name, 60)} is of a type that no inputs are made "
            "for; go without a proof with --no-validate"
        ) from None
    # Of rank 0 NumPy draws scalars, and ONNX Runtime takes arrays alone.
    return np.asarray(_of_type(rng, np.dtype(dtype), shape, index, ints))


def _of_type(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], index: int, ints: Ints
) -> ArrayLike:
    if dtype.kind in "OUST":
        return np.full(shape, "a", dtype=object)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        if dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        return _integers(rng, shape, ints).astype(dtype)
    values = rng.standard_normal(shape, np.float32) if index % 2 == 0 else rng.random(shape, np.float32)
    return values.astype(dtype)


def _integers(rng: np.random.Generator, shape: tuple[int, ...], ints: Ints) -> Array:
    if ints in ("zeros", "ones"):
        return np.full(shape, int(ints == "ones"))
    return rng.integers(0, 10 if ints == "small" else 2, shape)


def shown(shape: Sequence[Dim]) -> str:
    """A shape as the command line takes it, open dimensions as their symbol or "?"."""
    return ",".join(quoted("?" if d is None else d, 40) for d in shape) or "a scalar"
