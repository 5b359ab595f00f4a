"""The paper's first experiment: does the score find the channels that a trigger drives?

For each scored layer the tool's score of a channel (UCLC, its computable stand-in) is held against its
trigger-activated change, TAC_k = mean over images of ‖F_k(triggered) − F_k(clean)‖₂ (Zheng et al., ECCV 2022,
equation 6), F_k being channel k behind its normalisation and before the activation. Rank correlation: Spearman's rho.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

import onnx_clp
from onnx_clp.document.run import Judgement, LayerReport, Report
from tools.evidence import record
from tools.evidence.measuring import session
from tools.evidence.subject import Subject
from tools.zoo import datasets, result
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)
Float64 = NDArray[np.float64]

LOG = "tac.jsonl"
IMAGES = 250
_BATCH = 25


@dataclass(frozen=True, slots=True)
class LayerTac:
    """One layer of one model: `scores` and `tac` by channel (empty where not kept), `rho` their rank correlation.

    `rho` is None where all scores or all changes are equal.

    `best_z` is the distance from the mean, in standard deviations of the scores, of the channel with the largest
    TAC; `percentile` the share of the layer's channels that score below it.
    """

    layer: str
    depth: float
    rho: float | None
    best_z: float
    percentile: float
    scores: tuple[float, ...] = ()
    tac: tuple[float, ...] = ()


def of_layer(layer: str, depth: float, scores: Float64, tac: Float64) -> LayerTac:
    """Compare the two numbers of every channel; `depth` is 0 for the first scored layer, 1 for the last."""
    from scipy import stats

    constant = np.ptp(scores) == 0 or np.ptp(tac) == 0
    best = int(tac.argmax())
    std = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    return LayerTac(
        layer=layer,
        depth=round(depth, 3),
        scores=tuple(float(f"{value:.4g}") for value in scores),
        tac=tuple(float(f"{value:.4g}") for value in tac),
        rho=None if constant else round(float(stats.spearmanr(scores, tac).statistic), 4),
        best_z=round(float(scores[best] - scores.mean()) / std, 3) if std > 0 else 0.0,
        percentile=round(float((scores < scores[best]).mean()), 4),
    )


def compare(path: Path, data: EvaluationSet) -> list[LayerTac]:
    """Every scored layer of a model; layers seen through a part of a normalisation are left out."""
    done = onnx_clp.clean(path, onnx_clp.CleanConfig(prune=False, validate=False))
    wanted = dict(_scored(done.report, done.model))
    changes = trigger_activated_change(done.model, list(wanted), data)
    pairs = [(layer, judgement, changes[name]) for name, (layer, judgement) in wanted.items()]
    pairs = [pair for pair in pairs if len(pair[1].scores) == len(pair[2])]
    last = max(len(pairs) - 1, 1)
    return [
        of_layer(layer.name, place / last, np.asarray(judgement.scores), change)
        for place, (layer, judgement, change) in enumerate(pairs)
    ]


def _scored(report: Report, model: ModelProto) -> Iterator[tuple[str, tuple[LayerReport, Judgement]]]:
    outputs = {node.name: node.output[0] for node in model.graph.node}
    for layer in report.layers:
        for judgement in layer.judgements:
            yield outputs[judgement.normalisation or layer.name], (layer, judgement)


def trigger_activated_change(model: ModelProto, names: Sequence[str], data: EvaluationSet) -> dict[str, Float64]:
    """TAC of every channel of the values named, each of shape (batch, channels, …): float64 (channels,) by name."""
    opened = ModelProto()
    opened.CopyFrom(model)
    shown = {output.name for output in opened.graph.output}
    opened.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in shown)
    on = session(opened.SerializeToString())
    feed = on.get_inputs()[0].name
    sums: dict[str, Float64] = {}
    for start in range(0, len(data.x_clean), _BATCH):
        batches = (images[start : start + _BATCH] for images in (data.x_clean, data.x_triggered))
        clean, triggered = (on.run(list(names), {feed: x.astype(np.float32) / np.float32(255)}) for x in batches)
        for name, before, after in zip(names, clean, triggered, strict=True):
            change = (after.astype(np.float64) - before).reshape(*before.shape[:2], -1)
            sums[name] = sums.get(name, 0.0) + np.linalg.norm(change, axis=2).sum(axis=0)
    return {name: total / len(data.x_clean) for name, total in sums.items()}


def measure(subjects: Sequence[Subject], work: Path, data: Path, out: Path, kept: Sequence[str]) -> None:
    """Note every infected model's layers; channel by channel for the models in `kept` only, to keep the file small."""
    done = {line["model"] for line in record.lines(out / LOG)}
    loaded: dict[str, datasets.Dataset] = {}
    for one in subjects:
        if not one.infected or one.name in done:
            continue
        name = one.result.design.dataset
        if name not in loaded:
            loaded[name] = datasets.load(name, data)
        layers = compare(work / (one.name + result.UNFOLDED), one.evaluation(loaded[name], work, IMAGES))
        line = {"model": one.name, "layers": [_as_dict(layer, one.name in kept) for layer in layers]}
        record.write(out / LOG, [*record.lines(out / LOG), line])
        log.info("%s: %d layers", one.name, len(layers))


def _as_dict(layer: LayerTac, channels: bool) -> dict[str, Any]:
    fields = asdict(layer)
    return {key: value for key, value in fields.items() if channels or key not in ("scores", "tac")}


def read(out: Path) -> Mapping[str, list[LayerTac]]:
    """What was noted, by model."""
    return {line["model"]: [LayerTac(**layer) for layer in line["layers"]] for line in record.lines(out / LOG)}
