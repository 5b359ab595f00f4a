"""Bring a model into the form the rules read: its functions inlined, its opset at least 16."""

from __future__ import annotations

from typing import Final

from onnx import ModelProto, helper, inliner, numpy_helper, version_converter

from onnx_clp.errors import UnsupportedModelError
from onnx_clp.file.messages import freeze_inputs
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import STANDARD_DOMAINS, is_op

OLDEST_OPSET: Final = 16
"""The first in which every operator the gradients need is there (ScatterElements that adds)."""
_IR_VERSION: Final = 8


def prepared(model: ModelProto) -> ModelProto:
    """A copy of `model` to append to.

    Local functions are inlined. Recorded shapes of intermediate values are dropped. Initializers that are also graph
    inputs become constants. A model of an opset below `OLDEST_OPSET` is converted to it by onnx's own version
    converter; a newer one keeps its opset.

    Raises:
        UnsupportedModelError: the converter refuses the model.
    """
    out = ModelProto()
    out.CopyFrom(model)
    if out.functions:
        out = inliner.inline_local_functions(out)
    opset = max((o.version for o in out.opset_import if o.domain in STANDARD_DOMAINS), default=1)
    _forget_shapes(out)
    if opset < OLDEST_OPSET:
        out = _converted(out, opset)
    out.ir_version = max(out.ir_version, _IR_VERSION)
    freeze_inputs(out.graph)
    return out


def _forget_shapes(model: ModelProto) -> None:
    """Drop what the file says of intermediate values that can be inferred: some exporters record wrong shapes."""
    strange = {name for node in model.graph.node if node.domain not in STANDARD_DOMAINS for name in node.output}
    kept = [value for value in model.graph.value_info if value.name in strange]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _dense(model: ModelProto) -> None:
    """Store sparse constants of the main graph densely: the converter knows no sparse ones and leaves them out."""
    scope = ModelIndex(model, TensorStore()).main
    for name in [sparse.values.name for sparse in model.graph.sparse_initializer]:
        value = scope.constant(name)
        if value is not None:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    del model.graph.sparse_initializer[:]
    for node in model.graph.node:
        if is_op(node, "Constant") and any(a.name == "sparse_value" for a in node.attribute):
            value = scope.constant(node.output[0])
            if value is not None:
                node.attribute[0].CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))


def _converted(model: ModelProto, opset: int) -> ModelProto:
    _dense(model)
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # the converter raises whatever its C++ part does
        cause = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
        raise UnsupportedModelError(
            f"opset {opset} cannot be converted to {OLDEST_OPSET}, which gradients need: {cause}"
        ) from error
