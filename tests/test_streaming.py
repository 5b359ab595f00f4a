"""Weights pass through in blocks: the same values, and external data stays outside the message."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_clp.cli.main import main
from onnx_clp.file.messages import delete
from onnx_clp.file.store import ComputedPayload
from onnx_clp.numerics import affine, lipschitz
from onnx_clp.numerics.affine import KernelLayout, scale_weight, scaled_blocks
from onnx_clp.run.assemble import _versions

LAYOUTS = {
    "conv": (KernelLayout(0, 1), (6, 4, 3), 6, 4),
    "grouped": (KernelLayout(0, 1, 2), (6, 2, 3), 6, 4),
    "transposed": (KernelLayout(1, 0, 2, True), (4, 3, 3), 6, 4),
    "matmul": (KernelLayout(1, 0), (4, 6), 6, 4),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_blocks_hold_what_one_product_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, shape, outputs, inputs = LAYOUTS[name]
    rng = np.random.default_rng(1)
    weight = rng.standard_normal(shape, dtype=np.float32)
    out, into = rng.uniform(0.5, 2, outputs), rng.uniform(0.5, 2, inputs)
    zeroed = np.arange(outputs) == 2
    whole = scale_weight(weight, layout, out, into, zeroed, np.dtype(np.float32))
    wide = weight.astype(np.float64) * affine.channel_factor(out, shape, layout, output=True)
    wide *= affine.channel_factor(into, shape, layout, output=False)
    wide *= affine.channel_factor(1.0 - zeroed, shape, layout, output=True)
    assert np.array_equal(whole, wide.astype(np.float32))
    monkeypatch.setattr(affine, "_BLOCK_ELEMENTS", 1)
    blocks = [b.copy() for b in scaled_blocks(weight, layout, out, into, zeroed, np.dtype(np.float32))]
    assert len(blocks) == shape[0]
    assert np.array_equal(np.concatenate(blocks), whole)


def test_a_silenced_channel_is_zero_even_where_it_is_not_finite() -> None:
    weight = np.full((2, 1, 3), np.inf, np.float32)
    ones = np.ones(2)
    found = scale_weight(weight, KernelLayout(0, 1), ones, None, np.array([True, False]), np.dtype(np.float32))
    assert (found[0] == 0).all()
    assert np.isinf(found[1]).all()


@pytest.mark.parametrize("block", [1, 1 << 18])
def test_scores_do_not_depend_on_the_block_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = np.random.default_rng(2).standard_normal((7, 5, 9), dtype=np.float32)
    kernels[3, 0, 0] = np.nan
    monkeypatch.setattr(lipschitz, "_CACHED_ELEMENTS", block)
    found = lipschitz.sigma(kernels)
    truth = [np.linalg.svd(k.astype(np.float64), compute_uv=False)[0] for i, k in enumerate(kernels) if i != 3]
    assert np.isnan(found[3])
    assert np.allclose(np.delete(found, 3), truth, rtol=1e-13)


def test_a_payload_reads_as_its_blocks_one_after_the_other() -> None:
    parts = [np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32)]
    payload = ComputedPayload(28, lambda: parts)
    assert bytes(payload.read()) == b"".join(p.tobytes() for p in parts)
    assert b"".join(payload.chunks()) == bytes(payload.read())


def folding_model(channels: int) -> ModelProto:
    rng = np.random.default_rng(3)
    tensors = [numpy_helper.from_array(rng.standard_normal((channels, 3, 3, 3)).astype(np.float32), "w")]
    tensors += [numpy_helper.from_array(rng.uniform(0.5, 1, channels).astype(np.float32), n) for n in "gbmv"]
    # Before the weight: objects made for earlier tensors must not be taken for it, or it for none of them.
    tensors = [numpy_helper.from_array(np.full(300, i, np.float32), f"spare{i}") for i in range(50)] + tensors
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 6, 6])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("external", [True, False])
def test_a_folded_weight_stays_where_the_input_keeps_its_weights(tmp_path: Path, external: bool) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(folding_model(64), source, save_as_external_data=external, location="in.data", size_threshold=0)
    assert main([str(source), str(target), "--no-validate", "-q"]) == 0
    written = onnx.load(target, load_external_data=False).graph
    weight = next(t for t in written.initializer if t.name == "w")
    assert [n.op_type for n in written.node] == ["Conv"]
    assert (weight.data_location == TensorProto.EXTERNAL) == external
    given = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in folding_model(64).graph.initializer}
    scale = given["g"] / np.sqrt(given["v"] + 1e-5)
    result = next(t for t in onnx.load(target).graph.initializer if t.name == "w")
    assert np.allclose(numpy_helper.to_array(result), given["w"] * scale[:, None, None, None], rtol=1e-6)


@pytest.mark.parametrize("gone", [[], [0], [4], [0, 1, 2, 3, 4], [1, 2, 4], [0, 2, 4]])
def test_deleting_takes_out_exactly_the_positions(gone: list[int]) -> None:
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.zeros(1), str(i)) for i in range(5)])
    delete(graph.initializer, gone)
    assert [t.name for t in graph.initializer] == [str(i) for i in range(5) if i not in gone]


def test_versions_are_those_of_the_installed_metadata() -> None:
    found = _versions()
    assert {"onnx", "numpy", "scipy"} <= set(found)
    assert found == {name: metadata.version(name) for name in found}
