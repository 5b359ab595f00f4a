"""What reaches the report without being an error: why something was left as it is, and findings."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SkipReason(enum.StrEnum):
    """Why an affine stays in the graph, or a layer is not judged."""

    NO_LINEAR_LAYER = "no_linear_layer"
    TRAINING = "training_mode"
    SEVERAL_CONSUMERS = "several_consumers"
    GRAPH_OUTPUT = "graph_output"
    OVERRIDABLE = "overridable_input"
    NOT_CONSTANT = "not_constant"
    NOT_PER_CHANNEL = "not_per_channel"
    NOT_AFFINE = "not_affine"
    WRONG_LENGTH = "wrong_length"
    NOT_FINITE = "not_finite"
    PADDING = "padding"
    DYNAMIC_BIAS = "dynamic_bias"
    BRANCH = "branch_not_foldable"
    QUANTIZED = "quantized"
    OUT_OF_RANGE = "out_of_range"
    REFERENCE_ATTRIBUTE = "reference_attribute"
    UNSUPPORTED_WEIGHT = "unsupported_weight"
    UNSUPPORTED_OPERATOR = "unsupported_operator"
    FUSED_ACTIVATION = "fused_activation"
    NO_STATISTIC = "no_statistic"
    NO_EFFECT = "no_effect"
    UNDONE = "trigger_undone"
    BUDGET = "budget"


class LayerStatus(enum.StrEnum):
    """What became of a linear layer when it came to judging its channels."""

    JUDGED = "judged"
    TOO_SMALL = "too small to judge"
    HEAD = "head"
    GATE = "gate"
    NOT_ZERO_KEEPING = "not zero-keeping"
    NOT_CONVOLUTION = "not a convolution"
    EXCLUDED = "excluded"
    UNJUDGEABLE = "cannot be judged"
    UNSUPPORTED = "not supported"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A reason for programs and a sentence for people."""

    reason: SkipReason
    sentence: str


class Verdict(enum.StrEnum):
    """What a report comes to; there is no "clean", because nothing that was looked at can say that."""

    SUSPICIOUS = "suspicious"
    UNUSUAL = "unusual"
    NOTHING_FOUND = "nothing found"
    COULD_NOT_JUDGE = "could not judge"


INCONCLUSIVE = "classes not judged"
"""The kind of a finding that only says that nothing could be found out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the user should know that pruning does not settle; `target` is the class that it names, if any."""

    kind: str
    where: str
    sentence: str
    target: int | None = None
