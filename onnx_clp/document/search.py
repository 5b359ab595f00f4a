"""The parts of the document that tell of the search for triggers."""

from __future__ import annotations

import base64
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_clp.document.gauge import Loss
from onnx_clp.document.layers import CapLeft

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of `height` rows of `width` pixels of 1 or 3 `channels`, 8 bits a value, base64 in `pixels`."""

    width: int
    height: int
    channels: int
    pixels: str

    @staticmethod
    def of(image: NDArray[Any], low: float, high: float) -> Picture:
        """An image (channels, height, width); `low` becomes black and `high` white, channels beyond 3 are left out."""
        import numpy as np

        shown = image[:3] if len(image) >= 3 else image[:1]
        scaled = np.clip((shown - low) / (high - low), 0, 1) * 255
        raw = np.ascontiguousarray(np.rint(scaled).astype(np.uint8).transpose(1, 2, 0))
        return Picture(image.shape[2], image.shape[1], len(shown), base64.b64encode(raw.tobytes()).decode())

    def array(self) -> NDArray[np.uint8]:
        """uint8 of shape (height, width, 1 or 3)."""
        import numpy as np

        raw = np.frombuffer(base64.b64decode(self.pixels), np.uint8)
        return raw.reshape(self.height, self.width, self.channels)


@dataclass(frozen=True, slots=True)
class SearchImages:
    """The images a search for triggers used.

    `source` is "statistics" (made from the model, matching its BatchNormalizations'), "classes" (made without
    statistics) or "data" (the user's). `mismatch`: the mean over channels of (difference of means)²/variance +
    ½ log²(ratio of variances). `fit`: the share that the model gives the class they were made for. `sheet`: some.
    `pixels`: the smallest and the largest pixel value that the search allows, as asked for or as wide as the data.
    """

    source: str
    count: int
    statistics: int
    mismatch: float | None
    fit: float | None
    sheet: tuple[Picture, ...]
    pixels: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class FormFound:
    """One form of a trigger towards a class.

    `kind` is "perturbation", "patch", "blend", "warp" or "wave", `flip` the share of images of other classes that it
    turns. `size`: the perturbation's l2 norm in pixel values, the patch's l1 norm and the blend's mask summed in
    pixels, the warp's mean displacement in pixels, the waves' amplitudes in shares of the range of pixel values. `z`
    says how far the class stands out by it, in standard deviations.
    """

    kind: str
    flip: float
    size: float
    z: float
    picture: Picture


@dataclass(frozen=True, slots=True)
class ClassInversion:
    """What turns images of other classes into `target`, a form each.

    `margin` is the mean of the target's logit less the largest other under the perturbation.
    """

    target: int
    margin: float
    forms: tuple[FormFound, ...]

    @property
    def z(self) -> float:
        """How far the class stands out by the form that shows it most."""
        return max(form.z for form in self.forms)


@dataclass(frozen=True, slots=True)
class RepairedLayer:
    """One value with caps on directions: the output of the layer `name`, or for the last linear layer its input.

    By cap, `beyond` is the share of clean positions that it changes, and `shift` how far what was found moved positions
    along its direction before, on average, in clean standard deviations.
    """

    name: str
    value: str
    beyond: tuple[float, ...]
    shift: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What the repair came to, measured on the search's images.

    `flip_before` and `flip` are the largest shares that what was capped turns before and after the repair, `agreement`
    is the share of images that keep their class. Each of `directions` caps leaves a `quantile` of the clean positions
    as they are. `z` says how far the class lies from the others when it is searched for once more (None: there was no
    time for it), `stands_out` whether that is too far. `loss` is what is predicted to be lost of ordinary images.
    """

    flip_before: float
    flip: float
    agreement: float
    z: float | None
    stands_out: bool
    loss: Loss
    quantile: float
    directions: int
    layers: tuple[RepairedLayer, ...]
    left: tuple[CapLeft, ...]


@dataclass(frozen=True, slots=True)
class ChannelChanges:
    """How far what was found moves the channels of a value, before any repair (`inversion.changes`).

    The value is the output of the layer `name`, or for the last linear layer its input. By channel, `change` is the
    mean l2 norm of the difference that what was found makes, over the mean l2 norm without it; a measurement on the
    search's images, not a bound, and not finite where the value overflows.
    """

    name: str
    value: str
    change: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median channel's change; 0 without channels."""
        finite = [one for one in self.change if math.isfinite(one)]
        return statistics.median(finite) if finite else 0.0

    @property
    def most(self) -> list[tuple[int, float]]:
        """The up to three channels that move most, each with its change, the one that moves most first."""
        moved = [(k, one) for k, one in enumerate(self.change) if math.isfinite(one) and one > 0]
        return sorted(moved, key=lambda pair: -pair[1])[:3]


@dataclass(frozen=True, slots=True)
class Inversion:
    """A search for triggers: `likely` is the class that stands out; `sentence` says it, or why there is none.

    `nearest` is the class furthest out, named or not, and `changes` what leads to it does to the channels of each value
    that can take caps; None and () where no trigger was looked for.
    """

    provider: str
    classes: int
    images: SearchImages
    results: tuple[ClassInversion, ...]
    likely: int | None
    sentence: str
    repair: RepairReport | None
    repair_note: str
    nearest: int | None = None
    changes: tuple[ChannelChanges, ...] = ()
    unfinished: str = ""
