"""What the gauge is asked, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnx_clp.config import RunLimits
from onnx_clp.document.gauge import Gauge, Prediction
from onnx_clp.process.errand import Errand
from onnx_clp.validation.request import spare

CAPS_OFF: Final = 1e6
"""Times the std at which a cap cuts nothing."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Channels of one value that may be switched off.

    Attributes:
        value: its name in the model.
        channels: how many it has.
        axis_from_end: where they are, counted from the last axis (1).
        data_type: TensorProto.DataType of the value.
        outlying: the channels that may go, ascending; `z` how far each of them lies out.
        fills: what each gives once it is off; None where that is to be measured.
        spreads: the variance of each over the mean variance of all; None where that is to be measured.
        quantum: scale and zero point of a quantised value; None for floats.
        limits: where the activation behind it cuts the value.
        within: what each outlying channel is kept within, instead of giving its fill; empty where they are off.
    """

    value: str
    channels: int
    axis_from_end: int
    data_type: int
    outlying: tuple[int, ...]
    z: tuple[float, ...]
    fills: tuple[float, ...] | None
    spreads: tuple[float, ...] | None
    quantum: tuple[float, float] | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)
    within: tuple[tuple[float, float], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """What one number a channel has to look like to be broadcast over the value."""
        return (self.channels, *[1] * (self.axis_from_end - 1))


@dataclass(frozen=True, slots=True)
class Dial:
    """A switch that is built into a model: the inputs `off` (bool) and `fill`, both of the switch's shape, feed it.

    `before` is the value as it is when nothing is switched off; `fill` is "" where channels are kept within limits.
    """

    switch: Switch
    off: str
    fill: str
    before: str


@dataclass(frozen=True, slots=True)
class Drive:
    """Channels of one value that can be driven, held and watched, image by image.

    The value becomes x · keep + add: `keep` and `add` are inputs, one number an image and channel (float32, of shape
    (images, channels, 1, …)). The outputs `most` and `least` give each channel's largest and smallest value, of shape
    (images, channels).
    """

    value: str
    channels: int
    axis_from_end: int
    keep: str
    add: str
    most: str
    least: str


@dataclass(frozen=True, slots=True)
class Landmark:
    """A value near the input whose distribution is known: mean and std by channel, on axis 1; () where it is not."""

    value: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Controls:
    """What can be set and read on a model with dials.

    Attributes:
        dials: which channels can be switched off.
        caps_input: the input that caps all values; "" where none can be capped.
        landmark: what tells pixel values apart; None where nothing does.
        outputs: the outputs that count.
    """

    dials: tuple[Dial, ...]
    caps_input: str
    landmark: Landmark | None
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """How far to go.

    Attributes:
        budget: the largest predicted loss, for pruning and caps together (0..1): the upper end of its interval.
        u: channels whose z is above this may go.
        caps: times the std to cap at: None for no caps, 0 for as low as the budget allows, else that or higher.
        sweep: thresholds whose loss is asked for too.
        pixels: the range of pixel values that a finding tells; None for none.
        beside: a class that a path leads to, whose score is left out of what is compared; None for none.
        changed: the largest share of images whose class may change (0..1); one image always may.
        unheard: the largest loss predicted on made-up signals, in place of `budget`; None for no other.
    """

    budget: float
    u: float
    caps: float | None = None
    sweep: tuple[float, ...] = ()
    pixels: tuple[float, float] | None = None
    beside: int | None = None
    changed: float = 1.0
    unheard: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseRequest:
    """How far may this model be pruned and capped?

    Attributes:
        original: the input model.
        model: the folded model with dials, to be set and read by `controls`.
        wish: how far to go.
        images: an .npz file with the user's own unlabelled images; None takes photographs.
        pixels: the range of pixel values that the user names; None finds it out.
        limits: where and how far to run.
    """

    original: Path
    model: Path
    controls: Controls
    wish: Wish
    images: Path | None = None
    pixels: tuple[float, float] | None = None
    limits: RunLimits = field(default_factory=RunLimits)

    @property
    def written(self) -> Path:
        """The model that is run."""
        return self.model

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""
        return self.limits.provider == "cpu"


@dataclass(frozen=True, slots=True)
class DialSetting:
    """The dose of one dial: what each outlying channel gives once it is off, and which of them go."""

    value: str
    fills: tuple[float, ...]
    off: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dosed:
    """The dose that the budget allows, and what it is predicted to cost.

    Attributes:
        gauge: what was measured, on what, within which budget.
        settings: one a dial.
        caps: times the std at which all values are capped; None for no caps.
        sweep: for every threshold asked for.
    """

    gauge: Gauge
    settings: tuple[DialSetting, ...]
    caps: float | None
    sweep: tuple[Prediction, ...] = ()


DOSING: Final = Errand(
    home=f"{__name__}:DOSING",
    worker="onnx_clp.gauge.worker:dose",
    asked=DoseRequest,
    answered=Dosed,
    failed="its loss could not be predicted",
    instead="go without a proof with --no-validate",
    names=True,
    spare=lambda request: spare(request.images),
    more=True,
)
