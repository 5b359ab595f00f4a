"""Scoring against a loop of one SVD a channel: `python -m tools.bench.scoring ROUNDS [WIDTH]`; JSON on stdout."""

from __future__ import annotations

import importlib.util
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
_USUAL = 64


def shapes(width: int = 64) -> list[tuple[int, int, int]]:
    """ResNet-18's 20 convolutions at a width of its first stage, as (outputs, inputs, taps)."""
    found = [(width, 3, 49)] + [(width, width, 9)] * 4
    for inputs in (width, 2 * width, 4 * width):
        outputs = 2 * inputs
        found += [(outputs, inputs, 9), *[(outputs, outputs, 9)] * 3, (outputs, inputs, 1)]
    return found


def _loop(layers: list[Kernels], norm: Callable[[NDArray[np.float64]], float]) -> list[float]:
    return [norm(kernel.astype(np.float64)) for layer in layers for kernel in layer]


def _contenders(layers: list[Kernels], width: int) -> dict[str, Callable[[], Sequence[float] | Scores]]:
    found: dict[str, Callable[[], Sequence[float] | Scores]] = {
        "onnx_clp sigma": lambda: np.concatenate([sigma(layer) for layer in layers]),
        "SVD loop, values only": lambda: _loop(layers, lambda k: float(np.linalg.svd(k, compute_uv=False)[0])),
        "SVD loop, thin vectors": lambda: _loop(layers, lambda k: float(np.linalg.svd(k, full_matrices=False)[1][0])),
    }
    if width <= _USUAL:  # a matrix of inputs² for every channel
        found["SVD loop, full vectors"] = lambda: _loop(layers, lambda k: float(np.linalg.svd(k)[1][0]))
    if importlib.util.find_spec("torch") is not None:
        found.update(_torch(layers))
    return found


def _torch(layers: list[Kernels]) -> dict[str, Callable[[], Sequence[float] | Scores]]:
    import torch

    torch.set_num_threads(1)
    return {
        "torch SVD loop, values only": lambda: _loop(
            layers, lambda k: float(torch.linalg.svdvals(torch.from_numpy(k)).max())
        ),
        "torch SVD loop, thin vectors": lambda: _loop(layers, lambda k: float(torch.svd(torch.from_numpy(k))[1].max())),
    }


def main(rounds: int, width: int = 64) -> None:
    """Print the median CPU seconds of each way, and check that they agree."""
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes(width)]
    contenders = _contenders(layers, width)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Scores] = {}
    for _ in range(rounds):
        for name, way in contenders.items():
            start = time.process_time()
            found = way()
            seconds[name].append(time.process_time() - start)
            results[name] = np.asarray(found)
    reference = results["SVD loop, values only"]
    if not all(np.allclose(found, reference, rtol=1e-12) for found in results.values()):
        raise SystemExit("the scores differ from the singular values")
    json.dump({name: statistics.median(s) for name, s in seconds.items()}, sys.stdout)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
