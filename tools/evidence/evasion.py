"""What an attacker who has the file can do: rewrites that leave the function as it is and the tool without a hold.

    widen    every BatchNormalization's gamma and sqrt(var + eps) grow by one factor: the same scale and shift, so the
             same outputs, and caps at beta + C·|gamma| that many times farther away.
    level    behind every Conv > BatchNormalization > Relu whose value only a Conv or Gemm reads (pooling between):
             channel k is divided by its score and the reader's weights for it are multiplied by the same. Relu
             commutes with a positive factor, so the outputs stay; all scores of the layer become equal.

Neither needs data or training. A model that was trained normally and then rewritten is what is measured here; an
attacker who trains against the tool can do no less.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, load, numpy_helper

import onnx_clp
from onnx_clp.numerics.lipschitz import sigma
from tools.evidence import measuring, record, settings
from tools.evidence.record import Rates
from tools.evidence.subject import Subject
from tools.zoo import datasets, measure, result
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)

LOG = "evasion.jsonl"
IMAGES = 1000
FACTOR = 100.0
_EPSILON = 1e-5  # BatchNormalization's default
_THROUGH = ("MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Dropout", "Identity")

Array = NDArray[Any]


class Weights:
    """The initializers of a model, read and replaced by name."""

    def __init__(self, model: ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return numpy_helper.to_array(self._tensors[name]).astype(np.float64)

    def __setitem__(self, name: str, values: Array) -> None:
        tensor = self._tensors[name]
        dtype = numpy_helper.to_array(tensor).dtype
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), name))


def widen(model: ModelProto, factor: float = FACTOR) -> int:
    """Scale gamma and the standard deviation of every BatchNormalization alike, in place; how many."""
    _unshare(model)
    weights, done = Weights(model), 0
    for node in _normalisations(model, weights):
        gamma, variance = node.input[1], node.input[4]
        epsilon = _epsilon(node)
        weights[gamma] = weights[gamma] * factor
        weights[variance] = (weights[variance] + epsilon) * factor**2 - epsilon
        done += 1
    return done


def level(model: ModelProto) -> int:
    """Give every channel of a layer the same score where the next layer can take the factor, in place; how many."""
    _unshare(model)
    weights, done = Weights(model), 0
    users = _users(model)
    makers = {node.output[0]: node for node in model.graph.node}
    for node in _normalisations(model, weights):
        conv = makers.get(node.input[0])
        reader = _reader(users, node)
        if conv is None or conv.op_type != "Conv" or reader is None or len(users[conv.output[0]]) > 1:
            continue
        if conv.input[1] in weights and reader.input[1] in weights:
            done += _level(weights, conv, node, reader)
    return done


def _unshare(model: ModelProto) -> None:
    """Give every node its own copy of the initializers it reads: exporters merge equal ones."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    seen: set[str] = set()
    for node in model.graph.node:
        for slot, name in enumerate(node.input):
            if name in tensors and name in seen:
                copy = model.graph.initializer.add()
                copy.CopyFrom(tensors[name])
                copy.name = node.input[slot] = f"{name}_{node.output[0]}_{slot}"
            seen.add(name)


def _level(weights: Weights, conv: NodeProto, node: NodeProto, reader: NodeProto) -> bool:
    kernel, gamma, beta = weights[conv.input[1]], weights[node.input[1]], weights[node.input[2]]
    scale = gamma / np.sqrt(weights[node.input[4]] + _epsilon(node))
    scores = np.abs(scale) * sigma(kernel.reshape(*kernel.shape[:2], -1))
    if (scores <= 0).any():
        return False
    factor = scores / scores.mean()
    outer = weights[reader.input[1]]
    spread = _spread(reader, outer, factor)
    if spread is None:
        return False
    weights[node.input[1]], weights[node.input[2]] = gamma / factor, beta / factor
    weights[reader.input[1]] = outer * spread
    return True


def _spread(reader: NodeProto, weight: Array, factor: Array) -> Array | None:
    """The factor of each input channel, shaped to multiply the reader's weight; None where channels do not match."""
    if reader.op_type == "Conv":
        return factor.reshape(1, -1, 1, 1) if weight.shape[1] == len(factor) else None
    transposed = any(item.name == "transB" and item.i for item in reader.attribute)
    inputs = weight.shape[1 if transposed else 0]
    if inputs % len(factor):
        return None
    each = np.repeat(factor, inputs // len(factor))  # flattened (channels, height, width)
    return each[None, :] if transposed else each[:, None]


def _normalisations(model: ModelProto, weights: Weights) -> Iterator[NodeProto]:
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and all(name in weights for name in node.input[1:]):
            yield node


def _epsilon(node: NodeProto) -> float:
    return next((float(item.f) for item in node.attribute if item.name == "epsilon"), _EPSILON)


def _users(model: ModelProto) -> dict[str, list[NodeProto]]:
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for output in model.graph.output:
        users.setdefault(output.name, []).append(helper.make_node("Output", [output.name], []))
    return users


def _reader(users: dict[str, list[NodeProto]], node: NodeProto) -> NodeProto | None:
    """The only Conv or Gemm that reads a normalisation's value behind exactly one Relu; None if there is another."""
    value, relus = node.output[0], 0
    while len(found := users.get(value, [])) == 1:
        (reader,) = found
        if reader.op_type in ("Conv", "Gemm"):
            return reader if relus == 1 and reader.input[0] == value else None
        if reader.op_type == "Relu":
            relus += 1
        elif reader.op_type not in _THROUGH:
            return None
        value = reader.output[0]
    return None


REWRITES: dict[str, Callable[[ModelProto], int]] = {
    "as trained": lambda _: 0,
    "statistics widened": widen,
    "scores levelled": level,
}


def try_out(path: Path, data: EvaluationSet) -> dict[str, dict[str, Any]]:
    """Rates of one model under every rewrite and fixed setting; `layers` counts the layers rewritten."""
    found: dict[str, dict[str, Any]] = {}
    for name, rewrite in REWRITES.items():
        model = load(path)
        layers = rewrite(model)
        found[name] = {"layers": layers, **{key: _rates(model, key, data).as_dict() for key in settings.FIXED}}
    return found


def _rates(model: ModelProto, setting: str, data: EvaluationSet) -> Rates:
    pruned = capped = 0
    if setting != settings.NONE:
        one = settings.BY_NAME[setting]
        done = onnx_clp.clean(model, one.config())
        model, pruned = done.model, done.report.summary.channels_pruned if one.prunes else 0
        capped = done.report.caps.capped if done.report.caps else 0
    on = measuring.session(model.SerializeToString())
    rates = measure.rates(measure.predict(on, data.x_clean), measure.predict(on, data.x_triggered), data)
    return Rates(rates.images, rates.acc, rates.asr, rates.ra, pruned, capped)


def measure_all(subjects: Sequence[Subject], work: Path, data: Path, out: Path) -> None:
    """Note the patch-infected models of the reporting half that are missing."""
    done = {line["model"] for line in record.lines(out / LOG)}
    loaded: dict[str, datasets.Dataset] = {}
    for one in subjects:
        if one.name in done or not one.infected or one.half != "report" or one.group not in ("patch", "all-to-all"):
            continue
        name = one.result.design.dataset
        if name not in loaded:
            loaded[name] = datasets.load(name, data)
        found = try_out(work / (one.name + result.UNFOLDED), one.evaluation(loaded[name], work, IMAGES))
        line = {"model": one.name, "images": IMAGES, "rewrites": found}
        record.write(out / LOG, [*record.lines(out / LOG), line])
        log.info("%s: %s", one.name, {key: value["layers"] for key, value in found.items()})
