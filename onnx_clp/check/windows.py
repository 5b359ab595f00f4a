"""Sliding windows: whether the attributes of a convolution or pooling node can be, and fit its weight.

Source: ONNX operators Conv-1/11/22, ConvTranspose-1/11/22, ConvInteger-10, QLinearConv-10, AveragePool,
MaxPool, LpPool and MaxUnpool. Kernels that trust these numbers divide by them and allocate by them.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from onnx_clp.check.attributes import NodeAttributes, node_label
from onnx_clp.errors import InvalidModelError
from onnx_clp.operators import read, windows
from onnx_clp.text import shown

Dims = tuple[int, ...]

_AUTO_PADS = frozenset(("", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))
_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Rule:
    """Of a list attribute: the smallest value, and how many values per spatial dimension."""

    least: int
    per_dimension: int = 1


_LISTS = {
    "kernel_shape": _Rule(1),
    "strides": _Rule(1),
    "dilations": _Rule(1),
    "pads": _Rule(0, 2),
    "output_padding": _Rule(0),
    "output_shape": _Rule(0),
}


def check_window(node: NodeProto, attributes: NodeAttributes, weight: Dims | None) -> None:
    """Check the window attributes of `node`, whose operator is in `windows.SLIDING`.

    Args:
        node: a convolution or pooling node.
        attributes: of that node.
        weight: the dimensions of its weight where that is a constant, else None.

    Raises:
        InvalidModelError: a number is out of its range, a list has the wrong length, or the weight has
            another rank, kernel or channel count than the attributes say.
    """
    _check_types(node, attributes)
    lists = windows.stated(node)
    for name, rule in _LISTS.items():
        _check_range(node, name, lists[name], rule.least)
    spatial = _spatial(node, lists, weight)
    for name, values in lists.items():
        allowed = {spatial, spatial + 2} if name == "output_shape" else {spatial * _LISTS[name].per_dimension}
        if values and spatial and len(values) not in allowed:
            raise _fault(node, f"{name} has {len(values)} values for {spatial} spatial dimensions")
    mode = windows.auto_pad(node)
    if mode not in _AUTO_PADS:
        raise _fault(node, f"auto_pad is '{shown(mode)}'; it is NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    group = None if attributes.is_reference("group") else read.groups(node)
    if group is not None and not 1 <= group <= _LIMIT:
        raise _fault(node, f"group is {group}; it lies in 1..{_LIMIT}")
    if weight is not None:
        _check_weight(node, weight, lists["kernel_shape"], group)


def _check_types(node: NodeProto, attributes: NodeAttributes) -> None:
    """What the readers of `operators` take for granted."""
    for name, kind in windows.ATTRIBUTE_TYPES.items():
        found = attributes.by_name.get(name)
        if found is not None and not found.ref_attr_name and found.type != kind:
            raise _fault(node, f"{name} is of the wrong type")


def _spatial(node: NodeProto, lists: dict[str, Dims], weight: Dims | None) -> int:
    """Return the number of spatial dimensions, 0 where nothing says it."""
    if weight is not None:
        if len(weight) < 3:
            raise _fault(node, f"its weight has {len(weight)} dimensions, it needs 3 or more")
        return len(weight) - 2
    return next((len(v) // _LISTS[n].per_dimension for n, v in lists.items() if v and n != "output_shape"), 0)


def _check_range(node: NodeProto, name: str, values: Dims, least: int) -> None:
    bad = next((v for v in values if not least <= v <= _LIMIT), None)
    if bad is not None:
        raise _fault(node, f"{name} holds {bad}; values lie in {least}..{_LIMIT}")


def _check_weight(node: NodeProto, weight: Dims, kernel: Dims, group: int | None) -> None:
    if kernel and kernel != weight[2:]:
        raise _fault(node, f"kernel_shape is {list(kernel)}, its weight has {list(weight[2:])}")
    if min(weight[2:]) < 1:
        raise _fault(node, f"its weight has the empty kernel {list(weight[2:])}")
    if group is not None and weight[0] % group:
        raise _fault(node, f"group is {group}, which does not divide the {weight[0]} channels of its weight")


def _fault(node: NodeProto, fault: str) -> InvalidModelError:
    return InvalidModelError(f"{node_label(node)}: {fault}; export the model again")
