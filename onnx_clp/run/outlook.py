"""What further steps would find in a file: caps to put, a search to run, or a fold by this tool that came before.

All of it is read off the graph, so that advice names only what does something on this very file. A search may still
end without an answer: what it needs is looked up here, not tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from onnx import ModelProto, TensorProto

from onnx_clp.cap import bound_activations
from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.config import CleanConfig
from onnx_clp.document.evidence import Outlook
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import STANDARD_DOMAINS, input_name, is_op, operator
from onnx_clp.run import effort
from onnx_clp.text import shown
from onnx_clp.verdicts import Skipped

_CEILING: Final = "_ceiling"


def look(index: ModelIndex, statistics: Sequence[Statistic], config: CleanConfig) -> Outlook:
    """The outlook on a model as it came; `statistics` are what its normalisations tell."""
    cappable = sum(not isinstance(bound_activations.examine(one, 1.0), Skipped) for one in statistics)
    names = [name for scope in index.scopes for name in scope.initializers]
    return Outlook(
        cappable=cappable,
        unsearchable=unsearchable(index, config),
        folded=sum(1 for _ in _own_biases(index)),
        capped=sum(name.endswith(_CEILING) for name in names),
    )


def unsearchable(index: ModelIndex, config: CleanConfig) -> str:
    """Why no search for triggers can run on the model; "" where one can, as far as its graph tells."""
    if not config.validate:
        return "nothing may run it (--no-validate)"
    return _of_input(index.model, config) or _of_output(index.model, config.output_name) or _of_operators(index)


def _of_input(model: ModelProto, config: CleanConfig) -> str:
    held = {t.name for t in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in held]
    if len(given) != 1 or given[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        return "it does not take one float32 input of images"
    sizes = config.shapes.get(given[0].name) or [max(d.dim_value, 0) for d in given[0].type.tensor_type.shape.dim]
    if len(sizes) != 4:
        return "its input is no batch of images: (batch, channels, height, width)"
    if 0 in sizes[1:]:
        return f"the size of its images is open (--shape {shown(given[0].name)}:1,3,224,224 gives it)"
    return ""


def _of_output(model: ModelProto, name: str | None) -> str:
    fitting = [value for value in model.graph.output if name in (None, value.name)]
    if len(fitting) != 1:
        return "it has several outputs (--output names the one with the class scores)"
    tensor = fitting[0].type.tensor_type
    sizes = [dim.dim_value for dim in tensor.shape.dim]
    scores = not tensor.HasField("shape") or (len(sizes) == 2 and sizes[1] != 1)
    if tensor.elem_type != TensorProto.FLOAT or not scores:
        return "its output is no list of class scores"
    if len(sizes) == 2 and 0 < sizes[1] < effort.LEAST_CLASSES:
        from onnx_clp.inversion.finding import too_few

        return too_few(sizes[1])
    return ""


def _of_operators(index: ModelIndex) -> str:
    from onnx_clp.gradient.rules import FLAT, GRADIENTS

    if len(index.scopes) > 1:
        return ""  # bodies and functions are inlined before a search, which says best what it cannot do
    for node in index.main.nodes:
        known = node.domain in STANDARD_DOMAINS and (node.op_type in GRADIENTS or node.op_type in FLAT)
        if not known and any(name and not index.main.is_constant(name) for name in node.input):
            return f"there is no gradient rule for {shown(operator(node))}"
    return ""


def _own_biases(index: ModelIndex) -> Iterator[str]:
    """Biases named after their weight, as `layers.biases` names those that a fold adds."""
    for scope in index.scopes:
        for node in scope.nodes:
            if is_op(node, "Conv", "ConvTranspose") and len(node.input) > 2:
                bias = input_name(node, 2)
                if bias and bias == f"{input_name(node, 1)}_bias":
                    yield bias
