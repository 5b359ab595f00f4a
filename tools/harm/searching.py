"""What a run's search for triggers came to, as a record keeps it and as `docs/harm.md` shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tools.harm.record import Measured

_HEAD = "| network | run | classes looked at | furthest out | by | named | undone | why not, and what was left |"
_NONE = "–"
_FILE = re.compile(r"^\S*\.onnx: ")
"""A reason may begin with the file's path, which differs from machine to machine."""
_NODE = re.compile(r"^not searched because .*?: ")
_ADVICE = re.compile(r"; (name it with --output|--search-seconds allows more)$")
_SEARCHED = "classes"
"""The field that a record has where a search began."""


def searched(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report of the tool says of its search, as the field `search` of `Measured`; nothing where none was due.

    `taken` and `reason` are the run's decision; where it searched, `classes` of the model, how many were `looked` at,
    the class `named` (or None), the one furthest out (`nearest`) with its `forms` (z, share turned, size), whether a
    trigger was `undone`, by caps on how many `directions`, and `left`: why not, and what there was no time for.
    """
    decision = next((one for one in report.get("decisions") or () if one["step"] == "search"), None)
    found = report.get("inversion")
    if decision is None or not (decision["taken"] or found or _asked(report)):
        return {}
    out = {"taken": decision["taken"], "reason": _FILE.sub("", decision["reason"])}
    return out | _found(found) if found else out


def _asked(report: Mapping[str, Any]) -> bool:
    return (report.get("options") or {}).get("effort") == "high"


def _found(found: Mapping[str, Any]) -> dict[str, Any]:
    results = found["results"]
    forms = next((one["forms"] for one in results if one["target"] == found["nearest"]), ())
    return {
        "classes": found["classes"],
        "looked": len(results),
        "named": found["likely"],
        "nearest": found["nearest"],
        "forms": [{name: one[name] for name in ("kind", "z", "flip", "size")} for one in forms],
        "undone": found["repair"] is not None and not found["repair"]["stands_out"],
        "directions": (found["repair"] or {}).get("directions", 0),
        "left": "; ".join(part for part in (_why_not(found), found["unfinished"]) if part),
    }


def _why_not(found: Mapping[str, Any]) -> str:
    """Why a class that is named was not undone, or why none was named."""
    if found["likely"] is not None:
        return str(found["repair_note"])
    judged = any(one["target"] == found["nearest"] for one in found["results"])
    return "" if judged or found["unfinished"] else str(found["sentence"])


def table(found: Sequence[Measured]) -> str:
    """One row for each run that searched, by name, and below it who was not searched and why; empty if none was due."""
    due = [one for one in sorted(found, key=lambda one: one.network) if one.search]
    rows = [_row(one) for one in due if _SEARCHED in one.search]
    table = [_HEAD, "|" + "---|" * (_HEAD.count("|") - 1), *rows, ""] if rows else []
    reasons = dict.fromkeys(_reason(one) for one in due if _SEARCHED not in one.search)
    return "\n".join([*table, *(_left(reason, due) for reason in reasons)])


def _left(reason: str, due: Sequence[Measured]) -> str:
    names = dict.fromkeys(one.network for one in due if _SEARCHED not in one.search and _reason(one) == reason)
    return f"- not searched ({reason}): {', '.join(names)}."


def _reason(one: Measured) -> str:
    return _ADVICE.sub("", _NODE.sub("", str(one.search["reason"])))


def _row(one: Measured) -> str:
    search = one.search
    cells = [
        one.network,
        f"`{one.setting}`",
        f"{search['looked']} of {search['classes']}",
        _class(search["nearest"]),
        _furthest(search),
    ]
    cells += [_class(search["named"]), "yes" if search["undone"] else "no", _ADVICE.sub("", _cell(search["left"]))]
    return f"| {' | '.join(cells)} |"


def _furthest(search: Mapping[str, Any]) -> str:
    """The form by which the class lies furthest out, by how many standard deviations, and the share it turns."""
    forms = [form for form in search["forms"] if form["z"] is not None]
    if not forms:
        return _NONE
    form = max(forms, key=lambda form: form["z"])
    return f"{form['kind']}, {form['z']:.1f}, turns {100 * form['flip']:.0f} %"


def _class(number: int | None) -> str:
    return _NONE if number is None else str(number)


def _cell(text: str) -> str:
    return text.replace("|", "/") or _NONE
