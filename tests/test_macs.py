"""Multiply-accumulates against numbers worked out by hand, and what is not known is not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_clp.validation.macs import count
from tests import corpus
from tests.forms.build import model, rand


def macs(
    tmp_path: Path, body: str, x: str = "float[1,4,6,6] x", feed: dict[str, Any] | None = None, **given: Any
) -> Any:
    proto = model(body, x=x, **given)()
    onnx.save(proto, tmp_path / "m.onnx")
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in proto.graph.input}
    return count(tmp_path / "m.onnx", feed or shapes)


BYTES = np.ones((8, 4, 3, 3), np.uint8)
ROWS: list[tuple[str, dict[str, Any], int]] = [
    ("y = Conv(x, w)", {"w": rand(8, 4, 3, 3)}, 8 * 4 * 4 * 4 * 9),
    ("y = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w)", {"w": rand(8, 4, 3, 3)}, 8 * 3 * 3 * 4 * 9),
    ("y = Conv<group = 4>(x, w)", {"w": rand(8, 1, 3, 3)}, 8 * 4 * 4 * 9),
    ("y = Conv<dilations = [2,2]>(x, w, b)", {"w": rand(8, 4, 3, 3), "b": rand(8)}, 8 * 2 * 2 * 4 * 9),
    ("y = ConvTranspose<strides = [2,2]>(x, w)", {"w": rand(4, 5, 2, 2)}, 4 * 36 * 5 * 4),
    ("y = ConvTranspose<group = 2>(x, w)", {"w": rand(4, 5, 2, 2)}, 4 * 36 * 5 * 4),
    ("f = Flatten(x) y = Gemm<transB = 1>(f, w, b)", {"w": rand(10, 144), "b": rand(10)}, 1440),
    ("f = Flatten(x) y = Gemm<transA = 1>(f, w)", {"w": rand(1, 7)}, 144 * 7),
    ("y = MatMul(x, w)", {"w": rand(6, 5)}, 4 * 6 * 6 * 5),
    ("y = MatMul(x, w)", {"w": rand(6)}, 4 * 6 * 6),
    ("t = Transpose<perm = [0,1,3,2]>(x) y = MatMul(x, t)", {}, 4 * 6 * 6 * 6),
    ("c = Conv(x, w) r = Relu(c) y = MaxPool<kernel_shape = [2,2]>(r)", {"w": rand(8, 4, 3, 3)}, 8 * 4 * 4 * 4 * 9),
    ("y = Exp(x)", {}, 0),
]


@pytest.mark.parametrize(("body", "given", "expected"), ROWS, ids=lambda value: str(value)[:40])
def test_operators_by_their_definition(body: str, given: dict[str, Any], expected: int, tmp_path: Path) -> None:
    assert macs(tmp_path, body, **given) == expected


def test_integer_forms_count_like_floats(tmp_path: Path) -> None:
    given: dict[str, Any] = {"w": BYTES, "s": np.float32(1), "z": np.uint8(0)}
    x = "uint8[1,4,6,6] x"
    assert macs(tmp_path, "y = ConvInteger(x, w)", x, y="int32 y", w=BYTES) == 8 * 4 * 4 * 4 * 9
    assert macs(tmp_path, "y = QLinearConv(x, s, z, w, s, z, s, z)", x, y="uint8 y", **given) == 8 * 4 * 4 * 4 * 9
    flat: dict[str, Any] = given | {"w": np.ones((6, 5), np.uint8)}
    assert macs(tmp_path, "y = QLinearMatMul(x, s, z, w, s, z, s, z)", x, y="uint8 y", **flat) == 4 * 6 * 6 * 5
    assert macs(tmp_path, "y = MatMulInteger(x, w)", x, y="int32 y", w=flat["w"]) == 4 * 6 * 6 * 5
    float_weight = "d = DequantizeLinear(w, s, z) y = Conv(x, d)"
    assert macs(tmp_path, float_weight, **given) == 8 * 4 * 4 * 4 * 9


def test_open_sizes_are_those_of_the_feed(tmp_path: Path) -> None:
    body, given = "y = Conv(x, w)", {"w": rand(8, 4, 3, 3)}
    for n, side in ((1, 6), (3, 10)):
        found = macs(tmp_path, body, "float[n,4,h,w0] x", {"x": (n, 4, side, side)}, **given)
        assert found == n * 8 * (side - 2) ** 2 * 4 * 9


def test_sizes_recorded_for_something_else_are_not_believed(tmp_path: Path) -> None:
    proto = model("c = Conv(x, w) y = Conv(c, v)", x="float[1,4,6,6] x", w=rand(8, 4, 3, 3), v=rand(2, 8, 1, 1))()
    (record,) = (v for v in proto.graph.value_info if v.name == "c")
    record.type.tensor_type.shape.dim[2].dim_value = 40
    onnx.save(proto, tmp_path / "m.onnx")
    assert count(tmp_path / "m.onnx", {"x": (1, 4, 6, 6)}) == 8 * 16 * 36 + 2 * 16 * 8


def test_a_function_counts_at_every_call(tmp_path: Path) -> None:
    proto = model("a = local.F(x) y = local.F(a)", y="float[1,4,6,6] y", x="float[1,4,6,6] x", imports='"local" : 1')()
    constant = helper.make_node("Constant", [], ["k"], value=helper.make_tensor("k", 1, [4, 4, 1, 1], [0.5] * 16))
    nodes = [constant, helper.make_node("Conv", ["p", "k"], ["q"])]
    proto.functions.append(helper.make_function("local", "F", ["p"], ["q"], nodes, [helper.make_opsetid("", 17)]))
    onnx.save(proto, tmp_path / "m.onnx")
    assert count(tmp_path / "m.onnx", {"x": (1, 4, 6, 6)}) == 2 * 4 * 36 * 4


UNKNOWN = [
    "h = LSTM<hidden_size = 2>(x, w, r) y = Relu(h)",
    'y = Einsum<equation = "bchw,bchw->bc">(x, x)',
    "y = com.acme.Thing(x)",
    "n = NonZero(x) c = Cast<to = 1>(n) t = Transpose(c) y = MatMul(c, t)",
]


@pytest.mark.parametrize("body", UNKNOWN)
def test_what_cannot_be_known_is_none(body: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    if "LSTM" in body:
        given = {"x": "float[3,1,4] x", "w": rand(1, 8, 4), "r": rand(1, 8, 2)}
    imports = '"com.acme" : 1' if "acme" in body else ""
    assert macs(tmp_path, body, y="float y", imports=imports, **given) is None


@pytest.mark.parametrize(("inside", "expected"), [("MatMul(x, x)", None), ("Relu(x)", 0)])
def test_a_branch_counts_only_where_nothing_in_it_multiplies(inside: str, expected: int | None, tmp_path: Path) -> None:
    bodies = f"then_branch = t () => (float t1) {{ t1 = {inside} }}, else_branch = e () => (float e1) {{ e1 = Neg(x) }}"
    branch = f"y = If (c) <{bodies}>"
    proto = model(branch, x="float[1,4,6,6] x", y="float y")()
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    onnx.save(proto, tmp_path / "m.onnx")
    assert count(tmp_path / "m.onnx", {"x": (1, 4, 6, 6), "c": ()}) == expected


def test_a_damaged_file_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x3a\x05")
    assert count(tmp_path / "m.onnx", {}) is None


def test_mobilenetv2_comes_to_what_its_makers_say() -> None:
    """300.8 million at 224 x 224 (Sandler et al. 2018, table 4, write 300M)."""
    name = "exported/real_torch/torch2.13.0_ts-preserve_mobilenetv2-imagenet.onnx"
    path = corpus.file(name)
    assert count(path, {"x": (1, 3, 224, 224)}) == 300_774_272
