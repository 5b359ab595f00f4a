"""A second opinion on the rewritten graph: onnx_graphsurgeon reads it on its own and must see it joined up.

The package reads and edits the protobuf itself. Here another reader, which shares none of that code, imports
the input and the result and compares what it sees: the same outputs, no input that is new or changed, and no
value that is used and made by nothing. A model it cannot read as it came is not judged by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_clp.errors import ValidationFailed
from onnx_clp.text import quoted
from onnx_clp.validation.anatomy import read_skeleton

_SHOWN = 60


def read_again(original: Path, written: Path) -> bool:
    """Whether the second reader could judge; `written` was made from `original`.

    Raises:
        ValidationFailed: it reads the input but not the result, or the result does not join up.
    """
    try:
        before = _import(original)
    except Exception:  # its limits are no fault of the model (see docs/decisions.md)
        return False
    try:
        after = _import(written)
    except Exception as error:
        raise ValidationFailed(
            f"onnx_graphsurgeon reads the input and not the rewritten model: {quoted(error)}; please report this"
        ) from error
    fault = _difference(before, after)
    if fault:
        raise ValidationFailed(f"the rewritten graph does not join up: {fault}; please report this")
    return True


def _import(path: Path) -> Any:
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.logger import G_LOGGER

    G_LOGGER.severity = G_LOGGER.CRITICAL
    return gs.import_onnx(read_skeleton(path))


def _difference(before: Any, after: Any) -> str:
    if _faces(before.outputs) != _faces(after.outputs):
        return "its outputs are not the input's"
    if not set(_faces(after.inputs)) <= set(_faces(before.inputs)):
        return "it has an input that the input model has not"
    loose = _loose(after) - _loose(before)
    return f"{quoted(min(loose), _SHOWN)} is used and made by nothing" if loose else ""


def _faces(values: list[Any]) -> list[str]:
    """Name, type and shape of each value, in order."""
    return [f"{v.name} {v.dtype} {v.shape}" for v in values]


def _loose(graph: Any) -> set[str]:
    """Values that nodes or graph outputs use and that no node, input or constant gives."""
    import onnx_graphsurgeon as gs

    given = {id(v) for v in graph.inputs}
    used = [*graph.outputs, *(v for node in graph.nodes for v in node.inputs)]
    return {
        v.name for v in used if isinstance(v, gs.Variable) and not v.is_empty() and not v.inputs and id(v) not in given
    }
