"""Audit an edited model and say what came of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

import numpy as np
import onnx

import onnx_clp
from onnx_clp.run.auditor import PATH
from tools.redteam.record import Record
from tools.redteam.subject import Samples, rates

_MOST: Final = 300


def measured(stem: Path, half: str) -> Record:
    """What a run with `audit`, and nothing else that takes a trigger out, makes of STEM.onnx.

    STEM.npz is its evaluation file, STEM.json says what the edit was (as `python -m tools.redteam write` does).


    Pruning by scores is kept from acting by a threshold that nothing passes, so that what is measured is the audit.
    """
    facts = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
    model, data = (stem.with_name(stem.name + suffix) for suffix in (".onnx", ".npz"))
    samples = Samples.read(data, _MOST)
    with np.load(data, allow_pickle=False) as held:
        triggered = held["x_triggered"][:_MOST]
    started = time.monotonic()
    with onnx_clp.clean(model, onnx_clp.CleanConfig(audit=True, u=1e6, provider="cpu")) as result:
        seconds, target = time.monotonic() - started, int(facts["target"])
        path = None if result.report.audit is None else result.report.audit.path
        after = rates(result.model, samples, triggered, target)
        found = any(finding.kind == PATH for finding in result.report.findings)
    before = rates(onnx.load(model), samples, triggered, target)
    return Record(
        base=facts["base"],
        edit=facts["edit"],
        seed=int(facts["seed"]),
        half=half,
        found=found,
        right=path is not None and path.target == target,
        acc_before=before[0],
        asr_before=before[1],
        acc_after=after[0],
        asr_after=after[1],
        seconds=seconds,
    )
