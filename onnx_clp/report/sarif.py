"""The report as SARIF 2.1.0: one run, a result for each piece of evidence and each channel that stood out.

Fit for GitHub code scanning: what is suspicious is an error, what is unusual a warning.

Format: OASIS, Static Analysis Results Interchange Format 2.1.0; section numbers below are that document's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from onnx_clp.document.assessment import CHANNELS, MEASURED, TRIGGER, weight
from onnx_clp.document.run import Evidence, Judgement, LayerReport, PrunedChannel, Report, Verdict
from onnx_clp.report import atlas
from onnx_clp.report.ruling import distance, limit, passed
from onnx_clp.report.wording import brief, headline, plural
from onnx_clp.text import one_line, shown
from onnx_clp.verdicts import INCONCLUSIVE

SCHEMA_URI = "https://json.schemastore.org/sarif-2.1.0.json"
RULE = "CLP001"
MOST_RESULTS = 25_000
MOST_BYTES = 9_500_000
_MOST_NOTIFICATIONS = 200
_PAPER = "https://doi.org/10.1007/978-3-031-20065-6_11"
_HELP = (
    "The channel's Lipschitz constant lies beyond the limit that the run's rule sets for its layer (by the paper's, "
    "u standard deviations above the mean), as that of a channel driven by a backdoor trigger often does. It may "
    "also be an ordinary strong feature. "
    "Compare accuracy and attack success rate before and after switching it off (onnx-clp --eval)."
)

_EVIDENCE_HELP = (
    "What the verdict of the file rests on. It names a class, a trigger, a path or a gate where the file is "
    "suspicious; anything else is unusual only. Neither proves a backdoor, and no result proves that there is none."
)
_RULES: Final[tuple[tuple[str, str, str, str, str], ...]] = (
    (RULE, "ChannelStandsOut", "A channel's Lipschitz constant stands out of its layer", _HELP, CHANNELS),
    ("CLP002", "ClassStandsOut", "A class of the last layer stands out", _EVIDENCE_HELP, "class that stands out"),
    ("CLP003", "TriggerFound", "A search found a trigger towards a class", _EVIDENCE_HELP, TRIGGER),
    ("CLP004", "TriggerMeasured", "A trigger that was supplied works", _EVIDENCE_HELP, MEASURED),
    ("CLP005", "Path", "A path of few channels through the network that leads to a class", _EVIDENCE_HELP, "path"),
    ("CLP006", "Gate", "A gate in the graph lets a small part of the input decide", _EVIDENCE_HELP, "gate"),
    ("CLP007", "Blinding", "Something blinds searches", _EVIDENCE_HELP, "blinding"),
    ("CLP008", "Unusual", "Something unusual that names nothing", _EVIDENCE_HELP, ""),
)
"""Identifier, name, short text, long text, and the kind of evidence; the last is for every other kind."""
_LEVELS: Final = {Verdict.SUSPICIOUS: ("error", "8.0"), Verdict.UNUSUAL: ("warning", "4.0")}
"""Level and security severity, by the verdict that a kind gives."""

Json = dict[str, Any]
Hit = tuple[LayerReport, Judgement, PrunedChannel]


def render(report: Report) -> str:
    """The SARIF text, below 10 MB: evidence first, then channels by z; a notification says how many were left out."""
    hits = sorted(_hits(report), key=lambda hit: (-abs(hit[2].z), hit[0].place, hit[0].name, hit[2].channel))
    location = _model_location(report)
    named = [one for one in report.evidence if one.kind != CHANNELS]
    results = [json.dumps(_evidence(one, location)) for one in named[:_MOST_NOTIFICATIONS]]
    before = len(results)
    room = MOST_BYTES - sum(map(len, results))
    for hit in hits[:MOST_RESULTS]:
        text = json.dumps(_result(hit, location))
        room -= len(text) + 2
        if room < 0:
            break
        results.append(text)
    head = json.dumps(_log(report, len(hits) - len(results) + before))
    # The results are put in as text, so that their size is known while they are counted.
    return head.replace('"results": []', '"results": [\n' + ",\n".join(results) + "\n]", 1) + "\n"


def _hits(report: Report) -> Iterator[Hit]:
    for layer in report.layers:
        best: dict[int, Hit] = {}
        for judgement in layer.judgements:
            for channel in judgement.pruned:
                known = best.get(channel.channel)
                if known is None or abs(channel.z) > abs(known[2].z):
                    best[channel.channel] = (layer, judgement, channel)
        yield from best.values()


def _log(report: Report, left_out: int) -> Json:
    run = {
        "tool": {"driver": _driver(report)},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notes(report, left_out)}],
        "results": [],
        "columnKind": "utf16CodeUnits",
        "taxonomies": [_taxonomy()],
        "properties": {"verdict": report.summary.verdict.value, "limit": limit(report), "resultsLeftOut": left_out},
    }
    return {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}


def _driver(report: Report) -> Json:
    version = re.search(r"\d+(?:\.\d+)+", report.tool)
    driver = {
        "name": "onnx-clp",
        "informationUri": _PAPER,
        "rules": [_rule(*row) for row in _RULES],
        "supportedTaxonomies": [{"name": atlas.NAME, "index": 0}],
    }
    return {**driver, "semanticVersion": version[0]} if version else driver


def _taxonomy() -> Json:
    """MITRE ATLAS as a taxonomy (3.19.3), as far as a rule refers to it."""
    taxa = [
        {"id": name, "name": said, "shortDescription": {"text": said}, "helpUri": atlas.page(name)}
        for name, said in atlas.TECHNIQUES.items()
    ]
    return {
        "name": atlas.NAME,
        "organization": "MITRE",
        "informationUri": atlas.URI,
        "shortDescription": {"text": "Techniques against machine learning"},
        "taxa": taxa,
    }


def _relation(technique: str) -> Json:
    """What a rule has to do with a technique (3.53)."""
    target = {
        "id": technique,
        "index": list(atlas.TECHNIQUES).index(technique),
        "toolComponent": {"name": atlas.NAME, "index": 0},
    }
    return {"target": target, "kinds": ["relevant"]}


def _rule(identity: str, name: str, short: str, text: str, kind: str) -> Json:
    level, severity = _LEVELS[(weight(kind) if kind else None) or Verdict.UNUSUAL]
    return {
        "id": identity,
        "name": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": text},
        "help": {"text": text, "markdown": text},
        "helpUri": _PAPER,
        "defaultConfiguration": {"level": level},
        "relationships": [_relation(technique) for technique in atlas.techniques(kind)],
        "properties": {
            "tags": ["security", "backdoor", "machine-learning", *atlas.techniques(kind)],
            "precision": "medium",
            "security-severity": severity,
        },
    }


def _evidence(one: Evidence, location: Json) -> Json:
    kinds = [kind for *_, kind in _RULES]
    at = kinds.index(one.kind) if one.kind in kinds else len(kinds) - 1
    key = json.dumps([one.kind, one.where, one.target])
    print_ = hashlib.sha256(key.encode("ascii")).hexdigest()[:32]
    logical = {"fullyQualifiedName": shown(one.where, 120) or "model", "kind": "member"}
    return {
        "ruleId": _RULES[at][0],
        "ruleIndex": at,
        "level": _LEVELS[one.verdict][0],
        "message": {"text": _literal(one_line(f"{brief(one)}: {one.sentence}"))},
        "locations": [{"physicalLocation": location, "logicalLocations": [logical]}],
        "partialFingerprints": {"onnxClpEvidence/v1": print_, "primaryLocationLineHash": f"{print_}:1"},
        "properties": {"kind": one.kind, "verdict": one.verdict.value, "target": one.target},
    }


def _result(hit: Hit, location: Json) -> Json:
    layer, judgement, channel = hit
    print_ = _fingerprint(layer, channel.channel)
    return {
        "ruleId": RULE,
        "ruleIndex": 0,
        "level": "warning",
        "message": {"text": _message(hit)},
        "locations": [{"physicalLocation": location, "logicalLocations": [_logical(layer, channel.channel)]}],
        # GitHub tells alerts apart by the second; all of ours lie on the model's first line.
        "partialFingerprints": {"onnxClpChannel/v1": print_, "primaryLocationLineHash": f"{print_}:1"},
        "properties": {
            "score": _finite(channel.score),
            "upperBound": _finite(channel.upper_bound),
            "z": _finite(channel.z),
            "rank": channel.rank,
            "threshold": _finite(passed(judgement, channel)),
            "kept": channel.kept,
            "rule": judgement.rule,
        },
    }


def _message(hit: Hit) -> str:
    layer, judgement, channel = hit
    text = (
        f"Channel {channel.channel} of layer '{shown(layer.name, 120)}' stands out: score "
        f"{channel.score:.4g}, {distance(judgement, channel)} "
        f"(rule {judgement.rule}, threshold {passed(judgement, channel):.4g})."
    )
    return _literal(text)


def _literal(text: str) -> str:
    # 3.11.5: braces are placeholders unless doubled; 3.11.6: "[text](target)" is a link.
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _fingerprint(layer: LayerReport, channel: int) -> str:
    key = json.dumps([layer.place, layer.name, channel])
    return hashlib.sha256(key.encode("ascii")).hexdigest()[:32]


def _logical(layer: LayerReport, channel: int) -> Json:
    place = f"{shown(layer.place, 80)}/" if layer.place else ""
    return {"fullyQualifiedName": f"{place}{shown(layer.name, 120)}#{channel}", "kind": "member"}


def _model_location(report: Report) -> Json:
    path = "model.onnx" if report.input is None else report.input.path
    return {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": 1}}


def _uri(path: str) -> str:
    """A relative path as a relative reference, an absolute one as a file: URI (3.4.3)."""
    pure = PurePath(path)
    parts = pure.as_posix()
    encoded = quote(parts.encode("utf-8", "surrogatepass"), safe="/")
    if not pure.is_absolute():
        return encoded
    return f"file://{'' if encoded.startswith('/') else '/'}{encoded}"


def _notes(report: Report, left_out: int) -> list[Json]:
    notes = [_note("note", headline(report))]
    if left_out:
        notes.append(_note("warning", f"{plural(left_out, 'more channel')} stood out; this file is full"))
    told = [finding for finding in report.findings if weight(finding.kind) is None]
    for finding in told[:_MOST_NOTIFICATIONS]:
        level = "note" if finding.kind == INCONCLUSIVE else "warning"
        notes.append(_note(level, f"{finding.kind} at {shown(finding.where)}: {finding.sentence}"))
    return notes


def _note(level: str, text: str) -> Json:
    return {"level": level, "message": {"text": _literal(one_line(text))}}


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
