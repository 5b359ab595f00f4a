"""A TensorFlow.js graph model (JSON and one binary file of weights) as ONNX.

    python -m tools.harm.graph_model MODEL.json OUT.onnx [TENSOR ...]

runs where TensorFlow and tf2onnx are installed; the tensors named become outputs too. Weights are read into the
graph's constants, TensorFlow.js's fused operators are written as the plain ones they stand for, and tf2onnx does the
rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format
from numpy.typing import NDArray
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2

_FUSED = {
    "_FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}
_KEPT = {
    "Conv2D": ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings"),
    "DepthwiseConv2dNative": ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings"),
    "MatMul": ("T", "transpose_a", "transpose_b"),
}
_OPSET = 17


def weights(model: Mapping[str, Any], folder: Path) -> dict[str, NDArray[Any]]:
    """Tensors by name; half-precision ones come out in the precision that the graph computes in."""
    found: dict[str, NDArray[Any]] = {}
    for group in model["weightsManifest"]:
        raw = b"".join((folder / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
            if stored not in {"float32", "float16", "int32"}:
                raise SystemExit(f"{entry['name']}: weights stored as {stored} are not read")
            values = np.frombuffer(raw, stored, int(np.prod(entry["shape"], dtype=np.int64)), start)
            start += values.nbytes
            found[entry["name"]] = values.astype(entry["dtype"]).reshape(entry["shape"])
    return found


def graph(model: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> graph_pb2.GraphDef:
    """The graph in plain operators, with its weights."""
    out = graph_pb2.GraphDef()
    for fields in model["modelTopology"]["node"]:
        node = json_format.ParseDict(fields, node_def_pb2.NodeDef(), ignore_unknown_fields=True)
        if node.op == "Const":
            node.attr["value"].CopyFrom(attr_value_pb2.AttrValue(tensor=tf.make_tensor_proto(tensors[node.name])))
        out.node.extend(_plain(node) if node.op in _FUSED else [node])
    return out


def _plain(node: node_def_pb2.NodeDef) -> Iterator[node_def_pb2.NodeDef]:
    """The convolution or product, then what was fused into it; the last one keeps the name."""
    steps = [name.decode() for name in node.attr["fused_ops"].list.s]
    operands, extra = list(node.input[:2]), list(node.input[2:])
    first = _node(_FUSED[node.op], f"{node.name}/plain" if steps else node.name, operands, node)
    for name in _KEPT[first.op]:
        if name in node.attr:
            first.attr[name].CopyFrom(node.attr[name])
    yield first
    last = first.name
    for number, step in enumerate(steps):
        name = node.name if number == len(steps) - 1 else f"{node.name}/{step}"
        if step == "Prelu":
            yield from _prelu(name, last, extra.pop(0), node)
        else:
            yield _node(step, name, [last, *([extra.pop(0)] if step == "BiasAdd" else [])], node)
        last = name


def _prelu(name: str, x: str, slope: str, like: node_def_pb2.NodeDef) -> Iterator[node_def_pb2.NodeDef]:
    """max(x, 0) - slope · max(-x, 0)."""
    yield _node("Relu", f"{name}/positive", [x], like)
    yield _node("Neg", f"{name}/negated", [x], like)
    yield _node("Relu", f"{name}/negative", [f"{name}/negated"], like)
    yield _node("Mul", f"{name}/scaled", [slope, f"{name}/negative"], like)
    yield _node("Sub", name, [f"{name}/positive", f"{name}/scaled"], like)


def _node(operator: str, name: str, inputs: list[str], like: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef:
    made = node_def_pb2.NodeDef(op=operator, name=name, input=inputs)
    made.attr["T"].CopyFrom(like.attr["T"])
    return made


def _ends(graph_def: graph_pb2.GraphDef) -> tuple[list[str], list[str]]:
    """Tensors nothing feeds, and tensors nothing reads."""
    read = {name.lstrip("^").split(":")[0] for node in graph_def.node for name in node.input}
    inputs = [f"{node.name}:0" for node in graph_def.node if node.op == "Placeholder"]
    outputs = [f"{node.name}:0" for node in graph_def.node if node.name not in read and node.op != "Placeholder"]
    return inputs, outputs


def convert(path: Path, out: Path, more: Sequence[str] = ()) -> None:
    """Write the model as ONNX, with tensors `more` as outputs besides its own."""
    model = json.loads(path.read_text(encoding="utf-8"))
    graph_def = graph(model, weights(model, path.parent))
    inputs, outputs = _ends(graph_def)
    tf2onnx.convert.from_graph_def(
        graph_def, input_names=inputs, output_names=[*outputs, *more], opset=_OPSET, output_path=str(out)
    )


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
