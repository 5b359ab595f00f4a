"""The rules for outliers in words, a row each; `numerics.outliers` computes what a row says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Rule = Literal["paper", "exact", "gain", "loo", "mad", "two-sided", "inverted"]
"""What --rule takes: the rules of `FACTS`, and two that stand for more than a limit."""


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """One rule.

    Attributes:
        help: what u counts, for --help.
        limit: what a score must exceed, `{u}` for u.
        deviations: what u and z count.
        origin: what they count from.
        columns: titles for what the rule measures from and in, at most eight columns each.
        reaction: what a channel that stands out does, against the others of its layer.
        reach: whether an outlier among few channels hides itself, so that no z is above (n - 1)/sqrt(n).
    """

    help: str = ""
    limit: str = "mean + {u} std"
    deviations: str = "standard deviations"
    origin: str = "the layer's mean"
    columns: tuple[str, str] = ("mean", "std")
    reaction: str = "react more strongly"
    reach: bool = True


OWN: Final = RuleFacts(limit="the limit of a registered rule, u = {u}", reach=False)
"""A rule of the user's own."""
FACTS: Final[Mapping[str, RuleFacts]] = {
    "paper": RuleFacts(help="mean + u*std, the default"),
    "gain": RuleFacts(
        help="the same with scores times how strongly the next layers read the channel",
        limit="mean + {u} std of score times downstream gain",
        reaction="do more to the layers after them",
    ),
    "loo": RuleFacts(
        help="stds of the other channels",
        limit="mean + {u} std, both without the channel itself",
        deviations="standard deviations of the other channels",
        origin="their mean",
        reach=False,
    ),
    "mad": RuleFacts(
        help="median + u*MAD",
        limit="median + {u}*1.4826*MAD",
        deviations="median absolute deviations (times 1.4826)",
        origin="the layer's median",
        columns=("median", "1.48 MAD"),
        reach=False,
    ),
    "two-sided": RuleFacts(
        help="mean - u*std too",
        limit="mean + {u} std, or below mean - {u} std",
        reaction="react more strongly or more weakly",
    ),
}


def facts(rule: str) -> RuleFacts:
    """What is said of a rule, or of one of the user's own."""
    return FACTS.get(rule, OWN)
