"""Hold a gradient rule to central differences: in float64 by onnx.reference, in float32 by ONNX Runtime.

One operator y = op(inputs) is made into the scalar Σ r·y with fixed random r. Its derivative along random
directions v, (f(x + hv) − f(x − hv)) / 2h, must be ⟨gradient, v⟩.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_clp.gradient.differentiate import Differentiated, differentiate

Array = NDArray[Any]
DIRECTIONS = 4


@dataclass(frozen=True)
class Case:
    """One use of one operator.

    Attributes:
        op: the operator.
        inputs: arrays, None for one left out; float ones are drawn in float64 and cast.
        wanted: the slots differentiated; the others are initializers.
        attributes: of the node.
        opset: of the model.
        outputs: how many outputs the node has.
        linear: whether the differences may be taken with a step of 1.
        dynamic: whether the sizes of the inputs are left open.
        reference: whether onnx.reference computes this form as the specification says.
    """

    op: str
    inputs: Sequence[Array | None]
    wanted: tuple[int, ...] = (0,)
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: int = 1
    linear: bool = False
    dynamic: bool = False
    reference: bool = True


def draw(*shape: int, seed: int = 0) -> Array:
    """Normal numbers, none nearer to 0 than 0.01 and no two nearer than 0.001."""
    generator = np.random.default_rng([seed, *shape])
    count = int(np.prod(shape))
    values = generator.standard_normal(count)
    values = np.sign(values) * np.maximum(np.abs(values), 0.01) + np.sign(values) * 0.002 * generator.permutation(count)
    return np.asarray(values.reshape(shape))


def build(case: Case, dtype: type[np.floating[Any]]) -> onnx.ModelProto:
    """The model f = Σ r·op(inputs), in one floating-point type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    names = ["" if value is None else f"x{slot}" for slot, value in enumerate(case.inputs)]
    outs = [f"y{at}" for at in range(case.outputs)]
    node = helper.make_node(case.op, names, outs, **case.attributes)
    given, stored = [], []
    for slot, value in enumerate(case.inputs):
        if value is None:
            continue
        value = value.astype(dtype) if value.dtype == np.float64 else value
        if slot in case.wanted:
            dims: list[Any] = [f"d{slot}_{a}" for a in range(value.ndim)] if case.dynamic else list(value.shape)
            given.append(helper.make_tensor_value_info(names[slot], kind, dims))
        else:
            stored.append(numpy_helper.from_array(value, names[slot]))
    bare = helper.make_graph([node], "g", given, [helper.make_tensor_value_info(o, kind, None) for o in outs], stored)
    results = forward(_model(bare, case), _feeds(case, np.float32 if dtype is np.float32 else dtype), case, dtype)
    nodes, terms = [node], []
    for at, (name, value) in enumerate(zip(outs, results, strict=True)):
        stored.append(numpy_helper.from_array(draw(*value.shape, seed=9 + at).astype(dtype), f"r{at}"))
        nodes.append(helper.make_node("Mul", [name, f"r{at}"], [f"p{at}"]))
        nodes.append(helper.make_node("ReduceSum", [f"p{at}"], [f"s{at}"], keepdims=0))
        terms.append(f"s{at}")
    nodes.append(helper.make_node("Sum", terms, ["f"]))
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("f", kind, [])], stored)
    return _model(graph, case)


def _model(graph: onnx.GraphProto, case: Case) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)


def _feeds(case: Case, dtype: type[np.floating[Any]]) -> dict[str, Array]:
    return {f"x{slot}": np.asarray(case.inputs[slot]).astype(dtype) for slot in case.wanted}


def forward(model: onnx.ModelProto, feeds: dict[str, Array], case: Case, dtype: type[np.floating[Any]]) -> list[Array]:
    """Every output of a model: by onnx.reference in float64, by ONNX Runtime in float32."""
    if dtype is np.float64 and case.reference:
        return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feeds)]
    return list(runtime(model).run(None, feeds))


def runtime(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The model in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def check(case: Case) -> Differentiated:
    """Assert that the gradient of a case is right; the float32 model."""
    exact = _gradients(case, np.float64) if case.reference else None
    if case.reference:
        _hold_to_differences(case, np.float64, exact or {}, 1.0 if case.linear else 1e-5, 1e-6)
    single = _gradients(case, np.float32)
    if exact is not None:
        for slot, expected in exact.items():
            _close(single[slot], expected, 1e-4, f"input {slot} in float32")
    else:
        _hold_to_differences(case, np.float32, single, 1.0 if case.linear else 1e-2, 1e-4 if case.linear else 2e-3)
    return _differentiated(case, np.float32)


def _differentiated(case: Case, dtype: type[np.floating[Any]]) -> Differentiated:
    found = differentiate(build(case, dtype), "f", [f"x{slot}" for slot in case.wanted])
    onnx.checker.check_model(found.model)
    return found


def _gradients(case: Case, dtype: type[np.floating[Any]]) -> dict[int, Array]:
    found = _differentiated(case, dtype)
    names = [o.name for o in found.model.graph.output]
    values = dict(zip(names, forward(found.model, _feeds(case, dtype), case, dtype), strict=True))
    out = {slot: values[found.gradients[f"x{slot}"]] for slot in case.wanted}
    for slot, gradient in out.items():
        value = case.inputs[slot]
        assert value is not None
        assert gradient.shape == value.shape
        assert gradient.dtype == dtype
        assert case.linear or np.abs(gradient).max() > 0, "a gradient of zeros proves nothing"
    return out


def _hold_to_differences(
    case: Case, dtype: type[np.floating[Any]], gradients: dict[int, Array], step: float, tolerance: float
) -> None:
    model, feeds = build(case, dtype), _feeds(case, dtype)
    value = _function(model, case, dtype)
    for at in range(DIRECTIONS):
        for slot, gradient in gradients.items():
            along = draw(*gradient.shape, seed=100 + at).astype(dtype)
            ends = [value({**feeds, f"x{slot}": feeds[f"x{slot}"] + s * along}) for s in (dtype(step), dtype(-step))]
            measured, claimed = (ends[0] - ends[1]) / (2 * step), float(np.vdot(gradient, along))
            size = float(np.linalg.norm(gradient) * np.linalg.norm(along))
            assert abs(measured - claimed) <= tolerance * max(size, 1e-6), (
                f"input {slot}: {claimed}, measured {measured}"
            )


def _function(model: onnx.ModelProto, case: Case, dtype: type[np.floating[Any]]) -> Callable[[dict[str, Array]], float]:
    if dtype is np.float64 and case.reference:
        reference = ReferenceEvaluator(model)
        return lambda feeds: float(np.asarray(next(iter(reference.run(None, feeds)))).item())
    session = runtime(model)
    return lambda feeds: float(np.asarray(session.run(None, feeds)[0]).item())


def _close(found: Array, expected: Array, tolerance: float, what: str) -> None:
    scale = max(np.abs(expected).max(), 1e-9)
    error = np.abs(found - expected).max() / scale
    assert error <= tolerance, f"{what}: relative error {error}"
