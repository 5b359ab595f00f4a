"""Where operators keep their parameters: attribute or input, with the defaults of the specification, in one place."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, defs, helper

from onnx_clp.operators import read, windows
from onnx_clp.operators.grids import level_type
from tests.test_imports import PACKAGE

Array = NDArray[Any]
READERS = ("attribute", "text_attribute")


def nothing(_name: str) -> Array | None:
    return None


def known(**values: Any) -> read.Known:
    return {name: np.asarray(value) for name, value in values.items()}.get


def node(op: str, *inputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, ["x", *inputs], ["y"], **attributes)


# --- one place ------------------------------------------------------------------------------------------


def reads(source: str) -> Iterator[str]:
    """What a module does to read attributes itself: names it imports for that, names of attributes it compares."""
    for one in ast.walk(ast.parse(source)):
        if isinstance(one, ast.ImportFrom) and one.module == "onnx_clp.operators.nodes":
            yield from (alias.name for alias in one.names if alias.name in READERS)
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in READERS:
            yield one.func.attr
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and _by_name(one.func.value):
            yield from (c.value for c in one.args if isinstance(c, ast.Constant) and c.value in PARAMETERS)
        elif isinstance(one, ast.Compare) and isinstance(one.left, ast.Attribute) and one.left.attr == "name":
            texts = [c.value for c in one.comparators if isinstance(c, ast.Constant)]
            yield from (str(text) for text in texts if text in PARAMETERS)


def _by_name(one: ast.expr) -> bool:
    return isinstance(one, ast.Attribute) and one.attr == "by_name"


PARAMETERS = frozenset(name for schema in defs.get_all_schemas_with_history() for name in schema.attributes)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from onnx_clp.operators.nodes import attribute", ["attribute"]),
        ("from onnx_clp.operators.nodes import is_op, text_attribute", ["text_attribute"]),
        ("step.attribute('axes')", ["attribute"]),
        ("next(a for a in node.attribute if a.name == 'perm')", ["perm"]),
        ("attributes.by_name.get('pads')", ["pads"]),
        ("attributes.by_name.get(name)", []),
        ("from onnx_clp.operators.nodes import is_op, set_attribute", []),
        ("next(v for v in graph.input if v.name == 'image')", []),
    ],
)
def test_the_walk_sees_what_reads_attributes(source: str, found: list[str]) -> None:
    assert list(reads(source)) == found


def others() -> list[Path]:
    """The modules that may read none; `preparing` asks in which form a Constant holds its value."""
    may = {PACKAGE / "gradient" / "preparing.py", *(PACKAGE / "operators").glob("*.py")}
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path not in may]


def test_only_operators_reads_attributes_by_name() -> None:
    found = {path: list(reads(path.read_text(encoding="utf-8"))) for path in others()}
    assert len(found) > 200
    assert {path: names for path, names in found.items() if names} == {}


# --- attribute or input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "op", "slot"),
    [
        (read.AXES, "Squeeze", 1),
        (read.AXES, "ReduceSum", 1),
        (read.AXES, "Slice", 3),
        (read.AXES, "Pad", 3),
        (read.PADS, "Pad", 1),
        (read.SPLIT, "Split", 1),
        (read.SHAPE, "Reshape", 1),
        (read.STARTS, "Slice", 1),
        (read.ENDS, "Slice", 2),
        (read.STEPS, "Slice", 4),
        (read.SIZES, "Resize", 3),
    ],
)
def test_a_list_is_the_same_as_attribute_and_as_input(part: read.IntList, op: str, slot: int) -> None:
    listed = node(op, **{part.name: [1, -2]})
    entered = node(op, *[""] * (slot - 1), "given")
    assert part.of(listed, nothing) == (1, -2) == part.of(entered, known(given=[1, -2]))
    assert not part.left_out(listed)
    assert not part.left_out(entered)
    assert part.of(entered, nothing) is None
    assert part.of(entered, known(given=[0.5])) is None
    bare = node(op)
    assert part.left_out(bare)
    assert part.of(bare, nothing) is None


def test_a_list_of_resize_and_an_old_name() -> None:
    resize = node("Resize", "roi", "scales", "sizes", axes=[2, 3])
    assert read.AXES.of(resize, known(roi=[7], scales=[7], sizes=[7])) == (2, 3)
    assert read.AXES.of(node("Resize", "roi"), known(roi=[7])) is None
    assert read.PADS.of(node("Pad", paddings=[0, 1]), nothing) == (0, 1)


def test_setting_a_list_is_read_again() -> None:
    split = node("Split", split=[2, 2])
    read.SPLIT.set(split, [1, 3])
    assert read.SPLIT.of(split, nothing) == (1, 3)


@pytest.mark.parametrize(
    ("clip", "limits"),
    [
        (node("Clip", min=-1.0, max=6.0), (-1.0, 6.0)),
        (node("Clip", "low", "high"), (-1.0, 6.0)),
        (node("Clip", "", "high"), (-math.inf, 6.0)),
        (node("Clip", "low"), (-1.0, math.inf)),
        (node("Clip"), (-math.inf, math.inf)),
        (node("Clip", "computed", "high"), (None, 6.0)),
        (node("Clip", "several"), (None, math.inf)),
    ],
)
def test_limits_of_clip(clip: NodeProto, limits: tuple[float | None, float | None]) -> None:
    assert read.clip_limits(clip, known(low=-1.0, high=[6.0], several=[1.0, 2.0])) == limits


def test_limits_are_given_in_their_own_type() -> None:
    largest = np.iinfo(np.int64).max
    found = read.HIGH.of(node("Clip", "", "high"), known(high=largest))
    assert found is not None
    assert int(found) == largest


@pytest.mark.parametrize(
    ("resize", "opset", "found"),
    [
        (node("Upsample", scales=[1.0, 1.0, 2.0, 2.0]), 7, (1.0, 1.0, 2.0, 2.0)),
        (node("Upsample", "given"), 9, (1.0, 3.0)),
        (node("Resize", "given"), 10, (1.0, 3.0)),
        (node("Resize", "roi", "given"), 11, (1.0, 3.0)),
        (node("Resize", "roi", "none"), 11, None),
        (node("Resize", "roi", "computed"), 11, None),
        (node("Resize", "roi", "", "sizes"), 11, None),
    ],
)
def test_scales_of_every_opset(resize: NodeProto, opset: int, found: tuple[float, ...] | None) -> None:
    given = known(given=[1.0, 3.0], roi=[5.0], none=np.zeros(0), sizes=[9])
    assert windows.scales(resize, given, opset) == found


@pytest.mark.parametrize(
    ("pad", "found"),
    [(node("Pad"), 0.0), (node("Pad", value=2.0), 2.0), (node("Pad", "p", "v"), 3.0), (node("Pad", "p", "open"), None)],
)
def test_what_is_padded_with(pad: NodeProto, found: float | None) -> None:
    assert windows.pad_value(pad, known(v=3.0)) == found


def test_perm_turns_all_axes_round_where_left_out() -> None:
    assert read.perm(node("Transpose", perm=[0, 2, 1]), None) == (0, 2, 1)
    assert read.perm(node("Transpose"), 3) == (2, 1, 0)
    assert read.perm(node("Transpose"), None) is None


def test_equal_parts_leave_the_rest_to_the_last() -> None:
    assert read.equal_parts(7, 3) == [3, 3, 1]
    assert read.equal_parts(6, 3) == [2, 2, 2]


def test_a_cast_of_opset_1_states_no_number() -> None:
    assert read.cast_type(node("Cast", to=TensorProto.FLOAT16)) == TensorProto.FLOAT16
    assert read.cast_type(node("Cast", to="FLOAT16")) is None
    assert read.cast_type(node("Cast")) is None


@pytest.mark.parametrize(
    ("stated", "zero", "found"),
    [
        ({}, None, np.uint8),
        ({"output_dtype": TensorProto.INT8}, None, np.int8),
        ({"output_dtype": TensorProto.INT8}, np.zeros(1, np.uint16), np.uint16),
        ({"output_dtype": 99}, None, object),
    ],
)
def test_the_type_of_levels(stated: dict[str, int], zero: Array | None, found: Any) -> None:
    assert level_type(node("QuantizeLinear", "s", **stated), zero) == np.dtype(found)


# --- windows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "begins", "nothing_added"),
    [
        ({}, (0, 0), True),
        ({"pads": [0, 0, 0, 0]}, (0, 0), True),
        ({"pads": [1, 2, 3, 4]}, (1, 2), False),
        ({"auto_pad": "NOTSET", "pads": [1, 2, 3, 4]}, (1, 2), False),
        ({"auto_pad": "VALID"}, (0, 0), True),
        ({"auto_pad": "SAME_UPPER"}, None, False),
        ({"auto_pad": "SAME_LOWER"}, None, False),
    ],
)
def test_pads_of_a_window(attributes: dict[str, Any], begins: tuple[int, ...] | None, nothing_added: bool) -> None:
    found = windows.window(node("Conv", "w", **attributes), (3, 3))
    assert found.begins == begins
    assert found.pads_nothing is nothing_added
    assert found.upper is (attributes.get("auto_pad") != "SAME_LOWER")


def test_a_window_of_a_pool_has_its_own_kernel() -> None:
    found = windows.window(node("MaxPool", kernel_shape=[3, 2], strides=[2, 1], dilations=[1, 4]))
    assert (found.kernel, found.strides, found.dilations, found.reach) == ((3, 2), (2, 1), (1, 4), (3, 5))
    plain = windows.window(node("Conv", "w"), (5,))
    assert (plain.strides, plain.dilations, plain.reach) == ((1,), (1,), (5,))


# --- defaults -------------------------------------------------------------------------------------------------

DEFAULTS: dict[str, tuple[Callable[[NodeProto], Any], tuple[str, ...]]] = {
    "alpha": (read.alpha, ("LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "HardSigmoid", "Swish", "Gemm")),
    "beta": (read.beta, ("HardSigmoid", "Gemm")),
    "gamma": (read.gamma, ("Selu",)),
    "epsilon": (
        read.epsilon,
        ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization", "GroupNormalization"),
    ),
    "axis": (
        read.axis,
        (
            *("Concat", "Split", "Gather", "GatherElements", "Flatten", "ArgMax", "ArgMin", "TopK", "OneHot"),
            *("QuantizeLinear", "DequantizeLinear", "LayerNormalization", "RMSNormalization", "LpNormalization"),
            *("Softmax", "LogSoftmax", "Hardmax"),
        ),
    ),
    "keepdims": (read.keeps_dims, ("ReduceMean", "ReduceSum", "ReduceL2", "ArgMax")),
    "noop_with_empty_axes": (read.idle_without_axes, ("ReduceMean", "ReduceSum")),
    "allowzero": (read.zero_is_a_size, ("Reshape",)),
    "group": (read.groups, ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv")),
    "block_size": (read.quantized_block, ("QuantizeLinear", "DequantizeLinear")),
    "output_dtype": (read.quantized_type, ("QuantizeLinear", "DequantizeLinear")),
    "transA": (lambda one: read.transposed(one)[0], ("Gemm",)),
    "transB": (lambda one: read.transposed(one)[1], ("Gemm",)),
    "is_test": (read.marked_as_test, ("Dropout", "BatchNormalization")),
    "training_mode": (read.trains, ("BatchNormalization",)),
    "spatial": (read.by_channel, ("BatchNormalization",)),
    "ceil_mode": (windows.rounds_up, ("MaxPool", "AveragePool")),
    "count_include_pad": (windows.counts_padding, ("AveragePool",)),
    "storage_order": (windows.column_major, ("MaxPool",)),
}


def schemas(op: str) -> Iterator[defs.OpSchema]:
    """Every version of a standard operator."""
    yield from (s for s in defs.get_all_schemas_with_history() if s.name == op and s.domain == "")


@pytest.mark.parametrize(("name", "op"), [(name, op) for name, (_, ops) in DEFAULTS.items() for op in ops])
def test_a_default_is_that_of_the_specification(name: str, op: str) -> None:
    stated = {
        schema.since_version: helper.get_attribute_value(schema.attributes[name].default_value)
        for schema in schemas(op)
        if name in schema.attributes and schema.attributes[name].default_value.name
    }
    if op in ("Softmax", "LogSoftmax", "Hardmax", "Selu"):  # another one in the first versions
        stated = {since: value for since, value in stated.items() if since >= (6 if op == "Selu" else 13)}
    found = DEFAULTS[name][0](node(op))
    assert all(found == pytest.approx(value) for value in stated.values()), stated
    if not stated:  # required, or worked out: there is nothing to hold it to but that it is read
        assert any(name in schema.attributes for schema in schemas(op))


def test_every_reader_says_of_which_operators_it_is() -> None:
    for module in (read, windows):
        for name, one in inspect.getmembers(module, inspect.isfunction):
            if one.__module__ == module.__name__ and not name.startswith("_"):
                assert one.__doc__, name
