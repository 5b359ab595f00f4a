"""Fine-pruning as a yardstick: what those can repair who have a twentieth of the training images, and torch.

    {"name": …, "half": …, "before": [ACC, ASR], "pruned": share, "fine-pruned": [ACC, ASR], "tuned": [ACC, ASR]}

Channels of the last convolution are switched off, those first that are least active on clean images, until these lose
four points of accuracy; then the network is trained further on them, the channels staying off (Liu, Dolan-Gavitt, Garg,
"Fine-Pruning", RAID 2018). `tuned` is the training alone. Everything is measured on the same test images as the tool.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from tools.evidence import effort, measuring, record
from tools.evidence.subject import Subject
from tools.evidence.tables import markdown, pair, percent
from tools.zoo import datasets, measure, result
from tools.zoo.datasets import Images, Labels
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)

LOG: Final = "finepruning.jsonl"
SHARE: Final = 0.05
"""Of the training images, which whoever repairs has."""
_LOST: Final = 0.04
_STEP: Final = 0.05
"""The share of the channels that is switched off at a time."""


def measure_all(subjects: Iterable[Subject], work: Path, data: Path, out: Path) -> None:
    """Note the infected networks that are missing and that the tool was measured on."""
    known, wanted = {line["name"] for line in record.lines(out / LOG)}, effort.known(out)
    for one in subjects:
        if one.name in known or not one.infected or one.name not in wanted:
            continue
        loaded = datasets.load(one.result.design.dataset, data)
        exam = one.evaluation(loaded, work, min(effort.IMAGES, len(loaded.y_test)))
        rng = np.random.default_rng(one.result.design.seed)
        some = np.sort(rng.choice(len(loaded.y_train), round(SHARE * len(loaded.y_train)), replace=False))
        model = onnx.load(work / f"{one.name}{result.UNFOLDED}")
        line = line_of(model, loaded.x_train[some], loaded.y_train[some], exam, one.result.design.seed)
        record.note(out / LOG, {"name": one.name, "half": one.half, **line})
        log.info("%s: done", one.name)


def line_of(model: ModelProto, images: Images, labels: Labels, exam: EvaluationSet, seed: int) -> dict[str, Any]:
    """What fine-pruning with these images makes of a model, and training alone."""
    from tools.zoo.tuning import tuned

    off = chosen(model, images, labels)
    pruned, zeros = switched_off(model, off)
    return {
        "before": _shares(model, exam),
        "pruned": round(float(off.mean()), 4),
        "fine-pruned": _shares(tuned(pruned, images, labels, seed, zeros), exam),
        "tuned": _shares(tuned(model, images, labels, seed), exam),
    }


def chosen(model: ModelProto, images: Images, labels: Labels) -> NDArray[np.bool_]:
    """Which channels of the last convolution to switch off, (channels,): as many as cost at most four points."""
    active = activity(model, images)
    order, least = np.argsort(active, kind="stable"), _accuracy(model, images, labels) - _LOST
    off = np.zeros(len(active), np.bool_)
    step = max(1, round(_STEP * len(active)))
    for count in range(step, len(active), step):
        more = np.isin(np.arange(len(active)), order[:count])
        if _accuracy(switched_off(model, more)[0], images, labels) < least:
            break
        off = more
    return off


def activity(model: ModelProto, images: Images) -> NDArray[np.float64]:
    """The mean of what is above 0 of each channel that the last convolution gives, its normalisation included."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.insert(0, onnx.ValueInfoProto(name=_last(model)[1]))
    session = measuring.session(shown.SerializeToString())
    found = [np.maximum(values, 0).mean(axis=(2, 3)) for values in measure.outputs(session, images)]
    return np.asarray(np.concatenate(found).mean(axis=0), np.float64)


def switched_off(model: ModelProto, off: NDArray[np.bool_]) -> tuple[ModelProto, dict[str, NDArray[np.bool_]]]:
    """The model without these channels of its last convolution, and the rows of initializers that are 0 for that."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    names = _last(model)[0]
    for tensor in changed.graph.initializer:
        if tensor.name in names:
            values = numpy_helper.to_array(tensor).copy()
            values[off] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed, dict.fromkeys(names, off)


def _last(model: ModelProto) -> tuple[list[str], str]:
    """What makes the channels of the last convolution (scale and shift of its normalisation, or kernel and bias), and
    the value that these give.
    """
    conv = next(node for node in reversed(model.graph.node) if node.op_type == "Conv")
    reader = next((node for node in model.graph.node if conv.output[0] in node.input), None)
    if reader is not None and reader.op_type == "BatchNormalization":
        return list(reader.input[1:3]), reader.output[0]
    return list(conv.input[1:3]), conv.output[0]


def _accuracy(model: ModelProto, images: Images, labels: Labels) -> float:
    return float((measure.predict(measuring.session(model.SerializeToString()), images) == labels).mean())


def _shares(model: ModelProto, exam: EvaluationSet) -> tuple[float, float]:
    return measure.measure(model.SerializeToString(), exam).shares


def table(lines: Iterable[Mapping[str, Any]], runs: Mapping[str, Mapping[str, Any]]) -> str:
    """ACC/ASR in percent beside the tool's at high effort, without data; "" where nothing was measured.

    `runs` is what `effort` noted, by network.
    """
    rows = [
        [
            line["name"],
            pair(line["before"]),
            pair(runs[line["name"]]["runs"][effort.HIGH]["rates"]),
            pair(line["fine-pruned"]),
            percent(line["pruned"]),
            pair(line["tuned"]),
        ]
        for line in lines
        if effort.HIGH in runs.get(line["name"], {"runs": ()})["runs"]
    ]
    head = ["network", "before", "`--effort high`, no data", "fine-pruning, 5 %", "channels off", "training alone, 5 %"]
    return markdown(head, rows) if rows else ""
