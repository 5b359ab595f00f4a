"""The two ends of a model as a search needs them: images in single precision, a row of class scores for each.

Pixels of 8 bits become floats right away where the file does no more with them than to move and convert them, so
descents see how scores change between whole numbers. Elsewhere they go through a QuantizeLinear of scale 1: the file
computes what it computes of whole numbers, and a gradient passes the rounding by an estimate (`gradient.quantised`).
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.gradient.loss import source_of
from onnx_clp.gradient.writer import FLOATS
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.fresh import NameScope
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators import read
from onnx_clp.operators.nodes import STANDARD_DOMAINS, input_name, is_op
from onnx_clp.operators.table import keeps
from onnx_clp.operators.traits import Trait

Array = NDArray[Any]

EIGHT_BITS: Final = (TensorProto.UINT8, TensorProto.INT8)
_QUANTIZES_SINCE: Final = 10


def take_floats(model: ModelProto, image: ValueInfoProto) -> None:
    """Give the model a float32 input in place of one of 8 bits.

    Args:
        model: changed in place; values keep their names, but for the input where it has to be rounded.
        image: its graph input that holds the images.

    Raises:
        UsageError: pixels have to be rounded, and the model's opset has no QuantizeLinear.
    """
    edit = GraphEdit(ModelIndex(model, TensorStore()))
    scope = edit.index.main
    readers = _dequantizers(scope, image.name)
    if readers is None:
        _round(model, image, edit.names)
        return
    for node, step, origin in readers:
        _spell_out(edit, scope, node, step, origin)
    edit.finish()
    image.type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.value_info[:]


def _dequantizers(scope: GraphIndex, name: str) -> list[tuple[NodeProto, Array, Array]] | None:
    """The DequantizeLinears that read the pixels, be they moved, each with its scale and zero point, float32 ().

    None where something else reads them than these, Casts to floats, and what moves them.
    """
    found, moved = list[tuple[NodeProto, Array, Array]](), [name]
    while moved:
        value = moved.pop()
        for use in scope.uses(value):
            if use.node is None or use.scope is not scope or use.slot:
                return None
            if is_op(use.node, "Cast") and read.cast_type(use.node) in FLOATS:
                continue
            if is_op(use.node, "DequantizeLinear") and (scale := _scale(scope, use.node)) is not None:
                found.append((use.node, *scale))
            elif keeps(use.node, Trait.MOVES):
                moved.append(use.node.output[0])
            else:
                return None
    return found


def _scale(scope: GraphIndex, node: NodeProto) -> tuple[Array, Array] | None:
    """The scale and zero point of a DequantizeLinear, float32 (); None where they are no constant numbers."""
    step, zero = scope.constant(node.input[1]), input_name(node, 2)
    origin = scope.constant(zero) if zero else np.zeros(())
    if step is None or origin is None or not step.size == origin.size == 1:
        return None
    return step.reshape(()).astype(np.float32), origin.reshape(()).astype(np.float32)


def _spell_out(edit: GraphEdit, scope: GraphIndex, node: NodeProto, step: Array, origin: Array) -> None:
    """Write (x - zero point) * scale in place of a DequantizeLinear, which takes no floats."""
    value = node.output[0]
    zero = edit.add_constant(scope, f"{value}/zero", partial(numpy_helper.from_array, origin))
    edit.turn_into(scope, node, "Sub", [node.input[0], zero])
    edit.add_after(scope, value, "Mul", f"{value}/scaled", partial(numpy_helper.from_array, step))


def _round(model: ModelProto, image: ValueInfoProto, names: NameScope) -> None:
    opset = max(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)
    if opset < _QUANTIZES_SINCE:
        raise UsageError(f"a search for triggers in a model of 8-bit images needs opset {_QUANTIZES_SINCE} or newer")
    kind = helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    whole = image.name
    image.name, one, zero = (names.fresh(f"{whole}/{end}") for end in ("floats", "one", "zero"))
    image.type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), one))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), kind), zero))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", [image.name, one, zero], [whole]))


def flatten_scores(model: ModelProto, scores: ValueInfoProto) -> ValueInfoProto:
    """The output that holds one row of float32 scores an image: `scores`, or one that is added for it.

    Added are one for scores of shape (batch, classes, 1, 1) and the like, and one for scores that the file rounds to 8
    bits; a Softmax at the end is left out of both.
    """
    tensor = scores.type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    wide = len(dims) > 2 and prod(dims[1:]) == max(dims[1:]) > 0
    rounded = tensor.elem_type in EIGHT_BITS
    index = ModelIndex(model, TensorStore())
    source = source_of(index.main, scores.name, rounded=True) if wide or rounded else scores.name
    if source == scores.name and not (wide and tensor.elem_type == TensorProto.FLOAT):
        return scores
    name = NameScope(index.names()).fresh(f"{scores.name}/row")
    added = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None])
    model.graph.node.append(helper.make_node("Flatten", [source], [added.name]))
    model.graph.output.append(added)
    return added
