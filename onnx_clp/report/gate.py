"""Gate: which findings of a run are new, and whether they should stop a build. Pure functions.

A finding is a channel that stood out, or a layer that should have been judged and could not be. It is
known by where it is (place, layer name, channel), so that a new score of an old finding is not news.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from onnx_clp.document.run import SCHEMA, Report, Verdict
from onnx_clp.errors import UsageError
from onnx_clp.verdicts import LayerStatus

FailOn = Literal["never", "pruned", "unjudged"]
Key = tuple[str, str, int | None]

UNJUDGED = frozenset(
    {
        LayerStatus.TOO_SMALL,
        LayerStatus.NOT_ZERO_KEEPING,
        LayerStatus.UNJUDGEABLE,
        LayerStatus.UNSUPPORTED,
    }
)
"""Layers the rule did not settle. A head, a gate, a kind not asked for and an excluded layer are not among
them: leaving those alone is the rule, or the user's wish."""

_LARGEST_BASELINE: Final = 1 << 28
NOTHING_JUDGED: Key = ("", "", None)
"""Stands for "not one layer of the model was judged"."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """`new` findings are not in the baseline, `known` counts those that are; `tripped` asks for exit 1."""

    new: tuple[Key, ...]
    known: int
    tripped: bool
    sentence: str


def judge(report: Report, fail_on: FailOn, baseline: frozenset[Key] = frozenset()) -> GateResult:
    """Apply `--fail-on` to a report, counting only what `baseline` does not have."""
    keys = set() if fail_on == "never" else stood_out(report)
    if fail_on == "unjudged":
        keys |= unjudged(report)
    new = tuple(sorted(keys - baseline, key=lambda key: (key[0], key[1], -1 if key[2] is None else key[2])))
    return GateResult(new, len(keys & baseline), bool(new), _sentence(new, len(keys & baseline), fail_on))


def stood_out(report: Report) -> set[Key]:
    """Every channel that stood out."""
    return {(layer.place, layer.name, channel) for layer in report.layers for channel in layer.pruned}


def unjudged(report: Report) -> set[Key]:
    """Every layer that could not be judged, and `NOTHING_JUDGED` where that is the verdict."""
    keys: set[Key] = {(layer.place, layer.name, None) for layer in report.layers if layer.status in UNJUDGED}
    if report.summary.verdict is Verdict.COULD_NOT_JUDGE:
        keys.add(NOTHING_JUDGED)
    return keys


def read_baseline(path: Path) -> frozenset[Key]:
    """The findings in the earlier JSON report at `path`.

    Raises:
        UsageError: it cannot be read, or is not a report of this schema.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: cannot read the baseline: not a file; name the --report of an earlier run")
        if path.stat().st_size > _LARGEST_BASELINE:
            raise UsageError(f"{path}: too large for a --report of this tool")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot read the baseline: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a --report of this tool (no UTF-8 text)") from error
    return baseline_of(text, str(path))


def baseline_of(text: str, path: str) -> frozenset[Key]:
    """The findings in an earlier JSON report; `path` is named in errors.

    Raises:
        UsageError: the text is not a report of this schema.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON, so no baseline; give a file written by --report") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path}: not a report of schema {SCHEMA}; write the baseline anew with --report")
    try:
        return frozenset(_keys(document))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: a damaged report; write the baseline anew with --report") from error


def _keys(document: dict[str, Any]) -> set[Key]:
    keys: set[Key] = set()
    for layer in document["layers"]:
        place, name = str(layer["place"]), str(layer["name"])
        if layer["status"] in UNJUDGED:
            keys.add((place, name, None))
        for judgement in layer["judgements"]:
            keys.update((place, name, int(channel["channel"])) for channel in judgement["pruned"])
    if document["summary"]["verdict"] == Verdict.COULD_NOT_JUDGE:
        keys.add(NOTHING_JUDGED)
    return keys


def _sentence(new: tuple[Key, ...], known: int, fail_on: FailOn) -> str:
    channels = sum(key[2] is not None for key in new)
    layers = sum(key[2] is None and key != NOTHING_JUDGED for key in new)
    parts = []
    if channels:
        parts.append(f"{channels:,} channel{'s' * (channels != 1)} stood out")
    if NOTHING_JUDGED in new:
        parts.append("no layer was judged")
    if layers:
        parts.append(f"{layers:,} layer{'s' * (layers != 1)} could not be judged")
    text = "nothing new" if not parts else ", ".join(parts)
    already = f"; {known:,} already in the baseline" if known else ""
    return f"--fail-on {fail_on}: {text}{already}"
