"""Random networks with channels switched off: the same answers, and hardly a zero channel stays without a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from onnx_clp import CleanConfig
from onnx_clp.document.run import Compaction
from onnx_clp.run.pipeline import clean
from tests.compact_models import outputs
from tests.compact_random import SIZE, network

Array = NDArray[Any]
CONFIG = CleanConfig(compact=True, compact_multiple=1, prune=False, validate=False)
LINEAR = ("Conv", "ConvTranspose", "MatMul")


def images(seed: int, scale: float = 1.0) -> dict[str, Array]:
    return {"x": (scale * np.random.default_rng(seed).normal(size=(2, 3, SIZE, SIZE))).astype(np.float32)}


def compacted(model: ModelProto) -> tuple[ModelProto, Compaction]:
    result = clean(model, CONFIG)
    assert result.report.compaction is not None
    return result.model, result.report.compaction


def zero_channels(model: ModelProto) -> dict[str, int]:
    """How many channels of each layer's output are zero by the zeros of the weights, by the layer's name.

    Weights that are not 0 are drawn anew several times, so that a channel that is zero each time is so by the zeros
    alone: not because a Relu happens to see nothing positive.
    """
    layers = [node for node in model.graph.node if node.op_type in LINEAR]
    whole = ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(helper.make_empty_tensor_value_info(node.output[0]) for node in layers)
    draws = [outputs(redrawn(whole, seed), images(seed, 5.0)) for seed in range(8)]
    found = {}
    for at, node in enumerate(layers):
        values = np.stack([draw[at] for draw in draws])
        channels = np.moveaxis(values, -1 if node.op_type == "MatMul" else 2, 0)
        found[node.name] = int((channels.reshape(len(channels), -1) == 0).all(axis=1).sum())
    return found


def redrawn(model: ModelProto, seed: int) -> ModelProto:
    """The model with every entry of its linear layers that is not 0 drawn anew."""
    rng = np.random.default_rng(seed)
    copy = ModelProto()
    copy.CopyFrom(model)
    drawn = {name for node in copy.graph.node if node.op_type in LINEAR for name in node.input[1:]}
    for tensor in copy.graph.initializer:
        if tensor.name in drawn:
            old = numpy_helper.to_array(tensor)
            new = np.where(old == 0, 0, rng.normal(size=old.shape)).astype(old.dtype)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    return copy


def check(seed: int) -> tuple[Compaction, int]:
    """What became of one network, and how many zero channels it still has that the report does not name."""
    model = network(seed).model()
    made, section = compacted(model)
    onnx.checker.check_model(made, full_check=True)
    assert list(made.graph.output) == list(model.graph.output)
    for before, after in zip(outputs(model, images(seed)), outputs(made, images(seed)), strict=True):
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * max(float(np.abs(before).max()), 1e-6))
    kept = {layer.name: sum(len(part.channels) for part in layer.kept) for layer in section.layers}
    return section, sum(max(n - kept.get(name, 0), 0) for name, n in zero_channels(made).items())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_random_network_computes_the_same(seed: int) -> None:
    check(seed)


def test_random_networks_lose_and_keep_channels_and_the_report_names_nearly_all_that_stay() -> None:
    found = [check(seed) for seed in range(40)]
    removed, kept = (sum(getattr(section, name) for section, _ in found) for name in ("removed", "kept"))
    assert min(removed, kept) > 100
    assert sum(unnamed for _, unnamed in found) <= 0.02 * kept


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3000, 200))
def test_more_random_networks(first: int) -> None:
    for seed in range(first, first + 200):
        check(seed)
