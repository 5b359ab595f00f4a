"""Scoring against a loop of one SVD a channel: `python -m tools.bench.scoring ROUNDS [WIDTH]`; JSON on stdout.

Every way gets the same float32 weights and its turn in every round; CPU seconds on one thread, medians.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_clp.numerics.lipschitz import sigma

Kernels = NDArray[np.float32]
Scores = NDArray[np.float64]
Way = Callable[[], Sequence[float] | Scores]
_USUAL = 64
_TURN_SECONDS = 0.2
_TURN_REPEATS = 5
PUBLISHED = "torch.svd(w)[1].max() in float32, as the paper's published code"


def shapes(width: int = 64) -> list[tuple[int, int, int]]:
    """ResNet-18's 20 convolutions at a width of its first stage, as (outputs, inputs, taps)."""
    found = [(width, 3, 49)] + [(width, width, 9)] * 4
    for inputs in (width, 2 * width, 4 * width):
        outputs = 2 * inputs
        found += [(outputs, inputs, 9), *[(outputs, outputs, 9)] * 3, (outputs, inputs, 1)]
    return found


def _loop(layers: list[Kernels], norm: Callable[[NDArray[np.float64]], float]) -> list[float]:
    return [norm(kernel.astype(np.float64)) for layer in layers for kernel in layer]


def _contenders(layers: list[Kernels], width: int) -> dict[str, Way]:
    found: dict[str, Way] = {
        "onnx_clp sigma": lambda: np.concatenate([sigma(layer) for layer in layers]),
        "SVD loop, values only": lambda: _loop(layers, lambda k: float(np.linalg.svd(k, compute_uv=False)[0])),
        "SVD loop, thin vectors": lambda: _loop(layers, lambda k: float(np.linalg.svd(k, full_matrices=False)[1][0])),
    }
    if width <= _USUAL:  # a matrix of inputs² for every channel
        found["SVD loop, full vectors"] = lambda: _loop(layers, lambda k: float(np.linalg.svd(k)[1][0]))
    if importlib.util.find_spec("torch") is not None:
        found.update(_torch(layers))
    return found


def _torch(layers: list[Kernels]) -> dict[str, Way]:
    import torch

    torch.set_num_threads(1)
    return {
        "torch SVD loop, values only": lambda: _loop(
            layers, lambda k: float(torch.linalg.svdvals(torch.from_numpy(k)).max())
        ),
        "torch SVD loop, thin vectors": lambda: _loop(layers, lambda k: float(torch.svd(torch.from_numpy(k))[1].max())),
        PUBLISHED: lambda: [float(torch.svd(w)[1].max()) for layer in layers for w in torch.from_numpy(layer)],
    }


def _turn(way: Way) -> tuple[list[float], Scores]:
    """CPU seconds of a few calls, of one if it is slow, and what they return."""
    spent: list[float] = []
    while len(spent) < _TURN_REPEATS and sum(spent) < _TURN_SECONDS:
        start = time.process_time()
        found = way()
        spent.append(time.process_time() - start)
    return spent, np.asarray(found)


def measure(layers: list[Kernels], rounds: int, width: int) -> dict[str, float]:
    """Median CPU seconds of each way; SystemExit where one's scores are not the singular values."""
    contenders = _contenders(layers, width)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Scores] = {}
    for _ in range(rounds):
        for name, way in contenders.items():
            spent, results[name] = _turn(way)
            seconds[name] += spent
    reference = results["SVD loop, values only"]
    for name, found in results.items():
        if not np.allclose(found, reference, rtol=1e-5 if name == PUBLISHED else 1e-12, atol=0):
            raise SystemExit(f"{name}: the scores differ from the singular values")
    return {name: statistics.median(spent) for name, spent in seconds.items()}


def main(rounds: int, width: int = 64) -> None:
    """Print the median CPU seconds of each way, and check that they agree."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        raise SystemExit("set OPENBLAS_NUM_THREADS=1: the ways are compared on one thread")
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes(width)]
    json.dump(measure(layers, rounds, width), sys.stdout)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
