"""Means and standard deviations of a model's values on a user's unlabelled inputs.

The arrays of an .npz file are fed to the model in batches; of each batch only sums are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_clp.document.readings import Moments, Readings
from onnx_clp.errors import NotValidated
from onnx_clp.text import quoted
from onnx_clp.validation.anatomy import InputSpec, read_anatomy
from onnx_clp.validation.compare import class_scores
from onnx_clp.validation.inputs import shown
from onnx_clp.validation.npz import Archive
from onnx_clp.validation.plan import Plan
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.refusal import refusal
from onnx_clp.validation.request import Calibration
from onnx_clp.validation.session import Array, FailureKind, Feeds, RunError, Runner, failure, open_runner

BATCH = 16
_FACTORS = ("scale", "offset")


@dataclass(frozen=True, slots=True)
class Material:
    """The rows to feed, by the model's input, each array's first axis counting `rows`.

    `sizes` are batch sizes to try in turn; no batch is padded, so a fixed size leaves out a rest.
    """

    archive: Archive
    arrays: Mapping[str, Array]
    types: Mapping[str, np.dtype[Any]]
    scale: Array | None
    offset: Array | None
    rows: int
    sizes: tuple[int, ...]

    def batch(self, start: int, size: int) -> Feeds:
        """The rows from `start`, as the model takes them."""
        return {
            name: self.archive.prepared(array[start : start + size], self.types[name], self.scale, self.offset)
            for name, array in self.arrays.items()
        }


class Sums:
    """Count, mean and summed squared deviation of one value's channels, batches merged one by one.

    Merging follows Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979), so that a mean far from 0 costs no precision.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: NDArray[np.float64] = np.zeros(1)
        self._squares: NDArray[np.float64] = np.zeros(1)

    def add(self, values: Array, axis_from_end: int) -> None:
        """Take in one batch, its channels on the axis counted from the last (1)."""
        rows = np.moveaxis(values, -axis_from_end, 0).reshape(values.shape[-axis_from_end], -1).astype(np.float64)
        count = rows.shape[1]
        if not count:
            return
        with np.errstate(all="ignore"):
            mean = rows.mean(axis=1)
            squares = np.square(rows - mean[:, None]).sum(axis=1)
            total = self._count + count
            step = mean - self._mean
            self._squares = self._squares + squares + step**2 * (self._count * count / total)
            self._mean = self._mean + step * (count / total)
        self._count = total

    def moments(self) -> Moments:
        """What has gathered; NaN where nothing did, or where a value was not finite."""
        with np.errstate(all="ignore"):
            std = np.sqrt(self._squares / self._count) if self._count else np.full(1, np.nan)
        return Moments(tuple(self._mean.tolist()), tuple(std.tolist()))


def calibrate(request: Calibration, engine: Engine, memory: int) -> Readings:
    """Run the model over the data, of at most half of `memory` bytes once unpacked, and gather `request.values`.

    Raises:
        UsageError: the file is no such archive, or does not fit the model.
        NotValidated: the model does not run.
    """
    material = load(request.data, _inputs(request), memory // 2)
    try:
        try:
            return _measure(open_runner(request.model, engine, Plan(many_runs=True)), material, request.values)
        except RunError as lacking:
            if lacking.kind is not FailureKind.KERNEL:
                raise
            return _measure(open_runner(request.model, engine, reference=True), material, request.values)
    except RunError as refused:
        if refused.kind is FailureKind.MEMORY:
            raise MemoryError(str(refused)) from refused
        raise NotValidated(f"{quoted(request.original)}: {refusal(refused, engine.version)}") from refused


def _inputs(request: Calibration) -> tuple[InputSpec, ...]:
    try:
        return read_anatomy(request.model).inputs
    except MemoryError:
        raise
    except Exception as error:
        raise NotValidated(f"{quoted(request.original)}: not validated because {failure(error)}") from error


def _measure(runner: Runner, material: Material, values: Mapping[str, int]) -> Readings:
    for size in material.sizes:
        try:
            return _gather(runner, material, values, size)
        except (RunError, MemoryError) as error:
            refused = isinstance(error, RunError) and error.kind is FailureKind.KERNEL
            if refused or size == material.sizes[-1]:
                raise
    raise AssertionError("there is at least one batch size")


def _gather(runner: Runner, material: Material, values: Mapping[str, int], size: int) -> Readings:
    sums = {name: Sums() for name in values}
    classes = np.zeros(0, np.int64)
    fixed = len(material.sizes) == 1
    end = material.rows - material.rows % size if fixed else material.rows
    for start in range(0, end, size):
        outputs = runner.run(material.batch(start, size))
        for name, axis in values.items():
            sums[name].add(outputs[name], axis)
        counted = _classes([array for name, array in outputs.items() if name not in values], min(size, end - start))
        classes = counted if not classes.size else classes + counted if classes.shape == counted.shape else classes
    return Readings(end, {name: found.moments() for name, found in sums.items()}, tuple(classes.tolist()))


def _classes(outputs: Sequence[Array], rows: int) -> NDArray[np.int64]:
    """How many inputs of a batch got each class, by the first output of class scores; empty where there is none."""
    for output in outputs:
        scores = class_scores(output)
        if scores is not None and len(scores) == rows:
            return np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]).astype(np.int64)
    return np.zeros(0, np.int64)


def load(path: Path, specs: Sequence[InputSpec], limit: int) -> Material:
    """Read the file at `path` and fit it to a model's inputs.

    A model with one input takes the array of its name, `x` or `x_clean`; one with several takes an array for each.
    `scale` and `offset` mean what they do in an evaluation file.

    Raises:
        UsageError: it is no such archive, an array is missing, does not fit, holds no rows or numbers that are not
            finite.
    """
    archive = Archive("--calibrate", path)
    sources = _Sources(archive, specs)
    arrays = archive.read(sources.choose, limit)
    found: dict[str, Array] = {}
    types: dict[str, np.dtype[Any]] = {}
    for spec in specs:
        name = sources.names[spec.name]
        types[spec.name] = _type(archive, spec)
        found[spec.name] = _fitted(archive, name, arrays[name], spec, types[spec.name])
    rows = {len(array) for array in found.values()}
    if len(rows) > 1:
        archive.refuse("", f"holds arrays of {' and '.join(str(r) for r in sorted(rows))} rows; give each as many")
    fixed = {spec.shape[0] for spec in specs if spec.shape} - {None}
    sizes = [d for d in fixed if isinstance(d, int) and d > 0]
    if len(sizes) > 1:
        archive.refuse("", "cannot be cut into batches: the model's inputs have first dimensions of their own")
    count = rows.pop()
    if sizes and count < sizes[0]:
        archive.refuse("", f"holds {count} rows, the model takes {sizes[0]} at a time")
    scale, offset = (archive.check_factor(name, arrays.get(name)) for name in _FACTORS)
    return Material(archive, found, types, scale, offset, count, tuple(sizes) or (BATCH, 1))


class _Sources:
    """Which array goes to which input: `names` by the input's name, once `choose` has seen what there is."""

    def __init__(self, archive: Archive, specs: Sequence[InputSpec]) -> None:
        self._archive, self._specs = archive, specs
        self.names: dict[str, str] = {}

    def choose(self, there: Sequence[str]) -> list[str]:
        """The arrays to read."""
        if not self._specs:
            self._archive.refuse("", "cannot be fed to a model without inputs")
        alone = len(self._specs) == 1
        for spec in self._specs:
            wanted = [spec.name, "x", "x_clean"] if alone else [spec.name]
            known = [name for name in wanted if name in there]
            if not known:
                names = " or ".join(dict.fromkeys(wanted)) if alone else ", ".join(s.name for s in self._specs)
                self._archive.refuse(wanted[0], f"is missing; this model needs {quoted(names, 200)}")
            self.names[spec.name] = known[0]
        return [*dict.fromkeys(self.names.values()), *(f for f in _FACTORS if f in there)]


def _type(archive: Archive, spec: InputSpec) -> np.dtype[Any]:
    try:
        dtype = np.dtype(tensor_dtype_to_np_dtype(spec.elem_type))
    except KeyError:
        dtype = np.dtype(object)
    if dtype.kind in "OUST":
        archive.refuse("", f"cannot be fed to the model's input {quoted(spec.name, 40)}, which takes no numbers")
    return dtype


def _fitted(archive: Archive, name: str, array: Array, spec: InputSpec, dtype: np.dtype[Any]) -> Array:
    """The array, checked against the input it goes to."""
    if array.dtype.kind not in "fiub":
        archive.refuse(name, f"has type {array.dtype}, not numbers")
    if not array.ndim or not array.size:
        archive.refuse(name, f"has shape {array.shape}, not (inputs, ...) with at least one input")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        archive.refuse(name, "holds NaN or infinite values")
    if array.dtype.kind == "f" and dtype.kind in "iub":
        archive.refuse(name, f"holds fractions, the model takes {dtype}")
    shape = spec.shape
    if shape is None:
        return array
    sizes = zip(shape[1:], array.shape[1:], strict=False)
    if len(shape) != array.ndim or any(isinstance(d, int) and d != n for d, n in sizes):
        archive.refuse(
            name,
            f"has inputs of shape {shown(array.shape[1:])}, "
            f"the model's input {quoted(spec.name, 40)} takes {shown(shape)}",
        )
    return array
