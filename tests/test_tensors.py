"""The store reads every type from wherever it lies as onnx does, and makes tensors that read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp.file import wire
from onnx_clp.file.store import ComputedPayload, MappedPayload, TensorStore, numpy_dtype, packed_nbytes
from onnx_clp.modelfile import reader

Array = NDArray[Any]

UNREAL = {"UNDEFINED", "STRING"}
TYPES = [value for name, value in TensorProto.DataType.items() if name not in UNREAL]
NAMES = {value: name for name, value in TensorProto.DataType.items()}
PACKED = {v for v, name in NAMES.items() if name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")}


def values(data_type: int, count: int) -> Array:
    dtype = numpy_dtype(data_type)
    rng = np.random.default_rng(data_type)
    if dtype == np.bool_:
        return rng.random(count) < 0.5
    if data_type in PACKED or NAMES[data_type].startswith(("FLOAT8", "FLOAT6")):
        return rng.integers(0, 2, count).astype(np.float32).astype(dtype)
    if dtype.kind == "c":
        return (rng.normal(size=count) + 1j * rng.normal(size=count)).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, 100, count).astype(dtype)
    return rng.normal(size=count).astype(dtype)


def raw(data_type: int, count: int, shape: tuple[int, ...]) -> TensorProto:
    tensor = numpy_helper.from_array(values(data_type, count).reshape(shape), "t")
    assert tensor.data_type == data_type
    return tensor


def holder(tensors: list[TensorProto]) -> ModelProto:
    """A model of initializers alone."""
    graph = helper.make_graph([], "g", [], [], tensors)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def same(found: Array, tensor: TensorProto) -> None:
    expected = numpy_helper.to_array(tensor)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("data_type", TYPES, ids=[NAMES[t] for t in TYPES])
@pytest.mark.parametrize("shape", [(7,), (), (0, 3), (3, 5)], ids=str)
def test_raw_data(data_type: int, shape: tuple[int, ...]) -> None:
    tensor = raw(data_type, int(np.prod(shape)), shape)
    assert tensor.HasField("raw_data")
    same(TensorStore().array(tensor), tensor)
    assert TensorStore().nbytes(tensor) == len(tensor.raw_data)


@pytest.mark.parametrize("data_type", TYPES, ids=[NAMES[t] for t in TYPES])
def test_typed_fields(data_type: int) -> None:
    tensor = helper.make_tensor("t", data_type, [5], values(data_type, 5).tolist())
    if tensor.HasField("raw_data"):
        pytest.skip("onnx stores this type as raw data alone")
    same(TensorStore().array(tensor), tensor)
    assert TensorStore().raw_bytes(tensor) is None
    assert TensorStore().nbytes(tensor) is None
    assert TensorStore().payload(tensor) is None


@pytest.mark.parametrize("data_type", TYPES, ids=[NAMES[t] for t in TYPES])
def test_lifted_payloads(data_type: int) -> None:
    tensor = raw(data_type, 2409, (3, 803))
    model = holder([tensor])
    file = reader.from_proto(model, 1 << 30)
    (lean,) = file.model.graph.initializer
    assert wire.is_token(lean.raw_data)
    same(file.store.array(lean), tensor)
    assert file.store.nbytes(lean) == len(tensor.raw_data)
    assert isinstance(file.store.payload(lean), MappedPayload)
    assert model.graph.initializer[0] == tensor


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[reader.ModelFile, list[TensorProto]]]:
    """A file with every type in external data."""
    tensors = [raw(t, 2409, (3, 803)) for t in TYPES]
    for tensor, data_type in zip(tensors, TYPES, strict=True):
        tensor.name = NAMES[data_type]
    model = holder(tensors)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    with reader.read(tmp_path / "m.onnx", 1 << 30) as file:
        yield file, [raw(t, 2409, (3, 803)) for t in TYPES]


def test_external_data_of_every_type(stored: tuple[reader.ModelFile, list[TensorProto]]) -> None:
    file, expected = stored
    for tensor, whole in zip(file.model.graph.initializer, expected, strict=True):
        assert tensor.data_location == TensorProto.EXTERNAL
        same(file.store.array(tensor), whole)
        assert file.store.nbytes(tensor) == len(whole.raw_data)
        file.store.release(tensor)
        same(file.store.array(tensor), whole)


def test_arrays_are_read_only(stored: tuple[reader.ModelFile, list[TensorProto]]) -> None:
    file, _ = stored
    array = file.store.array(file.model.graph.initializer[0])
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


@pytest.mark.parametrize("data_type", TYPES, ids=[NAMES[t] for t in TYPES])
@pytest.mark.parametrize("count", [3, 2409])
def test_a_made_tensor_reads_back(data_type: int, count: int) -> None:
    store = TensorStore()
    array = values(data_type, count)
    tensor = store.make("t", array, data_type)
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("t", data_type, [count])
    found = store.array(tensor)
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert store.nbytes(tensor) == packed_nbytes(data_type, count)
    if not wire.is_token(tensor.raw_data):
        same(found, tensor)
        assert tensor.raw_data == numpy_helper.from_array(array).raw_data


def test_made_values_are_cast() -> None:
    store = TensorStore()
    tensor = store.make("t", np.array([1.5, 1e-9]), TensorProto.FLOAT16)
    np.testing.assert_array_equal(store.array(tensor), np.array([1.5, 0], np.float16))


def test_a_large_recipe_is_computed_when_it_is_read_and_never_before() -> None:
    store, calls = TensorStore(), []

    def compute() -> Array:
        calls.append(1)
        return np.arange(1000, dtype=np.float32)

    tensor = store.recipe("t", [10, 100], TensorProto.FLOAT, compute)
    assert not calls
    assert wire.is_token(tensor.raw_data)
    assert isinstance(store.payload(tensor), ComputedPayload)
    assert store.nbytes(tensor) == 4000
    assert not calls
    np.testing.assert_array_equal(store.array(tensor), np.arange(1000).reshape(10, 100))
    np.testing.assert_array_equal(store.array(tensor).ravel()[-1], 999)
    assert len(calls) == 2


def test_a_small_recipe_stands_in_the_message() -> None:
    store = TensorStore()
    tensor = store.recipe("t", [2], TensorProto.FLOAT, lambda: np.array([1, 2], np.float32))
    assert tensor.raw_data == np.array([1, 2], "<f4").tobytes()


def test_an_empty_recipe() -> None:
    store = TensorStore()
    tensor = store.recipe("t", [0, 3], TensorProto.FLOAT, lambda: np.zeros((0, 3), np.float32))
    assert store.array(tensor).shape == (0, 3)


@pytest.mark.parametrize(("count", "nbytes"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_four_bit_values_are_packed_in_pairs(count: int, nbytes: int) -> None:
    assert packed_nbytes(TensorProto.INT4, count) == nbytes


@pytest.mark.parametrize(("count", "nbytes"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_two_bit_values_are_packed_in_fours(count: int, nbytes: int) -> None:
    if "INT2" not in NAMES.values():
        pytest.skip("this onnx has no 2-bit types")
    assert packed_nbytes(TensorProto.INT2, count) == nbytes


@pytest.mark.parametrize(("count", "nbytes"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (7, 6)])
def test_four_six_bit_values_take_three_bytes(count: int, nbytes: int) -> None:
    if "FLOAT6E2M3" not in NAMES.values():
        pytest.skip("this onnx has no 6-bit types")
    assert packed_nbytes(TensorProto.FLOAT6E2M3, count) == nbytes
