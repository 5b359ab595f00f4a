"""How far what was found moves each channel: the inverted change.

    change[k] = mean over x of ‖F_k(x') − F_k(x)‖₂ / mean over x of ‖F_k(x)‖₂

F_k is channel k of a value (all its positions), x an image of another class and x' the same with a found trigger on. It
stands in for the trigger-activated change (TAC; Zheng et al., ECCV 2022), which takes the true trigger and real images
and is not divided. It is a measurement on these images, not a bound: other images may move a channel further. Before an
activation a channel may hold much that nothing reads, which makes its change look small.

A channel that holds less than a hundredth of what the value's channels hold on average counts as holding that much, so
that one that is silent without the trigger has a finite change. Where all are silent without it, each is measured by
how far they move on average. What is silent without and with it has changed by 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.cap.bound_directions import Site
from onnx_clp.document.search import ChannelChanges
from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.repair import Mark
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.subject import Subject
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine

Float64 = NDArray[np.float64]

FAINT: Final = 0.01
"""Of what the channels of a value hold on average: the least that one of them counts as holding."""


def changes(
    subject: Subject, engine: Engine, sites: Sequence[Site], images: Images, form: Mark, tick: Tick
) -> tuple[ChannelChanges, ...]:
    """The inverted change of every channel of every site, one value after the other and few images at a time.

    Args:
        subject: the model.
        engine: where it runs.
        sites: the values, channels on axis 1.
        images: of other classes than the form leads to, at least one.
        form: what was found.
        tick: called as the work goes on.

    Raises:
        UnsupportedModelError: the runtime refuses the part of the graph that leads to a value.
        NotValidated: there is not enough memory.
    """
    marked, found = form.put_on(images), []
    for at, site in enumerate(sites):
        moved, held = _sums(Look(subject, site.value, engine), images, marked)
        found.append(ChannelChanges(site.layer, site.value, tuple(relative(moved, held).tolist())))
        tick("measure", at + 1, len(sites))
    return tuple(found)


def relative(moved: Float64, held: Float64) -> Float64:
    """How far channels move by what they hold, both 0 or more, (channels,); not a number where one overflows."""
    least = FAINT * _mean(held) or _mean(moved)
    base = np.maximum(held, least)
    with np.errstate(invalid="ignore"):
        return np.divide(moved, base, out=np.zeros_like(moved), where=base > 0)


def _mean(values: Float64) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else 0.0


def _sums(look: Look, images: Images, marked: Images) -> tuple[Float64, Float64]:
    """By channel, over the images: how far the trigger moves it, and what it holds without."""
    moved = held = np.zeros(1)
    for clean, other in zip(look.parts(images), look.parts(marked), strict=True):
        before = clean.astype(np.float64)
        held = held + _norms(before)
        with np.errstate(invalid="ignore"):
            moved = moved + _norms(other - before)
    return moved, held


def _norms(values: Float64) -> Float64:
    """l2 norms over all axes behind the second, summed over the first."""
    flat = values.reshape(*values.shape[:2], -1)
    return np.asarray(np.sqrt(np.einsum("ncp,ncp->nc", flat, flat)).sum(axis=0))
