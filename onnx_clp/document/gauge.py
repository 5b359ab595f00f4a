"""The parts of the document that predict what the edit does to ordinary images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class OutputChange:
    """How far one output moved on the images of the gauge, in its own terms (`gauge.outputs`).

    `kind` is "classes" for class scores, "values" for other floats, "discrete" for the rest. `changed` is the share of
    images whose entries or shape others take, or whose class one takes that was less likely by 0.01; `divergence`
    (nats) and `cost` (a share) are of class scores; `relative` is of values and of one set of class scores an image,
    against their own variation from image to image. `variety` says over how many classes the answers before the edit
    spread: e to the entropy of their shares, 1 where all images are of one class to the model.
    None: not of that kind.
    """

    output: str
    kind: Literal["classes", "values", "discrete"]
    changed: float | None = None
    divergence: float | None = None
    cost: float | None = None
    relative: float | None = None
    classes: int | None = None
    variety: float | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A predicted loss: the share of ordinary images that the edit costs, an estimate with an interval (0..1).

    On networks the prediction was not calibrated on, 95 % of true losses lie below `high`.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ordinary:
    """The images that a prediction was measured on.

    `source` is "photographs" (those shipped), "data" (the user's) or "noise" (for inputs that take no images). `pixels`
    says in which values the model was assumed to take them, and `told` by what: "option", "file", "statistics",
    "scale", "guess" or "path" (those on which a path that was found is still); both are empty for the user's own images
    and for noise. `beside` is the class that a path leads to: its score is left out, as the path may have made it.
    """

    source: Literal["photographs", "data", "noise"]
    count: int
    pixels: str = ""
    told: str = ""
    beside: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an edit is predicted to do to ordinary images: the loss, and how far each output moved to foretell it."""

    loss: Loss
    outputs: tuple[OutputChange, ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """What pruning and caps are predicted to cost, and what was left undone for that.

    Attributes:
        ordinary: the images it was measured on; None where nothing was measured (`prediction` is None then too).
        budget: the largest predicted loss allowed: the upper end of its interval (0..1).
        evidence: what made a backdoor likely, so that more may be spent; "" for nothing.
        prediction: of what was done.
        whole: of switching off everything that stands out, without caps; None where that was done, or not measured.
        caps_asked: of caps as low as asked for; None where they are, or where none were asked for.
        unreached: channels that stood out and stay because no dial reaches them.
    """

    ordinary: Ordinary | None
    budget: float
    evidence: str
    prediction: Prediction | None
    whole: Prediction | None = None
    caps_asked: Prediction | None = None
    unreached: int = 0
