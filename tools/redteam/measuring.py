"""Clean an edited model with the audit on and say what came of it."""

from __future__ import annotations

import json
import resource
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

import onnx_clp
from onnx_clp.document.assessment import weight
from onnx_clp.verdicts import Verdict
from tools.redteam.record import Record
from tools.redteam.subject import Bytes, Samples, rates

_MOST: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An edited model in a file, and its samples without and with the trigger."""

    base: str
    edit: str
    seed: int
    half: str
    target: int
    file: Path
    samples: Samples
    triggered: Bytes = field(repr=False)


def measured(case: Case) -> Record:
    """What a run with `audit`, and nothing else that takes a trigger out, makes of it.

    Pruning by scores is kept from acting by a threshold that nothing passes, so that what is measured is the audit.
    """
    started = _cpu()
    with onnx_clp.clean(case.file, onnx_clp.CleanConfig(audit=True, u=1e6, provider="cpu")) as result:
        seconds = _cpu() - started
        after = rates(result.model, case.samples, case.triggered, case.target)
        named = [one for one in result.report.findings if weight(one.kind) is Verdict.SUSPICIOUS]
    before = rates(onnx.load(case.file), case.samples, case.triggered, case.target)
    return Record(
        base=case.base,
        edit=case.edit,
        seed=case.seed,
        half=case.half,
        found=tuple(dict.fromkeys(one.kind for one in named)),
        right=any(one.target == case.target for one in named),
        acc_before=before[0],
        asr_before=before[1],
        acc_after=after[0],
        asr_after=after[1],
        seconds=round(seconds, 2),
    )


def written(stem: Path, half: str) -> Case:
    """The case of STEM.onnx, as `python -m tools.redteam write` left it: with STEM.npz and STEM.json."""
    facts: dict[str, Any] = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
    model, data = (stem.with_name(stem.name + suffix) for suffix in (".onnx", ".npz"))
    with np.load(data, allow_pickle=False) as held:
        triggered: NDArray[np.uint8] = held["x_triggered"][:_MOST]
    named = {key: facts[key] for key in ("base", "edit", "seed", "target")}
    return Case(**named, half=half, file=model, samples=Samples.read(data, _MOST), triggered=triggered)


def _cpu() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for edited models that are not kept."""
    return tempfile.TemporaryDirectory(prefix="redteam-")
