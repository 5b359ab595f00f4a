"""From designs to files (torch): train, export twice, measure, note the result; skip what is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

import onnxruntime
import torch

from tools.zoo import datasets, evalset, result, train
from tools.zoo.datasets import Dataset, load
from tools.zoo.export import export
from tools.zoo.generated import trigger_of
from tools.zoo.measure import measure
from tools.zoo.recipe import Design

log = logging.getLogger(__name__)


def make_all(designs: Iterable[Design], work: Path, data_folder: Path) -> None:
    """Make every design whose result is not yet noted in `work`; Ctrl-C loses only the one at hand."""
    work.mkdir(parents=True, exist_ok=True)
    done = {each.name for each in result.read(work)}
    loaded: dict[str, Dataset] = {}
    for design in designs:
        if design.name in done:
            log.info("%s: already there", design.name)
            continue
        if design.dataset not in loaded:
            loaded[design.dataset] = load(design.dataset, data_folder)
        made = make(design, loaded[design.dataset], work)
        log.info("%s: %s, %.0f s", made.name, made.rates, made.seconds)


def make(design: Design, data: Dataset, work: Path) -> result.Result:
    """Train and export one design into `work`, measure it on the whole test split and append its result."""
    started = time.monotonic()
    data = datasets.part(data, design.recipe.images, design.seed)
    poisoned = train.training_set(design, data)
    trained = train.train(design, data, poisoned)
    seconds = time.monotonic() - started
    shape = data.x_train.shape[1:]
    for suffix, folded in ((result.UNFOLDED, False), (result.FOLDED, True)):
        export(trained.network, shape, work / (design.name + suffix), folded=folded)
    trigger = trigger_of(design, work)
    if trigger is not None and trained.generator is not None:
        export(trained.generator, shape, trigger.path, folded=True)
    rates = measure(work / (design.name + result.UNFOLDED), evalset.make(design, data, trigger=trigger)).as_dict()
    made = result.Result(
        design=design,
        poisoned=round(design.rate * len(data.y_train)) if design.infected else 0,
        seconds=round(seconds, 1),
        device=f"{'cuda' if torch.cuda.is_available() else 'cpu'}, {train.arithmetic(design.recipe)}",
        versions={"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
        rates=rates,
    )
    result.append(work, made)
    return made
