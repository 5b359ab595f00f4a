"""The models the benchmark measures on, made with random weights: `python -m tools.bench.models KIND SIZE PATH`.

They are built by a process of their own, so that the measuring one stays small: the system counts a parent's
memory towards the peak of a child it starts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_OPSET, _IR = 17, 8
_STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))  # width factor and first stride of ResNet-18's four stages
_BIG_CHANNELS = 512


class Builder:
    """Gathers nodes and random initializers; weights are He-normal, so that outputs stay moderate."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._rng = np.random.default_rng(seed)
        self._count = 0

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add an initializer in float32; its name."""
        raw = np.ascontiguousarray(values, np.float32)
        self.tensors.append(TensorProto(name=name, dims=raw.shape, data_type=TensorProto.FLOAT, raw_data=raw.tobytes()))
        return name

    def integers(self, values: list[int]) -> str:
        """Add an initializer in int64; its name."""
        name = f"i{len(self.tensors)}"
        raw = np.array(values, np.int64)
        self.tensors.append(TensorProto(name=name, dims=raw.shape, data_type=TensorProto.INT64, raw_data=raw.tobytes()))
        return name

    def typed(self, name: str, values: NDArray[Any]) -> str:
        """Add an initializer of the array's own type; its name."""
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def many(self, operator: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node of several outputs; their names."""
        first = self.node(operator, inputs, **attributes)
        names = [first, *(f"{first}_{number}" for number in range(1, outputs))]
        self.nodes[-1].output[:] = names
        return names

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node of one output; the output's name."""
        self._count += 1
        out = f"v{self._count}"
        self.nodes.append(helper.make_node(operator, inputs, [out], name=f"{operator}_{self._count}", **attributes))
        return out

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        """A convolution without bias."""
        shape = (outputs, inputs, kernel, kernel)
        spread = np.float32((2 / (inputs * kernel * kernel)) ** 0.5)
        weight = self._rng.standard_normal(shape, dtype=np.float32) * spread
        name = self.tensor(f"w{self._count}", weight)
        pads = [kernel // 2] * 4
        return self.node("Conv", [x, name], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def batchnorm(self, x: str, channels: int) -> str:
        """A BatchNormalization whose statistics lie near 0 and 1."""
        at, draw = self._count, self._rng.uniform
        values = (draw(0.5, 1.5, channels), draw(-1, 1, channels), draw(-1, 1, channels), draw(0.5, 1.5, channels))
        names = [self.tensor(f"bn{at}_{i}", v) for i, v in enumerate(values)]
        return self.node("BatchNormalization", [x, *names])

    def model(self, shape: list[int | str], output: str, dims: list[int | str] | None) -> ModelProto:
        """The whole, with one input `x`; None leaves the sizes of an output of the input's rank open."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * len(shape) if dims is None else dims)
        graph = helper.make_graph(self.nodes, "bench", [x], [y], self.tensors)
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR, producer_name="benchmark")


def resnet18(width: int = 64, classes: int = 1000) -> ModelProto:
    """A network of ResNet-18's shape: 20 Conv+BN and a Gemm; 45 MB at width 64, growing with its square."""
    b = Builder()
    x = b.node("Relu", [b.batchnorm(b.conv("x", 3, width, 7, 2), width)])
    x = b.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = width
    for factor, stride in _STAGES:
        for block in range(2):
            outputs, step = width * factor, stride if block == 0 else 1
            x, channels = _block(b, x, channels, outputs, step), outputs
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    weight = b.tensor("fc_w", np.random.default_rng(1).standard_normal((classes, channels)) * channels**-0.5)
    y = b.node("Gemm", [x, weight, b.tensor("fc_b", np.zeros(classes))], transB=1)
    return b.model(["N", 3, 224, 224], y, ["N", classes])


def _block(b: Builder, x: str, inputs: int, outputs: int, stride: int) -> str:
    inner = b.node("Relu", [b.batchnorm(b.conv(x, inputs, outputs, 3, stride), outputs)])
    inner = b.batchnorm(b.conv(inner, outputs, outputs, 3), outputs)
    if inputs != outputs:
        x = b.batchnorm(b.conv(x, inputs, outputs, 1, stride), outputs)
    return b.node("Relu", [b.node("Add", [inner, x])])


def tiny() -> ModelProto:
    """Three nodes: Conv, BatchNormalization, Relu."""
    b = Builder()
    y = b.node("Relu", [b.batchnorm(b.conv("x", 3, 16, 3), 16)])
    return b.model([1, 3, 8, 8], y, [1, 16, 8, 8])


def relu_chain(length: int) -> ModelProto:
    """One Conv and `length` Relus behind it."""
    b = Builder()
    y = b.conv("x", 3, 16, 3)
    for _ in range(length):
        y = b.node("Relu", [y])
    return b.model([1, 3, 8, 8], y, [1, 16, 8, 8])


def fold_chain(folds: int) -> ModelProto:
    """`folds` times Conv, BatchNormalization and Relu, 16 channels wide, each value's shape recorded."""
    b = Builder()
    x, channels = "x", 3
    for _ in range(folds):
        x, channels = b.node("Relu", [b.batchnorm(b.conv(x, channels, 16, 1), 16)]), 16
    model = b.model([1, 3, 8, 8], x, [1, 16, 8, 8])
    for node in model.graph.node[:-1]:
        model.graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, 16, 8, 8]))
    return model


def write_big(path: Path, nbytes: int) -> None:
    """A chain of 512-channel Conv+BN+Relu whose weights, `nbytes` in all, lie in `<path>.data`."""
    b = Builder()
    taps = _BIG_CHANNELS * _BIG_CHANNELS * 9
    noise = np.random.default_rng(0).standard_normal(taps + (1 << 20), dtype=np.float32) * np.float32(0.02)
    x, data = b.node("Relu", [b.batchnorm(b.conv("x", 3, _BIG_CHANNELS, 3), _BIG_CHANNELS)]), f"{path.name}.data"
    with path.with_name(data).open("wb") as out:
        for i in range(max(nbytes // (taps * 4), 1)):
            offset = (i * 2654435761) % (1 << 20)
            tensor = TensorProto(name=f"big{i}", data_type=TensorProto.FLOAT, dims=(_BIG_CHANNELS, _BIG_CHANNELS, 3, 3))
            _point(tensor, data, out.tell(), taps * 4)
            noise[offset : offset + taps].tofile(out)
            b.tensors.append(tensor)
            y = b.node("Conv", [x, tensor.name], kernel_shape=[3, 3], pads=[1] * 4)
            x = b.node("Relu", [b.batchnorm(y, _BIG_CHANNELS)])
    path.write_bytes(b.model([1, 3, 8, 8], x, [1, _BIG_CHANNELS, 8, 8]).SerializeToString())


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def main(kind: str, size: int, path: Path) -> None:
    """Write one model; `size` is width, length, folds or bytes, as its kind takes."""
    if kind == "big":
        write_big(path, size)
        return
    from tools.bench.families import FAMILIES  # they are built with this module's Builder

    makers = {"resnet18": resnet18, "tiny": lambda _: tiny(), "relus": relu_chain, "folds": fold_chain, **FAMILIES}
    onnx.save(makers[kind](size), path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
