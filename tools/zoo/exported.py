"""The section `exported` of MANIFEST.json: the infected ResNet-18 as TensorFlow's and JAX's exporters write it.

weights      whose they are; nothing was trained in that framework
exporter     the packages that wrote the file
form         what the exporter left in the file
options      option of `onnx_clp` -> channels pruned, values capped and the rates after, with the twin's beside
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import onnx_clp
from tools.zoo import evalset, manifest, measure
from tools.zoo.datasets import Images

TWIN = "resnet18_badnets"
IMAGES = 1000
RUNS: dict[str, onnx_clp.CleanConfig] = {
    "-u 3": onnx_clp.CleanConfig(u=3.0, fill="zero", validate=False),
    "--bound-activations 3": onnx_clp.CleanConfig(bound_activations=3.0, fill="zero", validate=False),
}
"""Option as on the command line, together with `--fill zero --budget 1` -> the same for the library."""


@dataclass(frozen=True, slots=True)
class Export:
    """One exported file: its exporter's packages and what they leave in the file."""

    stem: str
    exporter: tuple[str, ...]
    form: str


def publish(models: Path, exports: tuple[Export, ...]) -> None:
    """Write the evaluation set in the exporters' layout and the section; the files are in `models` already.

    Raises:
        LoadError: there is no manifest in `models`.
    """
    document = manifest.read(models)
    twin = document["models"][TWIN]
    small = _first(evalset.read(models / twin["evaluation"]), IMAGES)
    turned, name = _channels_last(small), _layout_name(twin["evaluation"])
    turned.save(models / name)
    described = {key: document["evaluation_sets"][twin["evaluation"]][key] for key in ("split", "dataset", "attack")}
    document["evaluation_sets"][name] = {
        **manifest.fingerprint(models / name),
        "images": IMAGES,
        **described,
        "target": twin["design"]["target"],
        "layout": "NHWC",
        "from": f"the first {IMAGES} images of {twin['evaluation']}",
    }
    reference = models / twin["files"]["unfolded"]["file"]
    twin_runs = _runs(reference, small)
    document["exported"] = {
        each.stem: _entry(each, models, name, (reference, small, twin_runs), turned) for each in exports
    }
    (models / manifest.NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _entry(
    export: Export,
    models: Path,
    evaluation: str,
    twin: tuple[Path, evalset.EvaluationSet, dict[str, Any]],
    data: evalset.EvaluationSet,
) -> dict[str, Any]:
    path = models / f"{export.stem}.onnx"
    reference, small, twin_runs = twin
    runs = _runs(path, data)
    return {
        "twin": TWIN,
        "weights": f"carried over from {reference.name}; nothing was trained in this framework",
        "exporter": list(export.exporter),
        "form": export.form,
        "evaluation": evaluation,
        "input": "float32 (batch, height, width, channels), uint8 / 255",
        "file": path.name,
        **manifest.fingerprint(path),
        **manifest.versions(path),
        "largest_difference_from_twin": _difference(path, data.x_triggered, reference, small.x_triggered),
        "evaluation_set": measure.measure(path, data).as_dict(),
        "options": {option: {"after": runs[option], "twin_after": twin_runs[option]} for option in RUNS},
    }


def _runs(path: Path, data: evalset.EvaluationSet) -> dict[str, Any]:
    """Option -> channels pruned, values capped and rates after."""
    found: dict[str, Any] = {}
    for option, config in RUNS.items():
        done = onnx_clp.clean(path, config)
        caps = done.report.caps
        found[option] = {
            "channels_pruned": done.report.summary.channels_pruned,
            "values_capped": 0 if caps is None else caps.capped,
            **measure.measure(done.model.SerializeToString(), data).as_dict(),
        }
    return found


def _difference(path: Path, images: Images, twin: Path, twin_images: Images) -> float:
    """max|Δ| of the class scores on the same images, each in its model's layout; two digits."""
    ours, theirs = scores(path, images), scores(twin, twin_images)
    return float(f"{np.abs(ours - theirs).max():.1e}")


def scores(path: Path, images: Images) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Class scores, float32 (n, classes), for uint8 images in the model's layout."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = images.astype(np.float32) / np.float32(255)
    found: np.ndarray[Any, np.dtype[np.float32]] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def _first(data: evalset.EvaluationSet, images: int) -> evalset.EvaluationSet:
    return evalset.EvaluationSet(data.x_clean[:images], data.y_clean[:images], data.x_triggered[:images], data.y_target)


def _channels_last(data: evalset.EvaluationSet) -> evalset.EvaluationSet:
    clean, triggered = (np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for x in (data.x_clean, data.x_triggered))
    return evalset.EvaluationSet(clean, data.y_clean, triggered, data.y_target)


def _layout_name(name: str) -> str:
    return f"{Path(name).stem}_nhwc.npz"
