"""How far a run goes: what it does beyond what it was asked for, decided from what it saw of the file.

`low`: channels that stand out go, and caps go in where a class stands out. `normal`: an audit too, which runs the model
only where its weights or its graph raise a question. `high`: a full audit, a search for triggers and caps, whatever was
seen. What an option asks for by name is done in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from onnx_clp.config import CleanConfig
from onnx_clp.document.decisions import Decision
from onnx_clp.document.evidence import Outlook

SEARCH_SECONDS: Final = 300.0
"""How long a search for triggers may take where no option says it."""

LEAST_CLASSES: Final = 4
"""Fewest classes of a search that nobody asked for by name: among fewer none can stand out (`inversion.finding`)."""


_ASKED: Final = "asked for"
_UNASKED: Final = "not asked for"
_EVERYTHING: Final = "all that stands out"
_AFFORDABLE: Final = "as far as the budget allows"
_HIGH: Final = "high effort"
_SUSPICIOUS: Final = "the file is suspicious"
_ONLY_HIGH: Final = "only with --effort high"
_NOT_LOW: Final = "only with --effort normal or high"
_NOTHING_RUNS: Final = "nothing may run the model"


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A search for triggers as a run does it.

    Attributes:
        invert: whether to look for triggers; otherwise images are made and nothing else.
        repair: whether to undo what is found.
        seconds: how long it may take.
        least_classes: of how few classes a model may be.
    """

    invert: bool
    repair: bool
    seconds: float
    least_classes: int = 2


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search came to, for what follows it.

    Attributes:
        undone: whether it undid the trigger that it found.
        named: its sentence on the class that it names; "" where it names none.
        spent: the predicted loss of its repair (0..1).
        trouble: why it could not be done; "" where it was, or where none was asked for.
    """

    undone: bool = False
    named: str = ""
    spent: float = 0.0
    trouble: str = ""


NO_SEARCH: Final = Searched()


def search_plan(config: CleanConfig) -> SearchPlan | None:
    """The search that a run does; None for none."""
    high = config.effort == "high"
    if not config.searches and not high:
        return None
    return SearchPlan(
        invert=config.invert or config.repair or high,
        repair=config.repair or (high and config.prune),
        seconds=config.search_seconds or SEARCH_SECONDS,
        least_classes=2 if config.searches else LEAST_CLASSES,
    )


def lenient(config: CleanConfig) -> bool:
    """Whether a run goes on where no search can run on the model."""
    return config.skip_unsearchable or not config.searches


def audits(config: CleanConfig) -> bool:
    """Whether a run audits, be it only where the weights and the graph raise a question."""
    return thoroughly(config) or (config.effort == "normal" and config.validate and config.budget != 1)


def thoroughly(config: CleanConfig) -> bool:
    """Whether an audit also runs the model where nothing in it raises a question but what its normalisations say."""
    return config.audit or config.effort == "high"


def caps_wanted(config: CleanConfig, evidence: str, searched: Searched, path: bool) -> float | None:
    """Times the std at which caps are asked for: 0 as low as the budget allows, None for no caps.

    Args:
        config: the options; what they ask for stays.
        evidence: what makes a backdoor likely; "" for nothing.
        searched: what a search came to.
        path: whether a dormant path goes: that explains the evidence, and caps would cost accuracy on top of it.
    """
    if config.bound_activations is not None:
        return config.bound_activations
    wanted = bool(evidence) or (config.effort == "high" and config.budget != 1)
    return 0.0 if wanted and config.prune and not path and not searched.undone else None


def decisions(
    config: CleanConfig, evidence: str, searched: Searched, path: bool, capped: int, ahead: Outlook
) -> tuple[Decision, ...]:
    """What a run did beyond folding and scoring, and what it left, each with its reason.

    `path` says whether something of a dormant path was taken out; `capped` values have a cap.
    """
    return (
        _on_pruning(config),
        _on_caps(config, evidence, searched, path, capped, ahead),
        _on_auditing(config),
        _on_looking("search", config, config.searches, search_plan(config) is not None, _ONLY_HIGH, searched.trouble),
    )


def _on_pruning(config: CleanConfig) -> Decision:
    measured = config.validate and config.budget != 1
    return Decision("prune", config.prune, (_AFFORDABLE if measured else _EVERYTHING) if config.prune else _UNASKED)


def _on_caps(
    config: CleanConfig, evidence: str, searched: Searched, path: bool, capped: int, ahead: Outlook
) -> Decision:
    if capped:
        return Decision(
            "caps", True, _ASKED if config.bound_activations is not None else _SUSPICIOUS if evidence else _HIGH
        )
    if searched.undone or path:
        return Decision("caps", False, "what was found was undone, and caps would cost accuracy on top of that")
    if caps_wanted(config, evidence, searched, path) is None:
        return Decision("caps", False, "nothing found is strong enough evidence" if config.prune else _UNASKED)
    if not config.validate:
        return Decision("caps", False, _NOTHING_RUNS)
    if config.budget == 1 and config.bound_activations is None:
        return Decision("caps", False, "with a budget of 1 nothing is measured that shows how low they may be")
    if not ahead.cappable and config.calibrate is None:
        return Decision("caps", False, "no statistics in the file say where they would go")
    return Decision("caps", False, "they would cost more than the budget, or what they cost cannot be measured")


def _on_auditing(config: CleanConfig) -> Decision:
    if audits(config) and not thoroughly(config):
        return Decision("audit", True, "where the weights or the graph raise a question")
    otherwise = _NOT_LOW if config.effort == "low" and config.budget != 1 else _ONLY_HIGH
    return _on_looking("audit", config, config.audit, audits(config), otherwise)


def _on_looking(step: str, config: CleanConfig, asked: bool, runs: bool, otherwise: str, trouble: str = "") -> Decision:
    if runs:
        return Decision(step, not trouble, trouble or (_ASKED if asked else _HIGH))
    return Decision(step, False, otherwise if config.validate else _NOTHING_RUNS)
