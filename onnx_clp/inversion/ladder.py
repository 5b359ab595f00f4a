"""What is undone of a trigger that was found, in rungs: each holds more directions than the one before.

One found patch is one direction; the attacker's own patch moves the network along another close by. Patches found from
other starts span what lies around. Other forms are undone as they were found: of variations of them nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.forms import Finder, Forms, TriggerForm
from onnx_clp.inversion.pace import TimeUp
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import grain
from onnx_clp.inversion.request import Images

Rungs = list[list[TriggerForm]]

_MOVES: Final = ((1, 0), (0, 1), (-1, 0), (0, -1))
OTHER_SEEDS: Final = (7, 9)
_WORKS: Final = 0.5
_LARGER: Final = 2.0


def rungs(form: TriggerForm, others: Sequence[Patch]) -> Rungs:
    """The rungs for a form, the mildest first; `others` are further patches towards the same class."""
    if not isinstance(form, Patch):
        return [[form]]
    return [[form], [form, *others]] if others else [[form]]


def around_block(patch: Patch, block: Patch) -> Rungs:
    """The rungs for a patch and the small block that it began at: each, both, and the block moved."""
    return [[patch], [block], [patch, block], moved(block)]


def joined(form: TriggerForm, others: Rungs) -> Rungs:
    """The form, and then with each rung of another one; the mildest first."""
    return [[form], *([form, *rung] for rung in others)]


def moved(patch: Patch) -> list[TriggerForm]:
    """The patch, and moved up, down, left and right by a pixel, or a 32nd of the image's smaller side."""
    step = grain(*patch.change.shape[1:])
    rolled = (np.roll(patch.change, (step * down, step * across), (1, 2)) for down, across in _MOVES)
    return [patch, *(replace(patch, change=change) for change in rolled)]


def other_patches(finder: Finder, attack: Attack, images: Images, known: Patch) -> list[Patch]:
    """Patches found from other starts, the last of them on half of the images, as many as there is time for.

    One that is far larger than the first is another thing, ordinary evidence for the class as a rule, and left out.
    """
    target = known.target
    found: list[Patch] = []
    for at, seed in enumerate(OTHER_SEEDS):
        some = images[at * len(images) // 2 :]
        forms = Forms(target)
        try:
            replace(finder, seed=finder.seed + seed).find("patch", attack, some, forms)
        except TimeUp:
            break
        patch = forms.by_kind["patch"]
        assert isinstance(patch, Patch)
        found.append(patch)
    return [patch for patch in found if patch.flip >= _WORKS and patch.area <= _LARGER * known.area]
