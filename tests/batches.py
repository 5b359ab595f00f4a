"""What the tests of batches share: small models, and single runs that cost no interpreter."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_clp.batch import journal, launch
from onnx_clp.cli import main


def model(seed: int = 0, *, outlier: bool = False) -> onnx.ModelProto:
    """Conv > BatchNormalization > Relu with 16 channels of like scores, or one far above the others."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((16, 8, 3, 3)).astype(np.float32)
    if outlier:
        weight[5] *= 20
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    constants = {"w": weight, "g": ones, "b": zeros, "m": zeros, "v": ones}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 4, 4])]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def put(path: Path, seed: int = 0, *, outlier: bool = False, external: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = model(seed, outlier=outlier)
    if external:
        onnx.save(made, path, save_as_external_data=True, location=external, size_threshold=100)
    else:
        onnx.save(made, path)
    return path


class Quick:
    """Stands in for `launch.run`: the real command line, in this process. `runs` counts them by model."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def __call__(self, words: Sequence[str], folder: Path | None, seconds: float, batch: str) -> launch.Ending:  # noqa: ARG002
        assert folder is None
        self.runs.append(Path(words[0]).name)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main.main(words)
        return launch.Ending(code, False, (said.getvalue().splitlines() or [""])[-1])

    def take(self) -> list[str]:
        """The runs since the last call, sorted."""
        runs, self.runs = sorted(self.runs), []
        return runs


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / journal.NAME).read_text(encoding="ascii").splitlines()]


def ends(out: Path) -> dict[str, dict[str, Any]]:
    return {event["name"]: event for event in events(out) if event["event"] == "end"}
