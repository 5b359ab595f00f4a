"""Run the tool on every network under every setting, and compare what the networks answer before and after."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tools.harm import comparing, detections, record, samples, searching
from tools.harm.network import Kind, Network
from tools.harm.record import Measured
from tools.harm.samples import Samples

log = logging.getLogger(__name__)

Answers = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command: exit status, its report (empty if it wrote none), last line of stderr, cost."""

    status: int
    report: Mapping[str, Any]
    complaint: str
    cpu: float
    peak: int


def measure_all(
    networks: Iterable[Network], settings: Sequence[str], work: Path, out: Path, most: int = sys.maxsize
) -> None:
    """Measure every network under every setting that is not kept in `out`, on at most `most` inputs each."""
    for network in networks:
        missing = [one for one in settings if not record.path(out, network.name, one).exists()]
        model, data = work / "models" / f"{network.name}.onnx", work / "inputs" / f"{network.name}.npz"
        if not missing or not model.exists() or not data.exists():
            continue
        measure_one(network, missing, model, samples.read(data).first(most), out)


def measure_one(network: Network, settings: Sequence[str], model: Path, real: Samples, out: Path) -> None:
    """Measure one network under every setting that is not kept in `out`."""
    missing = [one for one in settings if not record.path(out, network.name, one).exists()]
    before = samples.answers(model, real) if missing else {}
    seen: dict[str, Answers] = {}
    for setting in missing:
        start = time.monotonic()
        measured = measure(network, setting, model, real, before, seen)
        record.write(out, measured)
        log.info("%s [%s]: %s in %.0f s", network.name, setting, measured.outcome, time.monotonic() - start)


def measure(
    network: Network, setting: str, model: Path, real: Samples, before: Answers, seen: dict[str, Answers]
) -> Measured:
    """One network under one setting; `seen` holds the answers of files by their digest, so that none runs twice."""
    with TemporaryDirectory() as folder:
        cleaned = Path(folder) / "cleaned.onnx"
        ran = run(
            [str(model), str(cleaned), *shlex.split(setting), *_shapes(model, real)], Path(folder) / "report.json"
        )
        measured = _noted(network, setting, len(real), ran)
        if ran.status or not cleaned.exists():
            return measured
        digest = hashlib.sha256(cleaned.read_bytes()).hexdigest()
        after = seen[digest] = seen.get(digest) or samples.answers(cleaned, real)
    changes = {name: comparing.relative_change(before[name], after[name]) for name in before}
    return replace(measured, measures=measures(network, before, after, real.labels), changes=changes)


def run(arguments: Sequence[str], report: Path) -> Run:
    """Run the command, and read its report if it wrote one."""
    command = [sys.executable, "-m", "onnx_clp", "--no-config", "--report", str(report), "-q", *arguments]
    errors = report.with_suffix(".stderr")
    launch = [sys.executable, "-m", "tools.harm.cost", str(errors), *command]
    cost = json.loads(subprocess.run(launch, capture_output=True, text=True, check=True).stdout)
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Run(cost["status"], found, lines[-1] if lines else "", cost["cpu"], cost["peak"])


def _noted(network: Network, setting: str, count: int, ran: Run) -> Measured:
    summary, caps = ran.report.get("summary") or {}, ran.report.get("caps") or {}
    found = summary.get("channels_pruned", 0)
    kept = found if (ran.report.get("options") or {}).get("prune") is False else summary.get("channels_kept", 0)
    return Measured(
        network.name,
        str(network.kind),
        setting,
        count,
        outcome="written" if ran.status == 0 else f"exit {ran.status}: {ran.complaint[:200]}",
        verdict=summary.get("verdict", ""),
        pruned=found - kept,
        kept=kept,
        capped=caps.get("capped", 0),
        cpu=ran.cpu,
        peak=ran.peak,
        tool=ran.report.get("tool", ""),
        predicted=record.predictions(ran.report),
        evidence=(ran.report.get("gauge") or {}).get("evidence", ""),
        search=searching.searched(ran.report),
        **record.shown(ran.report),
    )


def _shapes(model: Path, real: Samples) -> list[str]:
    """`--shape` for every input whose shape the file leaves open."""
    graph, options = onnx.load(model, load_external_data=False).graph, []
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in real.arrays and any(dim.dim_value < 1 for dim in dims):
            options += ["--shape", f"{value.name}:{','.join(map(str, real.shapes()[value.name]))}"]
    return options


def measures(network: Network, before: Answers, after: Answers, labels: NDArray[Any] | None) -> dict[str, float]:
    """What the kind of network asks for, by name."""
    name = network.output or next(iter(before))
    x, y = before[name], after[name]
    if network.kind == Kind.CLASSIFIER:
        return _classified(network, x, y, labels)
    if network.kind == Kind.RECOGNISER:
        return _recognised(network, x, y, labels)
    if network.kind == Kind.DETECTOR:
        places = detections.READERS[network.detection]
        return detections.measures(places(before), places(after))
    if network.kind == Kind.EMBEDDER:
        return {"agreement": comparing.same_neighbour(x, y), "cosine": comparing.cosine(x, y)}
    if network.kind == Kind.SEGMENTATION:
        return {"agreement": comparing.same_side(x, y), "overlap": comparing.overlap(x, y)}
    return {"mean_change": float(np.abs(y.astype(np.float64) - x).mean())}


def _classified(
    network: Network, before: NDArray[Any], after: NDArray[Any], labels: NDArray[Any] | None
) -> dict[str, float]:
    x, y = (comparing.probabilities(scores, network.scores) for scores in (before, after))
    found = {"agreement": comparing.agreement(x, y), "divergence": comparing.divergence(x, y)}
    if labels is not None:
        found |= _right(comparing.right_classes(x, labels), comparing.right_classes(y, labels))
    return found


def _recognised(
    network: Network, before: NDArray[Any], after: NDArray[Any], labels: NDArray[Any] | None
) -> dict[str, float]:
    x, y = (comparing.texts(answers, network.blank, network.ignored) for answers in (before, after))
    found = {"agreement": comparing.same_texts(x, y)}
    if labels is not None:
        wanted = [tuple(index for index in row if index >= 0 and index not in network.ignored) for row in labels]
        found |= _right(comparing.right_texts(x, wanted), comparing.right_texts(y, wanted))
    return found


def _right(before: NDArray[Any], after: NDArray[Any]) -> dict[str, float]:
    lost, error = comparing.loss(before, after)
    return {
        "right_before": float(before.mean()),
        "right_after": float(after.mean()),
        "loss": lost,
        "loss_error": error,
    }
