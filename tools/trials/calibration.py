"""Caps from calibrations good and bad: ACC and ASR of a folded model, for the table in docs/what-a-result-means.md.

    python -m tools.trials.calibration FOLDER NAME…

FOLDER holds what `tools.zoo` trained (`NAME.onnx`, `NAME.folded.onnx`, `results.jsonl`). For every name one JSON
line: the model as it came, capped by its BatchNormalization, and its folded twin calibrated with 32, 64 and 128
test images, 64 images of uniform noise, of the other data set, and of one class. Rates are taken on 1,000 other
test images, C = 3, nothing pruned.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np

import onnx_clp
from tools.zoo import datasets, evalset, measure
from tools.zoo.datasets import Dataset, Images
from tools.zoo.recipe import Design, Recipe

TIMES = 3.0
MEASURED = 1000
CLASS = 5


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    given = parser.parse_args()
    lines = (given.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    designs = {record["name"]: record["design"] for record in map(json.loads, lines)}
    for name in given.names:
        raw = designs[name]
        print(
            json.dumps(
                {"name": name, **trial(given.folder, name, Design(**{**raw, "recipe": Recipe(**raw["recipe"])}))}
            )
        )


def trial(folder: Path, name: str, design: Design) -> dict[str, list[float]]:
    """ACC and ASR in percent by what told the limits."""
    data = datasets.load(design.dataset)
    order = np.random.default_rng(0).permutation(len(data.y_test))
    mine, rest = np.sort(order[:MEASURED]), order[MEASURED:]
    exam = evalset.make(design, dataclasses.replace(data, x_test=data.x_test[mine], y_test=data.y_test[mine]))
    plain, folded = folder / f"{name}.onnx", folder / f"{name}.folded.onnx"
    models = {"none": plain.read_bytes(), "normalisation": capped(plain, None)}
    models |= {kind: capped(folded, images) for kind, images in materials(data, rest).items()}
    rates = {kind: measure.measure(model, exam, threads=1) for kind, model in models.items()}
    return {kind: [round(100 * found.acc, 1), round(100 * found.asr, 1)] for kind, found in rates.items()}


def materials(data: Dataset, rest: np.typing.NDArray[np.int64]) -> dict[str, Images]:
    """Calibration images by kind, drawn from the test images at `rest`."""
    pool, labels = data.x_test[rest], data.y_test[rest]
    noise = np.random.default_rng(2).integers(0, 256, pool[:64].shape).astype(np.uint8)
    foreign = _foreign(data.name)
    shuffled = foreign[np.random.default_rng(1).permutation(len(foreign))[:64]]
    return {
        **{f"{count} images": pool[:count] for count in (32, 64, 128)},
        "noise": noise,
        "other set": shuffled,
        "one class": pool[labels == CLASS][:64],
    }


def _foreign(name: str) -> Images:
    """Images of the other data set, brought to this one's shape: cropped and grey, or framed and tripled."""
    if name == "fashion-mnist":
        signs = datasets.load("signs").x_test[:, :, 2:30, 2:30]
        return np.asarray(signs.mean(axis=1, keepdims=True), np.float64).astype(np.uint8)
    clothes = datasets.load("fashion-mnist").x_test[:2000]
    framed = np.pad(clothes, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return np.asarray(framed.repeat(3, axis=1), np.uint8)


def capped(path: Path, images: Images | None) -> bytes:
    """The model with caps, by its own statistics or (with `images`) by a calibration too."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "images.npz"
        if images is not None:
            np.savez(data, x=images)
        config = onnx_clp.CleanConfig(
            bound_activations=TIMES,
            prune=False,
            budget=1.0,
            provider="cpu",
            calibrate=None if images is None else data,
            validate=images is not None,
        )
        return onnx_clp.clean(path, config).model.SerializeToString()


if __name__ == "__main__":
    main()
