"""Inputs as they lie on disk, and what a network answers to them, one sample at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
LABEL = "label"


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


def answers(model: Path, samples: Samples) -> dict[str, Array]:
    """Outputs by name, each (samples, …)."""
    running = session(model)
    names = [value.name for value in running.get_outputs()]
    rows = [running.run(None, feed) for feed in samples.feeds()]
    return {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
