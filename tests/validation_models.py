"""Small models the validation tests run, and the shorthand to run them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import helper, numpy_helper, parser

from onnx_clp.config import RunLimits
from onnx_clp.validation.proof import prove
from onnx_clp.validation.provider import choose
from onnx_clp.validation.request import Outcome, Request

MEMORY = 8 << 30
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.float16): 10, np.dtype(np.float64): 11}
_TYPES[np.dtype(ml_dtypes.bfloat16)] = 16


def text_model(body: str, folder: Path, name: str = "original.onnx", *, opset: int = 17, ir: int = 8) -> Path:
    """Parse ONNX text (a graph) and save it."""
    model = parser.parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}]> {body}')
    return save(model, folder / name)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write `model` and give the path back."""
    path.write_bytes(model.SerializeToString())
    return path


def network(
    *,
    folded: bool,
    dtype: DTypeLike = np.float32,
    tweak: float = 1.0,
    bias: float = 0.0,
    opset: int = 17,
    dims: tuple[int | str, ...] = ("n", 3, 8, 8),
) -> onnx.ModelProto:
    """Conv > BatchNormalization > Relu > GlobalAveragePool > Flatten > Gemm with 5 classes.

    `tweak` multiplies the first channel's weights, `bias` is added to the Gemm's bias.
    """
    rng = np.random.default_rng(7)
    kind = np.dtype(dtype)
    weight = rng.standard_normal((4, 3, 3, 3))
    gamma, beta, mean = rng.standard_normal((3, 4))
    var = rng.random(4) + 0.5
    arrays = {"fc": rng.standard_normal((4, 5)), "fb": np.full(5, bias)}
    scale = gamma / np.sqrt(var + 1e-5)
    if folded:
        weight = weight * scale[:, None, None, None]
        arrays |= {"b": beta - mean * scale}
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["h"])]
    else:
        arrays |= {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["h"]),
        ]
    weight[0] *= tweak
    arrays["w"] = weight
    nodes += [
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fb"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", _TYPES[kind], list(dims))],
        [helper.make_tensor_value_info("y", _TYPES[kind], [dims[0], 5])],
        [numpy_helper.from_array(a.astype(kind), name) for name, a in arrays.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def run(original: Path, folded: Path | None = None, final: Path | None = None, **options: object) -> Outcome:
    """Prove in this process, on the CPU, without the caps a child has."""
    names = {field.name for field in fields(RunLimits)}
    limits = RunLimits(**{"provider": "cpu", **{k: v for k, v in options.items() if k in names}})  # type: ignore[arg-type]
    more = {k: v for k, v in options.items() if k not in names}
    request = Request(original=original, folded=folded, final=final, limits=limits, **more)  # type: ignore[arg-type]
    return prove(request, choose("cpu"), MEMORY)
