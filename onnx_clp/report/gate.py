"""Gate: which findings of a run are new, and whether they should stop a build. Pure functions.

A finding is a piece of evidence, a channel that stood out, or a layer that should have been judged and could not be. It
is known by what and where it is (kind, place, name, channel or class), so that a new score of an old finding is not
news.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from onnx_clp.document.assessment import CHANNELS, weight
from onnx_clp.document.run import SCHEMA, Report, Verdict
from onnx_clp.errors import UsageError
from onnx_clp.text import shown
from onnx_clp.verdicts import LayerStatus

FailOn = Literal["suspicious", "unusual", "unjudged"]
Key = tuple[str, str, str, int | None]
"""What was found, the place and the name of where, and the channel or the class."""

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

_LAYER = "layer not judged"

NOTHING_JUDGED: Key = (_LAYER, "", "", None)
"""Stands for the verdict `could not judge`."""

_MOST_NAMED = 3
_LARGEST_BASELINE: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class GateResult:
    """`new` findings are not in the baseline, `known` counts those that are; `tripped` asks for exit 1."""

    new: tuple[Key, ...]
    known: int
    tripped: bool
    sentence: str


def judge(report: Report, fail_on: tuple[FailOn, ...], baseline: frozenset[Key] = frozenset()) -> GateResult:
    """Apply `--fail-on` to a report, counting only what `baseline` does not have; without a word nothing trips.

    What is suspicious trips every gate. "unusual" adds what stands out and names nothing, "unjudged" what could not be
    judged.
    """
    keys = suspicious(report) if fail_on else set()
    if "unusual" in fail_on:
        keys |= unusual(report)
    if "unjudged" in fail_on:
        keys |= unjudged(report)
    new = tuple(sorted(keys - baseline, key=_order))
    known = len(keys & baseline)
    return GateResult(new, known, bool(new), f"--fail-on {','.join(fail_on)}: {_sentence(new, known)}")


def suspicious(report: Report) -> set[Key]:
    """Everything that names a class, a trigger, a path or a gate."""
    return {_key(e.kind, e.where, e.target) for e in report.evidence if e.verdict is Verdict.SUSPICIOUS}


def unusual(report: Report) -> set[Key]:
    """Every channel that stood out, and what else is odd."""
    odd = [e for e in report.evidence if e.verdict is Verdict.UNUSUAL and e.kind != CHANNELS]
    channels = {(CHANNELS, layer.place, layer.name, channel) for layer in report.layers for channel in layer.pruned}
    return channels | {_key(e.kind, e.where, e.target) for e in odd}


def unjudged(report: Report) -> set[Key]:
    """Every layer that could not be judged, and `NOTHING_JUDGED` where that is the verdict."""
    keys: set[Key] = {(_LAYER, layer.place, layer.name, None) for layer in report.layers if layer.status in UNJUDGED}
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
    keys = {_key(str(e["kind"]), str(e["where"]), e["target"]) for e in document["evidence"] if e["kind"] != CHANNELS}
    for layer in document["layers"]:
        place, name = str(layer["place"]), str(layer["name"])
        if layer["status"] in UNJUDGED:
            keys.add((_LAYER, place, name, None))
        for judgement in layer["judgements"]:
            keys.update((CHANNELS, place, name, int(channel["channel"])) for channel in judgement["pruned"])
    if document["summary"]["verdict"] == Verdict.COULD_NOT_JUDGE:
        keys.add(NOTHING_JUDGED)
    return keys


def _key(kind: str, where: str, target: int | None) -> Key:
    return (kind, "", where, target)


def _order(key: Key) -> tuple[bool, str, str, str, int]:
    kind, place, name, number = key
    return weight(kind) is not Verdict.SUSPICIOUS, kind, place, name, -1 if number is None else number


def _sentence(new: tuple[Key, ...], known: int) -> str:
    text = ", ".join(_parts(new)) or "nothing new"
    return text + (f"; {known:,} already in the baseline" if known else "")


def _parts(new: tuple[Key, ...]) -> Iterator[str]:
    named = [key for key in new if weight(key[0]) is Verdict.SUSPICIOUS]
    if named:
        more = f" and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
        yield f"suspicious ({', '.join(map(_named, named[:_MOST_NAMED]))}{more})"
    channels = sum(key[0] == CHANNELS for key in new)
    if channels:
        yield f"{channels:,} channel{'s' * (channels != 1)} stood out"
    odd = [key for key in new if key[0] not in (CHANNELS, _LAYER) and key not in named]
    if odd:
        yield f"{len(odd):,} more unusual ({', '.join(map(_named, odd[:_MOST_NAMED]))})"
    if NOTHING_JUDGED in new:
        yield "no layer was judged"
    layers = sum(key[0] == _LAYER and key != NOTHING_JUDGED for key in new)
    if layers:
        yield f"{layers:,} layer{'s' * (layers != 1)} could not be judged"


def _named(key: Key) -> str:
    kind, _, where, target = key
    place = f" at {shown(where, 40)}" if where else ""
    return f"{shown(kind, 40)}{'' if target is None else f': class {target}'}{place}"
