"""What was measured: one JSON file for each network and setting, so that a run that was cut off goes on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnx_clp.errors import LoadError


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the tool on one network, and what became of its answers on `samples` real inputs.

    `measures` are shares in 0..1, nats or relative changes, by name; `changes` the relative change of each output.
    `predicted` is what the run's own report foretold, empty where it foretold nothing; `shown` is what it was foretold
    from, one mapping an output with the fields of the report's `OutputChange`, as the gauge measured it on `images`
    images of `source` ("photographs", "noise"). `cpu` is in seconds, `peak` the
    largest resident memory of one of its processes in bytes. `outcome` is "written", or why nothing was. `pruned`
    channels were switched off, `kept` stood out and stay. `evidence` made a backdoor likely to the run, empty for
    nothing; `search` is what its search came to (`searching.searched`), empty where none was due.
    """

    network: str
    kind: str
    setting: str
    samples: int
    outcome: str
    verdict: str = ""
    pruned: int = 0
    kept: int = 0
    capped: int = 0
    cpu: float = 0.0
    peak: int = 0
    tool: str = ""
    predicted: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    images: int = 0
    shown: Sequence[Mapping[str, Any]] = ()
    evidence: str = ""
    search: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> float | None:
        """A measure, or nothing if it was not taken or is not a number."""
        value = self.measures.get(name)
        return None if value is None or not math.isfinite(value) else value

    @property
    def largest_change(self) -> float | None:
        """The relative change of the output that changed most; nothing where none could be told."""
        known = [value for value in self.changes.values() if math.isfinite(value)]
        return max(known) if known else None


def path(folder: Path, network: str, setting: str) -> Path:
    """Where a measurement is kept."""
    return folder / network / f"{re.sub(r'[^A-Za-z0-9.]+', '_', setting).strip('_') or 'default'}.json"


def write(folder: Path, measured: Measured) -> None:
    """Keep a measurement."""
    place = path(folder, measured.network, measured.setting)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(_rounded(asdict(measured)), indent=1) + "\n", encoding="utf-8")
    partial.rename(place)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def read_one(place: Path) -> Measured:
    """A measurement from its file.

    Raises:
        LoadError: it is not such a file.
    """
    try:
        fields = json.loads(place.read_text(encoding="utf-8"))
        for name in ("predicted", "measures", "changes"):
            known = fields.get(name) or {}
            fields[name] = {key: math.nan if value is None else float(value) for key, value in known.items()}
        fields["shown"] = tuple(fields.get("shown", ()))
        return Measured(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise LoadError(f"{place} is not a measurement ({error}); remove it and measure again") from error


def read(folder: Path) -> list[Measured]:
    """Every measurement in a folder.

    Raises:
        LoadError: a file is not one.
    """
    return [read_one(place) for place in sorted(folder.glob("*/*.json"))]


def predictions(report: Mapping[str, Any]) -> dict[str, float]:
    """What a report of the tool foretells (`gauge.prediction`); nothing if it has none."""
    prediction = (report.get("gauge") or {}).get("prediction")
    if not isinstance(prediction, Mapping):
        return {}
    loss, outputs = prediction["loss"], prediction["outputs"]
    found = {"loss": loss["share"], "loss_upper": loss["high"]}
    for name, part in (("divergence", "divergence"), ("relative_change", "relative")):
        known = [one[part] for one in outputs if one.get(part) is not None]
        if known:
            found[name] = max(known)
    return {name: float(value) for name, value in found.items()}


def shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report's prediction was made from, as fields of `Measured`; nothing if it has none."""
    gauge = report.get("gauge") or {}
    ordinary, prediction = gauge.get("ordinary"), gauge.get("prediction")
    if not ordinary or not prediction:
        return {}
    outputs = tuple({key: value for key, value in one.items() if value is not None} for one in prediction["outputs"])
    return {"source": ordinary["source"], "images": ordinary["count"], "shown": outputs}
