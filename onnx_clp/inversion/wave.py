"""A few waves over the whole image that turn images into a class, the same for all images.

    x' = clip(x + span · Σ_k Σ_phase a[k, phase] · wave[k, phase])
    minimise over a:   mean cross-entropy(f(x'), class) + weight · Σ_k ‖a[k]‖₂

k runs over the frequencies of the discrete Fourier transform; a[k] holds the two phases of every colour channel, which
shrink together (`descent.Shrinking`), so that few frequencies remain. Steps, weight and start as for a patch. SIG
(Barni et al., ICIP 2019) hides a trigger of this form: large for a perturbation, and on every pixel, but of one
frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from onnx_clp.inversion.addition import Addition
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.descent import Float32, Shrinking
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import Portions
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import ENOUGH, Smallest, descended
from onnx_clp.inversion.trigger import outcome

STEPS: Final = 60
_RATE: Final = 0.02
_WEIGHT: Final = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Wave(Addition):
    """Waves (channels, height, width) towards `target`; `flip` is the share of images they turn.

    `area` is the sum of their amplitudes in spans, the root mean square over colour channels: a wave between black and
    white counts 0.5.
    """

    @property
    def reach(self) -> float:
        """The change that is drawn black or white."""
        return self.pixels.span / 2


class Spectrum:
    """Amplitudes (height, width // 2 + 1, channels, 2) of cosines and of sines (less than 0), to images and back."""

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)
        # All but the first column, and the last of an even width, stand for their mirror image as well.
        self._sides = np.full((width // 2 + 1, 1), 2.0)
        self._sides[0] = 1
        if width % 2 == 0:
            self._sides[-1] = 1

    def image(self, amplitudes: Float32) -> Float32:
        """What the waves add up to, (channels, height, width)."""
        doubled = (amplitudes[..., 0] + 1j * amplitudes[..., 1].astype(np.float64)) / self._sides
        waves = np.fft.irfft2(doubled * np.prod(self._size), s=self._size, axes=(0, 1))
        return np.asarray(waves.transpose(2, 0, 1), np.float32)

    def slope(self, gradient: Float32) -> Float32:
        """The gradient by the amplitudes of what has `gradient` (channels, height, width) by the image."""
        found = np.fft.rfft2(gradient.transpose(1, 2, 0).astype(np.float64), axes=(0, 1))
        return np.stack([found.real, found.imag], axis=-1).astype(np.float32)

    def amplitudes(self, image: Float32) -> Float32:
        """Of an image (channels, height, width); `image` of them gives it back."""
        return np.asarray(self.slope(image) * self._sides[:, None] / np.prod(self._size), np.float32)


class WaveDescent:
    """Shrinks waves from those of `start` (channels, height, width) on; arguments as for `invert_wave`."""

    def __init__(self, attack: Attack, images: Portions, target: int, start: Float32, pixels: Range) -> None:
        self._attack, self._images, self._target, self._pixels = attack, images, target, pixels
        self._span, (self._channels, height, width) = np.float32(pixels.span), images.shape
        self._spectrum = Spectrum(height, width)
        self._amplitudes = self._spectrum.amplitudes(start / self._span)
        self._descent = Shrinking(self._amplitudes, _RATE, _WEIGHT, together=2)
        self._kept = Smallest[Wave](images)

    def step(self) -> None:
        """One step, on the next portion of the images."""
        span, pixels, amplitudes = self._span, self._pixels, self._amplitudes
        change = span * self._spectrum.image(amplitudes)
        moved = self._images.following() + change
        logits, slopes = self._attack.pull(pixels.clipped(moved), self._target)
        area = float(np.sqrt((amplitudes * amplitudes).sum(axis=(2, 3)) / self._channels).sum())
        flip = self._images.turned(outcome(logits, self._target)[0])
        self._kept.meet(Wave(self._target, change, flip, area, pixels))
        slope = self._spectrum.slope(pixels.inward(moved, slopes).sum(axis=0) * span)
        self._descent.step(slope, flip >= ENOUGH)

    @property
    def form(self) -> Wave:
        """The smallest waves met by now that turn at least 0.9 of the images; where none did, the last ones."""
        return self._kept.form


def invert_wave(attack: Attack, images: Images, target: int, start: Float32, pixels: Range, steps: int = STEPS) -> Wave:
    """The smallest waves met on the way from `start` that turn at least 0.9 of `images`; else the last ones."""
    return descended(WaveDescent(attack, Portions(images), target, start, pixels), steps)
