"""Right folds pass, and a fold of one channel that is wrong by 1 % does not: on random networks, counted.

    python -m tools.trials.folding [NETWORKS] [FIRST SEED]

Each network is folded and proven with three seeds of the inputs; then one channel of one folded layer is made 1 %
larger, weight and bias, and the proof is asked again. Prints how many right folds passed and how many wrong ones were
caught, and the seeds of the others.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import onnx_clp
from onnx_clp.config import RunLimits
from onnx_clp.errors import ValidationFailed
from onnx_clp.validation import Request
from onnx_clp.validation.proof import prove
from onnx_clp.validation.provider import choose

Array = NDArray[Any]
ENDS = ("plain", "Sigmoid", "far Sigmoid", "Softmax", "Gemm", "Tanh")
MEMORY = 4 << 30


@dataclass
class Network:
    """Convolutions with BatchNormalization, activations, sums and pools between them, and one of `ENDS`."""

    seed: int
    nodes: list[NodeProto] = field(default_factory=list)
    stored: list[TensorProto] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([7, self.seed])

    def pick(self, choices: Any) -> Any:
        """One of several, evenly."""
        return choices[int(self.rng.integers(len(choices)))]

    def keep(self, values: Array) -> str:
        """Store a constant; its name."""
        name = f"k{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; its output."""
        self.count += 1
        self.nodes.append(helper.make_node(op, list(inputs), [f"v{self.count}"], **attributes))
        return f"v{self.count}"

    def block(self, x: str, channels: int, wanted: int) -> str:
        """Conv > BatchNormalization > an activation."""
        kernel = self.pick([1, 3, 3])
        weight = self.rng.normal(size=(wanted, channels, kernel, kernel)) / np.sqrt(channels * kernel**2)
        bias = [self.keep(self.rng.normal(size=wanted))] * self.pick([0, 1])
        y = self.node("Conv", x, self.keep(weight), *bias, pads=[kernel // 2] * 4)
        scale = self.rng.normal(1, 0.5, wanted) * self.pick([0.1, 1.0, 1.0, 3.0])
        shift, mean = (self.rng.normal(size=wanted) for _ in range(2))
        variance = self.rng.uniform(0.05, 2, wanted)
        y = self.node("BatchNormalization", y, *(self.keep(v) for v in (scale, shift, mean, variance)))
        op = self.pick(["Relu", "Relu", "Relu", "LeakyRelu", "Sigmoid", "Identity"])
        return self.node(op, y)

    def model(self) -> ModelProto:
        """The whole network, for images of 12 px."""
        x, channels = "x", 3
        for _ in range(int(self.rng.integers(1, 7))):
            wanted = self.pick([4, 8, 16, 32, 64])
            y = self.block(x, channels, wanted)
            x = self.node("Add", x, y) if wanted == channels and self.rng.random() < 0.5 else y
            channels = wanted
        return self._ended(x, channels)

    def _ended(self, x: str, channels: int) -> ModelProto:
        end, wanted = self.pick(ENDS), self.pick([1, 4, 10])
        if end in ("Gemm", "Softmax"):
            flat = self.node("Flatten", self.node("GlobalAveragePool", x))
            x = self.node("Gemm", flat, self.keep(self.rng.normal(size=(channels, wanted))))
            x = self.node("Softmax", x) if end == "Softmax" else x
        elif end != "plain":
            weight = self.rng.normal(size=(wanted, channels, 1, 1)) * self.pick([0.1, 1.0])
            shift = -16.0 if end == "far Sigmoid" else 0.0
            x = self.node("Conv", x, self.keep(weight), self.keep(np.full(wanted, shift)))
            x = self.node("Tanh" if end == "Tanh" else "Sigmoid", x)
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])]
        graph = helper.make_graph(self.nodes, "g", given, [helper.make_empty_tensor_value_info(x)], self.stored)
        graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def spoiled(folded: ModelProto, seed: int) -> ModelProto:
    """The folded model with one channel of one convolution and its bias 1 % too large."""
    rng = np.random.default_rng([8, seed])
    copy = ModelProto()
    copy.CopyFrom(folded)
    layers = [node for node in copy.graph.node if node.op_type == "Conv" and node.attribute]
    layer = layers[int(rng.integers(len(layers)))]
    held = {tensor.name: tensor for tensor in copy.graph.initializer}
    channel = int(rng.integers(held[layer.input[1]].dims[0]))
    for name in layer.input[1:]:
        values = numpy_helper.to_array(held[name]).copy()
        values[channel] *= np.float32(1.01)
        held[name].CopyFrom(numpy_helper.from_array(values, name))
    return copy


def passes(before: Path, after: Path, seed: int) -> bool:
    """Whether the proof takes `after` for a fold of `before`, with the inputs of a seed."""
    request = Request(original=before, folded=after, final=None, limits=RunLimits(provider="cpu", seed=seed))
    try:
        prove(request, choose("cpu"), MEMORY)
    except ValidationFailed:
        return False
    return True


def trial(seed: int, folder: Path) -> tuple[bool, bool]:
    """Whether the right fold of a network passes with three seeds, and whether the wrong one is caught."""
    model = Network(seed).model()
    folded = onnx_clp.clean(model, onnx_clp.CleanConfig(prune=False, validate=False)).model
    paths = [folder / name for name in ("in.onnx", "right.onnx", "wrong.onnx")]
    for path, made in zip(paths, (model, folded, spoiled(folded, seed)), strict=True):
        onnx.save(made, path)
    right = all(passes(paths[0], paths[1], inputs) for inputs in (0, seed + 1, 99_991 * (seed + 1)))
    return right, not passes(paths[0], paths[2], 0)


def trials(seeds: range) -> Iterator[tuple[int, bool, bool]]:
    """`trial` of each seed."""
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            yield (seed, *trial(seed, Path(folder)))


def main(words: list[str]) -> int:
    """Run the trial; 1 where anything was judged wrongly."""
    count, first = (int(words[at]) if len(words) > at else default for at, default in ((0, 1000), (1, 0)))
    found = list(trials(range(first, first + count)))
    refused = [seed for seed, right, _ in found if not right]
    missed = [seed for seed, _, caught in found if not caught]
    print(f"{count - len(refused)} of {count} right folds passed; refused: {refused}")
    print(f"{count - len(missed)} of {count} wrong folds were caught; missed: {missed}")
    return int(bool(refused or missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
