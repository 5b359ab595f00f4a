"""Inputs as they lie on disk, and what a network answers to them, one sample at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
LABEL = "label"

_TOGETHER = 50
_SMALL = 3 * 64 * 64
"""Elements of an input up to which several are run at a time."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Arrays by input name, each (samples, …), and labels where there are any."""

    arrays: dict[str, Array]
    labels: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def first(self, most: int) -> Samples:
        """At most so many of them."""
        labels = None if self.labels is None else self.labels[:most]
        return Samples({name: array[:most] for name, array in self.arrays.items()}, labels)

    def feeds(self) -> list[dict[str, Array]]:
        """What a session is given, sample by sample."""
        return [{name: array[i] for name, array in self.arrays.items()} for i in range(len(self))]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input."""
        return {name: array.shape[1:] for name, array in self.arrays.items()}


def read(path: Path) -> Samples:
    """The samples of a file that `inputs.write` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return Samples(arrays, arrays.pop(LABEL, None))


def session(model: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU that keeps its warnings to itself."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def taken(model: Path) -> str:
    """The name of a network's input."""
    graph = onnx.load(model, load_external_data=False).graph
    held = {tensor.name for tensor in graph.initializer}
    return next(str(value.name) for value in graph.input if value.name not in held)


def answers(model: Path, samples: Samples) -> dict[str, Array]:
    """Outputs by name, each (samples, …)."""
    running = session(model)
    names = [value.name for value in running.get_outputs()]
    rows = _together(running, samples) or [running.run(None, feed) for feed in samples.feeds()]
    return {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _together(running: onnxruntime.InferenceSession, samples: Samples) -> list[tuple[Array, ...]]:
    """What each sample gives, several run at a time; nothing where the network does not keep them apart."""
    (name, images), *more = samples.arrays.items()
    open_ended = not isinstance(running.get_inputs()[0].shape[0], int)
    if more or images.shape[1] != 1 or images[0].size > _SMALL or not open_ended:
        return []
    rows: list[tuple[Array, ...]] = []
    for start in range(0, len(images), _TOGETHER):
        part = images[start : start + _TOGETHER, 0]
        given = running.run(None, {name: part})
        if any(values.ndim < 1 or len(values) != len(part) for values in given):
            return []
        rows += [tuple(values[at : at + 1] for values in given) for at in range(len(part))]
    return rows
