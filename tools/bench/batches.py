"""What a batch costs beside the runs themselves: many small models, the same ones run singly, and a resume.

    python -m tools.bench.batches [--models 1000] [--jobs 2] [--no-validate]

The wall-clock time of single runs is taken on a sample, as many at a time as the batch has, so that both
compete for the machine in the same way. The processor time of the batch's own process is counted by the
system and does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_clp.batch.command import Sinks, run

SAMPLE = 100


def main() -> None:
    """Make the models, run them singly, as a batch and again, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-validate", action="store_true")
    given = parser.parse_args()
    options = ["--no-validate"] if given.no_validate else []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = [_make(folder / "in" / f"{at % 10}" / f"{at}.onnx", at) for at in range(given.models)]
        before = _singly(paths[: SAMPLE // 2], folder / "singly", given.jobs, options)
        words = [str(folder / "in"), str(folder / "out"), "--jobs", str(given.jobs), *options]
        batch, own = _batch(words)
        again, own_again = _batch(words)
        after = _singly(paths[-SAMPLE // 2 :], folder / "singly again", given.jobs, options)
    single = (before + after) / min(SAMPLE, 2 * given.models)
    each = batch * given.jobs / given.models
    print(f"{given.models} models, {given.jobs} at a time: {batch:.1f} s")
    print(f"a model in the batch: {1e3 * each:.0f} ms; singly, as many at a time: {1e3 * single * given.jobs:.0f} ms")
    print(f"processor time of the batch's own process: {1e3 * own / given.models:.1f} ms a model")
    print(f"a model kept on resume: {1e3 * again / given.models:.1f} ms ({1e3 * own_again / given.models:.1f} ms CPU)")


def _make(path: Path, seed: int) -> Path:
    """A network of two convolutions with BatchNormalization, 3 to 16 to 16 channels."""
    random = np.random.default_rng(seed)
    nodes, constants, last, width = [], [], "x", 3
    for at in range(2):
        shapes = {"w": (16, width, 3, 3), "g": (16,), "b": (16,), "m": (16,), "v": (16,)}
        for name, shape in shapes.items():
            values = random.random(shape) + 0.5 if name in "gv" else random.standard_normal(shape)
            constants.append(numpy_helper.from_array(values.astype(np.float32), f"{name}{at}"))
        nodes.append(helper.make_node("Conv", [last, f"w{at}"], [f"c{at}"], pads=[1, 1, 1, 1]))
        statistics = [f"{name}{at}" for name in "gbmv"]
        nodes.append(helper.make_node("BatchNormalization", [f"c{at}", *statistics], [f"n{at}"]))
        nodes.append(helper.make_node("Relu", [f"n{at}"], [f"r{at}"]))
        last, width = f"r{at}", 16
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 8, 8]) for n, c in (("x", 3), (last, 16))]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _batch(words: Sequence[str]) -> tuple[float, float]:
    """Seconds of wall-clock time, and of processor time of this process, threads included."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    code = run(words, Sinks(lambda _: None, print, False))
    after = resource.getrusage(resource.RUSAGE_SELF)
    if code:
        raise SystemExit(f"the batch ended with {code}")
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def _singly(paths: Sequence[Path], out: Path, jobs: int, options: Sequence[str]) -> float:
    """Seconds for single runs of these models, `jobs` at a time."""
    out.mkdir()
    start = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        commands = [
            [sys.executable, "-m", "onnx_clp", path, out / path.name, "-q", "--report", f"{out / path.name}.json"]
            for path in paths
        ]
        for done in pool.map(lambda command: subprocess.run([*command, *options], check=True), commands):
            assert done.returncode == 0
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
