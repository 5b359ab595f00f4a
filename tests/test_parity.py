"""The pruned channels are those of the published rule, computed here on its own, on random layers and the zoo.

Source of the rule: Zheng et al., ECCV 2022, and the authors' code, which takes a full SVD of every channel's
reshaped kernel times |gamma/sqrt(running_var)|, the unbiased std of the layer's scores, and a strict >.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnx_clp.skipped import LayerStatus
from tests.judging import cleaned, network

Array = NDArray[Any]

MODELS = Path(__file__).parent.parent / "models"
NETWORK = (
    "c = Conv<pads=[1,1,1,1]>(x, w) n = BatchNormalization<epsilon={epsilon}>(c, g, b1, m, v) "
    "a = Relu(n) y = Conv(a, w2)"
)


def published(weight: Array, gamma: Array, variance: Array, epsilon: float, u: float) -> tuple[set[int], float]:
    """The rule's channels, and how close the nearest score lies to the threshold, relative to it."""
    scores = np.array(
        [
            np.linalg.svd(kernel.reshape(kernel.shape[0], -1).astype(np.float64), compute_uv=False).max()
            for kernel in weight
        ]
    )
    scores *= np.abs(gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon))
    deviation = np.sqrt(((scores - scores.sum() / len(scores)) ** 2).sum() / (len(scores) - 1))
    threshold = scores.sum() / len(scores) + u * deviation
    margin = float((np.abs(scores - threshold) / threshold).min()) if threshold else 0.0
    return {int(c) for c in np.flatnonzero(scores > threshold)}, margin


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(2, 48),
    u=st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0]),
    heavy=st.booleans(),
    epsilon=st.sampled_from([0.0, 1e-5, 1e-3]),
)
def test_random_layers(seed: int, channels: int, u: float, heavy: bool, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    spread = rng.lognormal(0, 1.0 if heavy else 0.1, channels)
    weight = (rng.normal(size=(channels, 3, 3, 3)) * spread[:, None, None, None]).astype(np.float32)
    gamma, beta, mean = rng.normal(size=(3, channels)).astype(np.float32)
    variance = rng.uniform(0.05, 2, channels).astype(np.float32)
    given_names = {"w": weight, "g": gamma, "b1": beta, "m": mean, "v": variance}
    proto = network(NETWORK.format(epsilon=f"{epsilon:.8f}"), channels=channels, **given_names)
    found = cleaned(proto, u=u).report.layers[0]
    expected, margin = published(weight, gamma, variance, epsilon, u)
    if margin < 1e-9:
        return
    assert set(found.pruned) == expected
    assert found.status in (LayerStatus.JUDGED, LayerStatus.TOO_SMALL)
    if found.status is LayerStatus.TOO_SMALL:
        assert not expected
    without, margin = published(weight, gamma, variance, 0.0, u)
    if margin > 0.1:  # eps moves a score by at most 1 %: half of 1e-3/0.05, and the threshold a little more
        assert set(found.pruned) == without


# --- the zoo ------------------------------------------------------------------------------------------


def pairs(model: ModelProto) -> list[tuple[str, Array, dict[str, Array], float]]:
    """(BN output, conv weight, BN parameters, eps) of every Conv > BatchNormalization written as such."""
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    convs = {n.output[0]: n for n in model.graph.node if n.op_type == "Conv"}
    found = []
    for node in model.graph.node:
        conv = convs.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.input[1] not in tensors:
            continue
        values = {slot: tensors[node.input[at]] for at, slot in ((1, "gamma"), (4, "variance"))}
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        found.append((conv.name or conv.output[0], tensors[conv.input[1]], values, epsilon))
    return found


ZOO = sorted(MODELS.glob("**/*.onnx")) if MODELS.is_dir() else []


@pytest.mark.parametrize("path", ZOO or [None], ids=lambda p: p.name if p else "none")
@pytest.mark.parametrize("with_eps", [True, False])
def test_the_zoo(path: Path | None, with_eps: bool) -> None:
    if path is None:
        pytest.skip("models/ holds no model")
    model = onnx.load(path)
    known = pairs(model)
    if not known:
        pytest.skip("its normalisations were folded when it was exported")
    layers = {layer.name: layer for layer in cleaned(model).report.layers}
    judged = 0
    for name, weight, values, epsilon in known:
        if layers[name].status is not LayerStatus.JUDGED:
            continue
        expected, _ = published(weight, values["gamma"], values["variance"], epsilon if with_eps else 0.0, 3.0)
        assert set(layers[name].pruned) == expected, name
        judged += 1
    assert judged
