"""Write every edit of the plan, run the tool on it, and note what came of it; what is noted already is left out."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import onnx

from onnx_clp.errors import UsageError
from tools.redteam import catalogue, measuring, plan, record
from tools.redteam.plan import Base, Entry
from tools.redteam.subject import Samples, load, rates

log = logging.getLogger(__name__)
_LOOKS, _FEW_LOOKS = 24, 6
"""Images that a path is set by."""
WORKS = 90.0
"""ASR in per cent from which an edit counts as one that works."""
SPOILT = 15.0
"""Points of ACC that an edit may cost; one that costs more is seen by anybody who tests the model."""


def run(folders: list[Path], records: Path, only: Iterable[str] = ()) -> None:
    """Measure what is not in `records` yet, of the networks that lie in `folders`.

    Edits that a network does not take, or that do not work there, are logged and not counted: they are no backdoor.
    """
    done = {(one.base, one.edit, one.seed) for one in record.read(records)}
    chosen = set(only)
    for entry in plan.entries():
        if (entry.base.name, entry.edit, entry.seed) in done or (chosen and entry.base.name not in chosen):
            continue
        files = [plan.located(folders, name) for name in (entry.base.model, entry.base.samples)]
        if files[0] is None or files[1] is None:
            log.warning("%s: not there", entry.base.name)
            continue
        _measure(entry, files[0], Samples.read(files[1], entry.base.most), records)


def _measure(entry: Entry, file: Path, samples: Samples, records: Path) -> None:
    name = f"{entry.base.name} {entry.edit} {entry.seed}"
    try:
        looks = _FEW_LOOKS if entry.base.large else _LOOKS
        made = catalogue.write(entry.edit, load(file), samples, target=entry.target, seed=entry.seed, looks=looks)
    except UsageError as error:
        log.warning("%s: not written: %s", name, error)
        return
    acc, asr = rates(made.model, samples, made.triggered, entry.target)
    usual = rates(load(file), samples, made.triggered, entry.target)[0]
    if (asr < WORKS or usual - acc > SPOILT) and entry.edit not in catalogue.OTHERS:
        log.warning("%s: does not work: ACC %.1f, ASR %.1f", name, acc, asr)
        return
    with measuring.scratch() as folder:
        path = Path(folder) / "edited.onnx"
        onnx.save(made.model, path)
        found = measuring.measured(_case(entry, entry.base, path, samples, made))
    record.add(records, found)
    log.info("%s: %s, %.1f/%.1f > %.1f/%.1f", name, found.found, acc, asr, found.acc_after, found.asr_after)


def _case(entry: Entry, base: Base, path: Path, samples: Samples, made: catalogue.Written) -> measuring.Case:
    return measuring.Case(
        base=base.name,
        edit=entry.edit,
        seed=entry.seed,
        half=base.half,
        target=entry.target,
        file=path,
        samples=samples,
        triggered=made.triggered,
    )
