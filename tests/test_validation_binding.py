"""Bound runs give what plain runs give, batch after batch; the CPU stands in for device memory."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import DTypeLike

from onnx_clp.validation import evaldata, evaluate
from onnx_clp.validation.anatomy import read_anatomy
from onnx_clp.validation.binding import bindable
from onnx_clp.validation.plan import Plan
from onnx_clp.validation.provider import CPU, cpu_engine
from onnx_clp.validation.session import OrtRunner
from tests.validation_models import network, save, text_model


def pair(path: Path) -> tuple[OrtRunner, OrtRunner]:
    return OrtRunner(path, cpu_engine(), Plan()), OrtRunner(path, cpu_engine(), Plan(), bound=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_bound_batches_give_what_plain_ones_give(tmp_path: Path, dtype: DTypeLike) -> None:
    plain, bound = pair(save(network(folded=False, dtype=dtype), tmp_path / "m.onnx"))
    assert bound._binding is not None
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((n, 3, 8, 8)).astype(dtype) for n in (4, 4, 2, 4)]
    kept = [batch.copy() for batch in batches]
    found = [bound.run({"x": batch})["y"] for batch in batches]
    for batch, copy, outputs in zip(batches, kept, found, strict=True):
        np.testing.assert_array_equal(batch, copy)
        np.testing.assert_array_equal(outputs, plain.run({"x": copy})["y"])
    assert not np.array_equal(found[0], found[1])


def test_a_buffer_is_made_once_for_batches_of_one_shape(tmp_path: Path) -> None:
    _, bound = pair(save(network(folded=False), tmp_path / "m.onnx"))
    assert bound._binding is not None
    batch = np.zeros((2, 3, 8, 8), np.float32)
    bound.run({"x": batch})
    first = bound._binding._buffers["x"][2]
    bound.run({"x": batch + 1})
    assert bound._binding._buffers["x"][2] is first
    bound.run({"x": np.zeros((3, 3, 8, 8), np.float32)})
    assert bound._binding._buffers["x"][2] is not first


def test_arrays_that_are_not_contiguous_arrive_in_order(tmp_path: Path) -> None:
    plain, bound = pair(save(network(folded=False), tmp_path / "m.onnx"))
    turned = np.random.default_rng(0).standard_normal((8, 8, 3, 2)).astype(np.float32).T
    np.testing.assert_array_equal(bound.run({"x": turned})["y"], plain.run({"x": turned})["y"])


def test_bfloat16_goes_in_and_comes_out(tmp_path: Path) -> None:
    path = text_model("g (bfloat16[n] x) => (bfloat16[n] y) { y = Identity(x) }", tmp_path)
    plain, bound = pair(path)
    values = np.array([1.5, -2.0, 3e38], ml_dtypes.bfloat16)
    for runner in (plain, bound, bound):
        out = runner.run({"x": values})["y"]
        assert out.dtype == values.dtype
        np.testing.assert_array_equal(out.astype(np.float32), values.astype(np.float32))


def test_an_evaluation_goes_through_bound_batches(tmp_path: Path) -> None:
    path = save(network(folded=False), tmp_path / "m.onnx")
    rng, count = np.random.default_rng(1), evaluate.BATCH + 7
    x = (rng.standard_normal((count, 3, 8, 8)) + 5 * rng.standard_normal((count, 3, 1, 1))).astype(np.float32)
    y = np.zeros(count, np.int64)
    np.savez(tmp_path / "e.npz", x_clean=x, y_clean=y, x_triggered=x[::-1], y_target=1, y_true_triggered=y)
    exam = evaluate.prepare(evaldata.load(tmp_path / "e.npz", 1 << 30), read_anatomy(path), None)
    plain, bound = (evaluate.predict(runner, exam) for runner in pair(path))
    np.testing.assert_array_equal(plain.clean, bound.clean)
    np.testing.assert_array_equal(plain.triggered, bound.triggered)
    np.testing.assert_array_equal(bound.clean[::-1], bound.triggered)
    assert len(set(bound.clean.tolist())) > 1


@pytest.mark.parametrize(
    ("types", "can"),
    [
        (["tensor(float)", "tensor(int64)"], True),
        (["tensor(float)", "seq(tensor(float))"], False),
        (["tensor(string)"], False),
    ],
)
def test_only_tensors_of_numbers_are_bound(types: list[str], can: bool) -> None:
    assert bindable(types) == can


def test_nodes_are_counted_by_the_provider_that_took_them(tmp_path: Path) -> None:
    plain, _ = pair(save(network(folded=False), tmp_path / "m.onnx"))
    assert plain.placed in ({CPU: 6}, {})
    tells = hasattr(plain._session, "get_provider_graph_assignment_info")
    assert bool(plain.placed) == tells
