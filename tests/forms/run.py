"""Runs a form on seeded inputs, in ONNX Runtime or in onnx.reference, and compares two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
from onnx import ModelProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.forms.build import Array, Oracle

# max|Δ| / max|reference|: a fold rounds each weight once more, in the stored type.
TOLERANCE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 4e-2, "float64": 1e-10}

Feeds = Mapping[str, Array]


class BatchNormalization(OpRun):
    """BatchNormalization of opsets 1 to 15 by the specification's text (onnx.reference trains at 7 to 13)."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **_: object) -> tuple[Array, ...]:
        given = {a.name: helper.get_attribute_value(a) for a in self.onnx_node.attribute}
        shape = (1, *scale.shape) if scale.ndim > 1 else (1, -1, *(1,) * (x.ndim - 2))
        if self._trains(given):
            axes = tuple(i for i in range(x.ndim) if i != 1)
            mean, var = x.mean(axis=axes, dtype=np.float64), x.var(axis=axes, dtype=np.float64)
        wide = [np.asarray(a, np.float64).reshape(shape) for a in (scale, bias, mean, var)]
        epsilon = given.get("epsilon", 1e-5)
        y = (x.astype(np.float64) - wide[2]) / np.sqrt(wide[3] + epsilon) * wide[0] + wide[1]
        statistics = (mean, var, mean, var)
        return (y.astype(x.dtype), *statistics[: len(self.onnx_node.output) - 1])

    def _trains(self, given: Mapping[str, Any]) -> bool:
        opset = self.run_params["opsets"].get("", 1)
        if opset < 7:
            return not given.get("is_test", 0)
        if opset < 14:
            return len(self.onnx_node.output) > 1
        return bool(given.get("training_mode", 0))


class Twice(OpRun):
    """A contrib-like operator of no known domain: doubles its input."""

    op_domain = "com.acme"

    def _run(self, x: Array) -> tuple[Array]:
        return (x + x,)


class Dropout(OpRun):
    """Dropout of opset 6 and before with is_test = 1: the input as it is."""

    op_domain = ""

    def _run(self, x: Array, **_: object) -> tuple[Array]:
        return (x,)


def _legacy(symbol: str) -> type[OpRun]:
    """Mul or Add of opset 6 and before, where `broadcast` and `axis` place a shorter second operand."""

    class Legacy(OpRun):
        op_domain = ""

        def _run(self, a: Array, b: Array, **_: object) -> tuple[Array]:
            given = {at.name: helper.get_attribute_value(at) for at in self.onnx_node.attribute}
            if given.get("broadcast") and "axis" in given:
                b = b.reshape(b.shape + (1,) * (a.ndim - given["axis"] - b.ndim))
            return (a * b if symbol == "Mul" else a + b,)

    Legacy.__name__ = symbol
    return Legacy


def feeds(model: ModelProto) -> list[Feeds]:
    """Seeded inputs; one set, or one for each value of the model's boolean inputs together."""
    given = {i.name for i in model.graph.initializer} | {s.values.name for s in model.graph.sparse_initializer}
    inputs = [i for i in model.graph.input if i.name not in given]
    boolean = any(i.type.tensor_type.elem_type == 9 for i in inputs)
    flags = (True, False) if boolean else (True,)
    return [{i.name: _values(i, n, flag) for n, i in enumerate(inputs)} for flag in flags]


def _values(info: ValueInfoProto, seed: int, flag: bool) -> Array:
    tensor = info.type.tensor_type
    shape = [d.dim_value or 2 for d in tensor.shape.dim]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    rng = np.random.default_rng([3, seed])
    if dtype == np.bool_:
        return np.full(shape, flag)
    if dtype == np.int64:
        return np.full(shape, 3, np.int64)
    if dtype.kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    return rng.normal(0, 1, shape).astype(dtype)


def outputs(model: ModelProto | str, feed: Feeds, oracle: Oracle) -> list[Array]:
    """The model's outputs, graph optimisation off; `model` may be a path (external data)."""
    if oracle is Oracle.ORT:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        source = model if isinstance(model, str) else model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return [np.asarray(o) for o in session.run(None, dict(feed))]
    assert isinstance(model, ModelProto)
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(model, new_ops=_operators(model))
        return [np.asarray(o) for o in evaluator.run(None, dict(feed))]


def _operators(model: ModelProto) -> list[type[OpRun]]:
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    old: list[type[OpRun]] = [Dropout, _legacy("Mul"), _legacy("Add")] if opset < 7 else []
    return [BatchNormalization, Twice, *old]


def difference(got: Sequence[Array], wanted: Sequence[Array], tolerance: float | None) -> str:
    """What is wrong with `got` in words; empty when it agrees."""
    if len(got) != len(wanted):
        return f"{len(got)} outputs instead of {len(wanted)}"
    found = (_difference(g, w, tolerance) for g, w in zip(got, wanted, strict=True))
    return next((words for words in found if words), "")


def _difference(got: Array, wanted: Array, tolerance: float | None) -> str:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"{got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}"
    if wanted.dtype.kind in "iub" and wanted.dtype != ml_dtypes.bfloat16:
        # Requantised activations may land one step away where the float before them moved by rounding.
        steps = np.abs(got.astype(np.int64) - wanted.astype(np.int64)).max(initial=0)
        return f"integers {steps} steps apart" if steps > 1 else ""
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return "finite and non-finite values differ"
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return "non-finite values differ"
    error = np.abs(a[finite] - b[finite]).max(initial=0.0)
    allowed = TOLERANCE[str(wanted.dtype)] if tolerance is None else tolerance
    scale = np.abs(b[finite]).max(initial=0.0)
    return f"off by {error:.3g} of {scale:.3g}" if error > allowed * max(scale, 1e-12) else ""
