"""The rule of a run in words: what its limit is, what it measures in, and how far a channel lies from the rest."""

from __future__ import annotations

from onnx_clp.config.rules import facts
from onnx_clp.document.run import Judgement, PrunedChannel, Report
from onnx_clp.text import shown


def rule_of(report: Report) -> str:
    """The run's rule, which may be one of the user's own; the paper's where the report does not say."""
    return str(report.options.get("rule", "paper"))


def u_of(report: Report) -> float:
    """The run's u; 3 where the report does not say."""
    u = report.options.get("u")
    return float(u) if isinstance(u, (int, float)) and u > 0 else 3.0


def limit(report: Report) -> str:
    """What a score must exceed to stand out, the rule named: "mean + 3 std (rule paper)"."""
    rule = rule_of(report)
    norm = ", exact norm" if report.options.get("bound") == "exact" else ""
    return f"{facts(rule).limit.format(u=f'{u_of(report):g}')} (rule {shown(rule, 40)}{norm})"


def titles(report: Report) -> tuple[str, str]:
    """What the rule measures from and in, at most eight columns each."""
    return facts(rule_of(report)).columns


def deviations(rule: str) -> str:
    """What the rule counts u and z in."""
    return facts(rule).deviations


def distance(judgement: Judgement, channel: PrunedChannel) -> str:
    """Where a channel that stood out lies: "4.21 standard deviations above the layer's mean"."""
    side = "below" if channel.z < 0 else "above"
    return f"{abs(channel.z):.2f} {deviations(judgement.rule)} {side} {facts(judgement.rule).origin}"


def passed(judgement: Judgement, channel: PrunedChannel) -> float:
    """The limit that the channel lies beyond."""
    return judgement.lower if channel.z < 0 and judgement.lower is not None else judgement.threshold
