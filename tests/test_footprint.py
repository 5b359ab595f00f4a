"""A small file that asks for gigabytes is refused in one sentence, before they are taken, and others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnx_clp
from onnx_clp.errors import NotValidated
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.modelfile import reader
from onnx_clp.validation import footprint, macs
from onnx_clp.verdicts import LayerStatus
from tests.forms.build import model, rand
from tests.judging import layers

SIDE = np.array([1, 3, 9000, 9000], np.int64)
GROWN = {
    "Expand": "u = Expand(x, side)",
    "Resize": "u = Resize(x, , , side)",
    "Pad": "u = Pad(x, pads)",
    "Tile": "u = Tile(x, times)",
}
GIVEN = {
    "side": SIDE,
    "pads": np.array([0, 0, 0, 0, 0, 0, 9000, 9000], np.int64),
    "times": np.array([1, 1, 9000, 9000], np.int64),
    "w": rand(8, 3, 3, 3),
}
TAIL = " c = Conv(u, w) r = Relu(c) y = GlobalAveragePool(r)"


def small(body: str) -> ModelProto:
    used = {name: value for name, value in GIVEN.items() if name in body}
    proto = model(body, x="float[1,3,1,1] x", y="float[1,8,1,1] y", opset=17, ir=8, **used)()
    assert isinstance(proto, ModelProto)
    assert proto.ByteSize() < 2000
    return proto


@pytest.mark.parametrize("name", GROWN)
def test_the_value_that_takes_most_is_found_by_its_shape(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(small(GROWN[name] + TAIL), path)
    inferred = macs.inferred(path, {"x": (1, 3, 1, 1)})
    assert inferred is not None
    found = footprint.largest(inferred)
    assert found is not None
    assert found.value == "c"
    assert found.nbytes >= 4 * (8 + 3) * 8998**2


def test_a_result_in_the_place_of_its_operand_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model("a = Relu(x) y = Relu(a)", x="float[1,3,8,8] x", y="float[1,3,8,8] y")(), path)
    inferred = macs.inferred(path, {"x": (1, 3, 8, 8)})
    assert inferred is not None
    assert footprint.largest(inferred) == ("a", (1, 3, 8, 8), 4 * 3 * 64)


def test_a_model_too_large_to_run_is_refused_with_the_value() -> None:
    with pytest.raises(NotValidated, match=r"value c .*GiB of memory.*--memory"):
        onnx_clp.clean(small(GROWN["Expand"] + TAIL), onnx_clp.CleanConfig(provider="cpu"))


def test_a_model_that_fits_is_validated() -> None:
    proto = small("u = Identity(x) c = Conv<pads=[1,1,1,1]>(u, w) r = Relu(c) y = GlobalAveragePool(r)")
    report = onnx_clp.clean(proto, onnx_clp.CleanConfig(provider="cpu")).report
    assert report.validation.outcome == "validated"


# Constants that the graph computes

CHAIN = (
    "k = ConstantOfShape<value = float[1] {0.5}>(shape) n = Neg(k) c = Conv(x, n) "
    "r = Relu(c) p = GlobalAveragePool(r) y = Conv(p, w)"
)


def chain(inputs: int) -> ModelProto:
    shape = np.array([16, inputs, 1, 1], np.int64)
    x, y = f"float[1,{inputs},1,1] x", "float[1,4,1,1] y"
    proto = model(CHAIN, x=x, y=y, opset=17, ir=8, shape=shape, w=rand(4, 16, 1, 1))()
    assert isinstance(proto, ModelProto)
    return proto


def test_a_weight_computed_to_many_times_the_file_is_not_evaluated() -> None:
    huge = onnx_clp.clean(chain(4_000_000), onnx_clp.CleanConfig(validate=False))
    found = layers(huge)["c"]
    assert found.status is LayerStatus.UNJUDGEABLE
    assert "computed" in found.reason


def test_a_weight_computed_to_a_moderate_size_is_evaluated() -> None:
    found = layers(onnx_clp.clean(chain(4_000), onnx_clp.CleanConfig(validate=False)))["c"]
    assert found.status is LayerStatus.JUDGED


def test_the_room_is_for_all_constants_together_and_each_counts_once() -> None:
    store = TensorStore()
    assert store.has_room("anything", 1 << 40)
    store.limit_to(1 << 24)
    assert store.has_room("a", 200 << 20)
    assert store.has_room("a", 200 << 20)
    assert not store.has_room("b", 100 << 20)
    assert store.has_room("b", 50 << 20)


def test_what_lies_in_the_file_takes_no_room() -> None:
    """Transposed in the graph, a stored weight is read where it lies."""
    proto = model("t = Transpose(w) y = MatMul(x, t)", x="float[1,300] x", y="float[1,300] y", w=rand(300, 300))()
    with reader.from_proto(proto, 1 << 30) as file:
        file.store.limit_to(0)
        assert file.store.has_room("others", 128 << 20)
        found = ModelIndex(file.model, file.store).main.constant("t")
    assert found is not None
