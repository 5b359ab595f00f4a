"""What holds of an operator by trying it: on ONNX's reference implementation, where it has none on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from onnx_clp.operators.nodes import MICROSOFT
from onnx_clp.operators.table import TABLE
from onnx_clp.operators.traits import Kind, Operator, Trait
from tests.operators.examples import Example, Key

Array = NDArray[Any]
Try = Callable[["Node"], bool]


class Node:
    """An operator with an example's inputs, to be run with another first operand."""

    def __init__(self, key: Key, example: Example) -> None:
        self.key, self.example = key, example
        given = example.inputs
        self.first: Array = np.asarray(given[0]) if given else np.zeros(0, np.float32)
        self._feeds = {f"i{at}": np.asarray(v) for at, v in enumerate(given) if not isinstance(v, str)}
        self.model = self._model()
        self._run = self._runner()

    def _model(self) -> ModelProto:
        domain, name = self.key
        names = [f"i{at}" if f"i{at}" in self._feeds else "" for at in range(len(self.example.inputs))]
        outputs = [f"o{at}" for at in range(self.example.outputs)]
        node = helper.make_node(name, names, outputs, domain=domain, **self.example.attributes)
        values = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                None if self.example.runtime and name == "i0" else array.shape,
            )
            for name, array in self._feeds.items()
        ]
        made = [helper.make_tensor_value_info(out, TensorProto.UNDEFINED, None) for out in outputs]
        imports = [helper.make_opsetid("", self.example.opset)] + [helper.make_opsetid(MICROSOFT, 1)] * bool(domain)
        return helper.make_model(helper.make_graph([node], "g", values, made), opset_imports=imports, ir_version=10)

    def _runner(self) -> Callable[[Mapping[str, Array]], list[Any]]:
        if self.example.runtime:
            import onnxruntime as ort  # noqa: TID251  an oracle independent of the package under test

            for value in self.model.graph.output:
                value.ClearField("type")
            session = ort.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])
            return lambda feeds: list(session.run(None, dict(feeds)))
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(self.model)
        return lambda feeds: list(evaluator.run(None, dict(feeds)))

    def of(self, first: Array) -> Array:
        """The first output, with another first operand."""
        feeds = {**self._feeds, "i0": first} if self.example.inputs else {}
        with np.errstate(all="ignore"):
            return np.asarray(self._run(feeds)[0])

    @property
    def plain(self) -> Array:
        return self.of(self.first)

    @property
    def inferred(self) -> tuple[int, int]:
        """Element type and rank of the first output by ONNX's shape inference."""
        made = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        tensor = made.graph.output[0].type.tensor_type
        return tensor.elem_type, len(tensor.shape.dim) if tensor.HasField("shape") else -1


def asked(row: Operator) -> Mapping[Trait, Try]:
    """What must be claimed of an operator where it holds."""
    if Trait.READS_SHAPE in row.traits or row.kind is Kind.MAKE:
        return {trait: TRIES[trait] for trait in (Trait.TYPE, Trait.RANK, Trait.SHAPE)}
    if row.kind in (Kind.POINTWISE, Kind.RETYPE, Kind.QUANTISE):
        return {**TRIES, **OF_ENTRIES}
    return {**TRIES, **OF_SUMS} if row.kind in (Kind.REDUCE, Kind.GLOBAL_POOL) else TRIES


def _type(node: Node) -> bool:
    return node.plain.dtype == node.first.dtype


def _rank(node: Node) -> bool:
    return node.plain.ndim == node.first.ndim


def _shape(node: Node) -> bool:
    return node.plain.shape == node.first.shape


def _zero(node: Node) -> bool:
    return not node.of(np.zeros_like(node.first)).any()


def _even(node: Node) -> bool:
    numbers = [np.asarray(number).astype(node.first.dtype) for number in (3, -3, 0.3, 0)]
    return all(np.allclose(node.of(np.full_like(node.first, n)).astype(float), float(n)) for n in numbers)


def _channels(node: Node) -> bool:
    first, plain = node.first, node.plain
    if first.ndim < 2 or plain.ndim < 2 or plain.shape[1] != first.shape[1]:
        return False
    for channel in range(first.shape[1]):
        other = first.copy()
        other[:, channel] = np.roll(first, 1, axis=-1)[:, channel - 1]
        beside = np.arange(first.shape[1]) != channel
        if not np.array_equal(node.of(other)[:, beside], plain[:, beside], equal_nan=True):
            return False
    return True


def _moves(node: Node) -> bool:
    found = node.plain
    return found.size == node.first.size and bool(
        np.array_equal(np.sort(found, axis=None), np.sort(node.first, axis=None))
    )


def _scale(node: Node) -> bool:
    if node.first.dtype == bool:
        return False
    base = node.first if node.first.dtype.kind == "f" else node.first // 4
    once, twice = (node.of(part.astype(base.dtype)).astype(float) for part in (base, 3 * base))
    return once.shape == twice.shape and bool(np.allclose(3 * once, twice, rtol=1e-5, atol=1e-6))


def _sign(node: Node) -> bool:
    plain = node.plain
    if plain.shape != node.first.shape or "b" in (plain.dtype.kind, node.first.dtype.kind) or plain.dtype.kind == "u":
        return False
    return bool(np.all(plain.astype(float) * node.first.astype(float) >= 0))


def _order(node: Node) -> bool:
    plain = node.plain
    if plain.shape != node.first.shape or bool in (node.first.dtype, plain.dtype):
        return False
    step = np.asarray(1 if node.first.dtype.kind in "iu" else 0.04).astype(node.first.dtype)
    more = np.where(np.arange(node.first.size).reshape(plain.shape) % 2, node.first + step, node.first)
    return bool(np.all(node.of(more.astype(node.first.dtype)).astype(float) >= plain.astype(float)))


def _neutral(node: Node) -> bool:
    wider = np.concatenate([node.first, np.zeros_like(node.first)], axis=-1)
    found = node.of(wider)
    return found.shape == node.plain.shape and bool(np.allclose(found, node.plain, rtol=1e-5))


def _reads_shape(node: Node) -> bool:
    other, plain = node.of(np.zeros_like(node.first)), node.plain
    random = Trait.RANDOM in TABLE[node.key].traits
    return other.shape == plain.shape and (random or bool(np.array_equal(other, plain)))


def _random(node: Node) -> bool:
    return not np.array_equal(node.plain, node.plain)


def _rounds(node: Node) -> bool:
    return node.plain.dtype.kind in "iu"


TRIES: Final[Mapping[Trait, Try]] = {
    Trait.TYPE: _type,
    Trait.RANK: _rank,
    Trait.SHAPE: _shape,
    Trait.ZERO: _zero,
    Trait.EVEN: _even,
    Trait.CHANNELS: _channels,
    Trait.MOVES: _moves,
    Trait.SCALE: _scale,
}
"""What is asked of every operator, both ways."""
OF_ENTRIES: Final[Mapping[Trait, Try]] = {Trait.SIGN: _sign, Trait.ORDER: _order}
"""What is asked, both ways, of what works entry by entry."""
OF_SUMS: Final[Mapping[Trait, Try]] = {Trait.NEUTRAL: _neutral}
"""What is asked, both ways, of what reduces axes."""
CLAIMS: Final[Mapping[Trait, Try]] = {
    **TRIES,
    **OF_ENTRIES,
    **OF_SUMS,
    Trait.READS_SHAPE: _reads_shape,
    Trait.RANDOM: _random,
    Trait.ROUNDS: _rounds,
}
"""What is asked of the operators that claim it."""
