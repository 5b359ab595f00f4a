"""MANIFEST.json: what every file of a published zoo is, how it was made and what it is measured to do.

format            1: the layout below
definitions       what acc, asr and ra mean; shares in 0..1
datasets          name -> source, licence, classes
evaluation_sets   file -> bytes, sha256, images, dataset, attack, target
models            name -> design, files (un-folded and folded), evaluation set, rates
exported          name -> exporter, file, evaluation set, rates: a model's weights in another framework's form
                  (`tools.zoo.exported`); a new `publish` leaves it out, since its twin may be another
trained           every model of the list that was trained, published or not, with its rates before and
                  after `onnx_clp` with its default options
search            what was tried before the recipe was settled: nothing is picked in silence
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from onnx_clp.errors import LoadError
from tools.zoo import evalset, result
from tools.zoo.datasets import Dataset
from tools.zoo.design import SEARCH
from tools.zoo.generated import trigger_of
from tools.zoo.measure import DEFINITIONS, measure
from tools.zoo.recipe import Design
from tools.zoo.trial import after_pruning

NAME = "MANIFEST.json"
FORMAT = 1
_SUFFIXES = {"unfolded": result.UNFOLDED, "folded": result.FOLDED}


def publish(
    work: Path, models: Path, keep: Mapping[str, str], datasets: Mapping[str, Dataset], images: int = 1500
) -> None:
    """Copy chosen models from `work` to `models`, write their evaluation sets and MANIFEST.json.

    Args:
        work: the folder that `tools.zoo.workshop` filled.
        models: the published folder; made if missing.
        keep: design name -> stem of the published files.
        datasets: every data set that a result in `work` names.
        images: test images in each evaluation set.

    Raises:
        LoadError: a model to keep is not in `work`.
    """
    trained = result.read(work)
    known = {each.name: each for each in trained}
    if missing := sorted(set(keep) - set(known)):
        raise LoadError(f"{work}: no model called {missing[0]}; train it first")
    models.mkdir(parents=True, exist_ok=True)
    whole = {
        each.name: evalset.make(each.design, datasets[each.design.dataset], trigger=trigger_of(each.design, work))
        for each in trained
    }
    entries: dict[str, Any] = {}
    for name, stem in keep.items():
        data = datasets[known[name].design.dataset]
        entries[stem] = _model(known[name], work, models / stem, whole[name], data, images)
    document = {
        "format": FORMAT,
        "definitions": DEFINITIONS,
        "datasets": {name: describe(data) for name, data in datasets.items()},
        "evaluation_sets": _evaluation_sets(models, entries.values()),
        "models": entries,
        "trained": [_trained(each, work, whole[each.name]) for each in trained],
        "search": list(SEARCH),
    }
    (models / NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(models: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        LoadError: there is none, or it is not of this format.
    """
    path = models / NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{path}: cannot be read ({error}); publish the zoo again") from error
    if document.get("format") != FORMAT:
        raise LoadError(f"{path}: not a manifest of format {FORMAT}; publish the zoo again")
    return document


def described_files(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """File name -> its entry, for every file that a manifest describes."""
    files = dict(document["evaluation_sets"])
    for model in document["models"].values():
        files.update({entry["file"]: entry for entry in model["files"].values()})
    files.update({entry["file"]: entry for entry in document.get("exported", {}).values()})
    return files


def differences(models: Path) -> list[str]:
    """One sentence per file that is missing, not described or not the one described."""
    described = described_files(read(models))
    present = {path.name for path in models.iterdir() if path.suffix in {".onnx", ".npz"}}
    found = [f"{name}: is described but missing" for name in sorted(set(described) - present)]
    found += [f"{name}: is not described" for name in sorted(present - set(described))]
    for name in sorted(present & set(described)):
        if fingerprint(models / name)["sha256"] != described[name]["sha256"]:
            found.append(f"{name}: its SHA-256 is not the one described")
    return found


def fingerprint(path: Path) -> dict[str, int | str]:
    """Size in bytes and SHA-256 in hex."""
    blob = path.read_bytes()
    return {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}


def describe(data: Dataset) -> dict[str, str | int]:
    """Source, licence and size of a data set."""
    return {
        "source": data.source,
        "licence": data.licence,
        "classes": data.classes,
        "training_images": len(data.y_train),
        "test_images": len(data.y_test),
    }


def evaluation_name(design: Design) -> str:
    """The evaluation file of a model: one per data set, trigger and target; a control shares BadNets'."""
    attack = design.attack if design.infected else evalset.CONTROL_ATTACK
    return f"{design.dataset}_{attack}_target{design.target}.npz"


def _model(
    made: result.Result,
    work: Path,
    stem: Path,
    whole: evalset.EvaluationSet,
    data: Dataset,
    images: int,
) -> dict[str, Any]:
    """Copy both files and the evaluation set; gives the model's entry."""
    small = evalset.make(made.design, data, images, trigger=trigger_of(made.design, work))
    evaluation = evaluation_name(made.design)
    small.save(stem.with_name(evaluation))
    files: dict[str, Any] = {}
    for form, suffix in _SUFFIXES.items():
        path = stem.with_name(stem.name + suffix)
        shutil.copyfile(work / (made.name + suffix), path)
        files[form] = {
            "file": path.name,
            **fingerprint(path),
            **versions(path),
            "test_set": measure(path, whole).as_dict(),
            "evaluation_set": measure(path, small).as_dict(),
        }
    return {
        "trained_as": made.name,
        "design": asdict(made.design),
        "poisoned_training_images": made.poisoned,
        "evaluation": evaluation,
        "input": "float32 (batch, channels, height, width), uint8 / 255",
        "files": files,
    }


def versions(path: Path) -> dict[str, int]:
    """IR version and default-domain opset of a model file."""
    model = onnx.load(path)
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    return {"ir_version": model.ir_version, "opset": opset}


def _evaluation_sets(models: Path, entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    sets: dict[str, Any] = {}
    for entry in entries:
        name, design = entry["evaluation"], entry["design"]
        sets[name] = {
            **fingerprint(models / name),
            "images": len(evalset.read(models / name).y_clean),
            "split": "test",
            "dataset": design["dataset"],
            "attack": design["attack"] if design["attack"] != "clean" else evalset.CONTROL_ATTACK,
            "target": design["target"],
        }
    return sets


def _trained(made: result.Result, work: Path, whole: evalset.EvaluationSet) -> dict[str, Any]:
    """A result with its rates after pruning, on the whole test split."""
    pruned, cleaned = after_pruning(work / (made.name + result.UNFOLDED))
    after = {"channels_pruned": pruned, **measure(cleaned, whole).as_dict()}
    return {**made.as_dict(), "after_onnx_clp": after}
