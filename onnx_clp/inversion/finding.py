"""Which class stands out: one that takes a far smaller push than the others.

Five measures a class (`forms`), all higher the easier the class is to reach: the margin that a perturbation of fixed
size reaches, in leads of the images' own classes; minus the logarithms of the areas that a patch and a blend need, of
how far a warp moves pixels, of the amplitudes of waves. Each in standard deviations from the median of all classes. The
class furthest out by any is the likely target if it passes the limit. Few classes, or triggers that nothing shared by
all images comes near, leave it open.

Ten classes say little of how widely classes differ. So their spread is moderated (Smyth, Statistical Applications in
Genetics and Molecular Biology 3, 2004): a weighted mean of the variance found in this model and of one known before,
which counts as much as that of _PRIOR_CLASSES further classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Doubted = NDArray[np.bool_]

LIMIT: Final = 3.5
TOGETHER: Final = 2.33
"""What is enough for a class that the last layer names already: were scores normal, one class by five forms would reach
it in one network of twenty, and the nearest of ten classes LIMIT in one of ninety."""
CLEAR: Final = LIMIT + 2.0
"""How far out one form alone is believed, whatever it is, and a search decided if no other class passes the limit."""
LEAST_CLASSES: Final = 4
_MAD_TO_STD: Final = 1.4826
UNMATCHED: Final = 1.3
"""Times as far apart classes lie on images that match no statistics of the training images."""
_PRIOR_CLASSES: Final = 20


def robust_z(values: Sequence[float], known: float) -> Float64:
    """Distance of each value from the median, in standard deviations.

    Args:
        values: one a class, at least one.
        known: the standard deviation to expect, above 0, which is moderated by that of `values`.
    """
    found = np.asarray(values, np.float64)
    away = found - np.median(found)
    spread = _MAD_TO_STD * np.median(np.abs(away))
    free = len(found) - 1
    variance = (_PRIOR_CLASSES * known**2 + free * spread**2) / (_PRIOR_CLASSES + free)
    return np.asarray(away / np.sqrt(variance))


def likely(
    z: Float64, flips: Sequence[float], named: Collection[int] = (), doubted: Doubted | None = None
) -> int | None:
    """Position of the class that stands out; None where none does or there are fewer than 4.

    Args:
        z: how far each class stands out by each form, (forms, classes).
        flips: the largest share of images that any form turns, by class.
        named: positions of classes that independent evidence names; they need to stand out less.
        doubted: what another form has to agree with; None for nothing.
    """
    if z.shape[1] < LEAST_CLASSES:
        return None
    sure, far = z if doubted is None else agreed(z, doubted), z.max(axis=0)
    first, rest = nearest(sure), sorted(named, key=lambda at: -far[at])
    enough = [at for at in [first] if sure[:, at].max() > LIMIT] + [at for at in rest if far[at] > TOGETHER]
    return next((at for at in enough if flips[at] >= 0.5), None)


def agreed(z: Float64, doubted: Doubted) -> Float64:
    """Without what a doubted form alone says: −inf where no other form brings the class beyond TOGETHER.

    Descents cut short come to very different sizes, so how far one form then sets a class apart says little. Nor do
    perturbations and waves: some class of a clean network often is nearest to noise. Two forms that agree on a class
    say more: were scores normal, and forms independent, two of five would put the same one of ten classes beyond
    TOGETHER in one network of a hundred, about as often as one form puts one beyond LIMIT.

    Args:
        z: how far each class stands out by each form, (forms, classes).
        doubted: which of these are doubted, (forms, classes).
    """
    sure = z.copy()
    for row, doubts in enumerate(doubted):
        alone = np.delete(z, row, axis=0).max(axis=0, initial=-np.inf) < TOGETHER
        sure[row, doubts & alone] = -np.inf
    return sure


def nearest(z: Float64) -> int:
    """Position of the class that stands out most by any form."""
    return int(np.argmax(z.max(axis=0)))


def too_few(classes: int) -> str:
    """What to say of a model of fewer classes than `LEAST_CLASSES`, or than were asked for."""
    return f"{classes} classes are too few to tell whether one of them stands out"


def sentence(
    target: int, z: Float64, stands_out: bool, classes: int, words: Sequence[str], hasty: Collection[int] = ()
) -> str:
    """What was found, for people; `z` is by form, of the class that stands out, else of the nearest.

    `words` say of each form what of it is smaller; `hasty` are the rows of forms for which time was short.
    """
    if classes < LEAST_CLASSES:
        return too_few(classes)
    far, by = f"{z.max():.1f} robust standard deviations", words[int(z.argmax())]
    if not stands_out and z.max() > LIMIT:
        told = f"no class is named: class {target} lies {far} from the others by {by}, but"
        if int(z.argmax()) in hasty:
            short = "there was no time to look for that properly and no other form agrees"
            return f"{told} {short}; --search-seconds allows more"
        return f"{told} no other form agrees, and by itself only a patch counts below {CLEAR:g}"
    if not stands_out:
        return (
            f"no class stands out: the nearest, class {target}, lies {far} from the others ({LIMIT:g} are needed); "
            "that is no proof, some triggers leave no such mark"
        )
    both = "" if z.max() > LIMIT else f"; its row in the last layer stands out too, so {TOGETHER:g} are enough"
    return (
        f"class {target} is the likely target of a hidden trigger: {by} turns images into it "
        f"than into the other classes, by {far}{both}"
    )
