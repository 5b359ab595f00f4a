"""How far a run went by itself, and why, in words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from onnx_clp.document.run import Decision, Report
from onnx_clp.report.wording import listed
from onnx_clp.text import one_line


def rows(report: Report) -> Iterator[str]:
    """One row a reason, the steps that it decided first: "caps: high effort", "no audit or search: not asked for"."""
    for (taken, reason), steps in groupby(report.decisions, key=_reason):
        names = [one.step for one in steps]
        named = listed(names) if taken else f"no {listed(names, 'or')}"
        yield f"{named}: {one_line(reason)}"


def _reason(one: Decision) -> tuple[bool, str]:
    return one.taken, one.reason


def repairs(report: Report) -> bool:
    """Whether the run was to undo a trigger that it finds."""
    options = report.options
    return bool(options.get("repair")) or (options.get("effort") == "high" and options.get("prune") is not False)
