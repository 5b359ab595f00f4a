"""Scoring against a loop of one SVD a channel: `python -m tools.bench.scoring ROUNDS`; JSON on stdout."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_clp.numerics.lipschitz import sigma

Kernels = NDArray[np.float32]
Scores = NDArray[np.float64]
_SHAPES = (
    [(64, 3, 49)]
    + [(64, 64, 9)] * 4
    + [(128, 64, 9), *[(128, 128, 9)] * 3, (128, 64, 1)]
    + [(256, 128, 9), *[(256, 256, 9)] * 3, (256, 128, 1)]
    + [(512, 256, 9), *[(512, 512, 9)] * 3, (512, 256, 1)]
)  # ResNet-18's 20 convolutions, each channel's kernel as (inputs, taps)


def _loop(layers: list[Kernels], norm: Callable[[NDArray[np.float64]], float]) -> list[float]:
    return [norm(kernel.astype(np.float64)) for layer in layers for kernel in layer]


def _contenders(layers: list[Kernels]) -> dict[str, Callable[[], Sequence[float] | Scores]]:
    return {
        "onnx_clp sigma": lambda: np.concatenate([sigma(layer) for layer in layers]),
        "SVD loop, values only": lambda: _loop(layers, lambda k: float(np.linalg.svd(k, compute_uv=False)[0])),
        "SVD loop, thin vectors": lambda: _loop(layers, lambda k: float(np.linalg.svd(k, full_matrices=False)[1][0])),
        "SVD loop, full vectors": lambda: _loop(layers, lambda k: float(np.linalg.svd(k)[1][0])),
    }


def main(rounds: int) -> None:
    """Print the median CPU seconds of each way, and check that they agree."""
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal(shape, dtype=np.float32) for shape in _SHAPES]
    contenders = _contenders(layers)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Scores] = {}
    for _ in range(rounds):
        for name, way in contenders.items():
            start = time.process_time()
            found = way()
            seconds[name].append(time.process_time() - start)
            results[name] = np.asarray(found)
    reference = results["SVD loop, values only"]
    if not np.allclose(results["onnx_clp sigma"], reference, rtol=1e-12):
        raise SystemExit("the scores differ from the singular values")
    json.dump({name: statistics.median(s) for name, s in seconds.items()}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
