"""One network exported twice, with its normalisations folded by the exporter and without: the same channels go."""

from __future__ import annotations

from functools import cache

import pytest

import onnx_clp
from onnx_clp import CleanConfig
from onnx_clp.document.run import LayerReport
from onnx_clp.verdicts import LayerStatus
from tests import corpus

PRESERVE = "exported/torch/torch2.13.0_ts-preserve_resnet.onnx"
RESNET = "exported/derived/torch2.13.0_ts-preserve_resnet__"

# (with its normalisations, without them or stored otherwise): the layers stand in the same order.
ORDERED = [
    (PRESERVE, "exported/torch/torch2.13.0_ts-default_resnet.onnx"),
    (PRESERVE, "exported/torch/torch2.13.0_dynamo-default_resnet.onnx"),
    (PRESERVE, "exported/torch/torch2.13.0_dynamo-ext_resnet.onnx"),
    (PRESERVE, "exported/torch/torch2.13.0_dynamo-noopt_resnet.onnx"),
    ("exported/torch/torch2.13.0_dynamo-noopt_resnet.onnx", "exported/torch/torch2.13.0_dynamo-default_resnet.onnx"),
    (PRESERVE, f"{RESNET}external.onnx"),
    (PRESERVE, f"{RESNET}fp16.onnx"),
    (PRESERVE, f"{RESNET}opset21.onnx"),
    (
        "exported/torch/torch2.13.0_ts-preserve_preact.onnx",
        "exported/torch/torch2.13.0_ts-default_preact.onnx",
    ),
    ("exported/torch/torch2.13.0_ts-preserve_unet.onnx", "exported/torch/torch2.13.0_ts-default_unet.onnx"),
    (
        "exported/torch/torch2.13.0_ts-preserve_mobilenetv2.onnx",
        "exported/torch/torch2.13.0_dynamo-default_mobilenetv2.onnx",
    ),
    (
        "exported/real_torch/torch2.13.0_ts-preserve_mobilenetv2-imagenet.onnx",
        "exported/real_torch/torch2.13.0_ts-default_mobilenetv2-imagenet.onnx",
    ),
    (
        "exported/tfkeras2/tfkeras2.21.0_tf2onnx-nofold_smallcnn.onnx",
        "exported/tfkeras2/tfkeras2.21.0_tf2onnx-default_smallcnn.onnx",
    ),
]
# The same with the layers in another order: they are told apart by their channels and what is pruned.
SHUFFLED = [
    (
        "exported/real_tf/tf2onnx1.17.0-nofold_fer-minixception.onnx",
        "exported/real_tf/tf2onnx1.17.0-default_fer-minixception.onnx",
    ),
    (PRESERVE, f"{RESNET}ort-extended.onnx"),
]
# Layers that are no candidates once their normalisation is invisible, by the file and its layers' places in order.
# None of the files above has such a layer: no normalised convolution in them is a head, a gate or before a Sigmoid.
PROTECTED: dict[str, set[int]] = {}


@cache
def layers(name: str, u: float, freeze: bool = False) -> tuple[LayerReport, ...]:
    config = CleanConfig(validate=False, u=u, freeze_inputs=freeze)
    return onnx_clp.clean(corpus.file(name), config).report.layers


def short(name: str) -> str:
    return name.rsplit("_", 2)[-2].split("-", 1)[-1] + "_" + name.rsplit("_", 1)[-1].removesuffix(".onnx")


@pytest.mark.parametrize("u", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("pair", ORDERED, ids=lambda pair: f"{short(pair[0])} {short(pair[1])}")
def test_twins_lose_the_same_channels(pair: tuple[str, str], u: float) -> None:
    first, second = (layers(name, u) for name in pair)
    assert len(first) == len(second)
    protected = PROTECTED.get(pair[1], set())
    for at, (one, other) in enumerate(zip(first, second, strict=True)):
        assert (one.op, one.channels) == (other.op, other.channels)
        if at in protected:
            assert other.status in (LayerStatus.HEAD, LayerStatus.GATE, LayerStatus.NOT_ZERO_KEEPING)
            assert one.status is LayerStatus.JUDGED
        else:
            assert one.status is other.status, (at, one.name, one.reason, other.reason)
            assert one.pruned == other.pruned, (at, one.name)
    assert any(layer.pruned for layer in first) or u == 3


@pytest.mark.parametrize("u", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("pair", SHUFFLED, ids=lambda pair: f"{short(pair[0])} {short(pair[1])}")
def test_twins_in_another_order(pair: tuple[str, str], u: float) -> None:
    first, second = (sorted((r.channels, r.status.value, r.pruned) for r in layers(name, u)) for name in pair)
    assert first == second
    assert any(pruned for _, _, pruned in first)


def test_the_exporter_folded_one_twin_and_not_the_other() -> None:
    """Otherwise the comparison would say nothing."""
    for with_norms, without in [*ORDERED[:4], *ORDERED[8:12]]:
        one, other = (sum(len(r.folded) for r in layers(name, 3.0)) for name in (with_norms, without))
        if "noopt" not in without:
            assert one > other


def test_a_quantised_twin_loses_the_same_channels_up_to_rounding() -> None:
    first, second = (
        sorted((r.channels, r.pruned) for r in layers(name, 3.0)) for name in (PRESERVE, f"{RESNET}ort-dynamic.onnx")
    )
    assert first == second


def test_initializers_that_are_inputs_are_left_alone_until_they_are_frozen() -> None:
    name = "exported/torch/torch2.13.0_ts-op9-preserve_resnet.onnx"
    assert {layer.status for layer in layers(name, 3.0)} == {LayerStatus.UNJUDGEABLE}
    frozen, twin = layers(name, 3.0, freeze=True), layers(PRESERVE, 3.0)
    assert [(r.channels, r.status, r.pruned) for r in frozen] == [(r.channels, r.status, r.pruned) for r in twin]


def test_a_training_export_is_judged_though_nothing_folds() -> None:
    training = layers("exported/torch/torch2.13.0_ts-training_resnet.onnx", 3.0)
    assert not any(layer.folded for layer in training)
    assert [layer.pruned for layer in training] == [layer.pruned for layer in layers(PRESERVE, 3.0)]
