"""How far the outputs of two models lie apart on the same images, each output in its own terms.

Class scores, one set an image or one a place of a sequence that sums to 1:

    divergence = mean KL(p ‖ q)            p, q: the class probabilities before and after, summed over places
    changed    = share of images whose class (or whose classes of any place) another one takes that was less likely
                 by more than 0.01; a network that is nearly undecided has no answer to change
    cost       = mean p(top of p) − p(top of q)
    relative   = ‖l' − l‖ / ‖l − its mean over the images‖      l, l': log p and log q less their means over the
                                                                classes; variation counts as 0.1 nats at least
    variety    = e to the entropy of the classes' shares among the answers before

`cost` is the accuracy that the change costs if the probabilities before are to be believed: a class that another one
takes counts by how much surer the model was of it. `relative` sees what `divergence` cannot where the images are all of
one class to the model, as photographs may be: one set of scores an image only. Everything else that is a float, such as
boxes, masks, embeddings, and a score for each place beside boxes for the same places:

    relative   = ‖after − before‖ / ‖before − its mean over the images‖
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_clp.document.gauge import OutputChange
from onnx_clp.validation.compare import is_float, wide

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Answers = Mapping[str, Sequence[Array]]
"""By output, one array an image, without its batch axis where that has one entry."""

_LEAST: Final = 1e-12
_SUMS_TO_ONE: Final = 2e-2
_SAME_LENGTH: Final = 1e-2
_LEAST_VARIATION: Final = 0.1
_LEAST_LEAD: Final = 0.01
_LEAST_CLASSES: Final = 3


def by_place(model: ModelProto) -> frozenset[str]:
    """The outputs that give so many numbers at each of as many places as the input has.

    At an input of one place they look like one set of class scores, and are a spectrum, a mask or features.
    """
    sizes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim][1:] for o in model.graph.output}
    return frozenset(name for name, behind in sizes.items() if min(behind, default=1) < 1 < max(behind, default=1))


def changes(
    before: Answers, after: Answers, places: Container[str] = (), *, beside: int | None = None
) -> tuple[OutputChange, ...]:
    """One change an output of both; those in `places` are class scores only where they sum to 1.

    Of class scores of one set an image the class `beside` is left out.
    """
    with np.errstate(all="ignore"):
        return tuple(
            _change(name, before[name], after[name], name in places, _is_beside_boxes(name, before), beside)
            for name in before
            if name in after
        )


def lead(answers: Answers, places: Container[str] = ()) -> float | None:
    """By how many logits the likeliest class is ahead of the next, on average over the images.

    Of the first output that is class scores of one set an image, and at most 28; None where there is none.
    """
    for name, rows in answers.items():
        if len({one.shape for one in rows}) != 1 or not is_float(rows[0].dtype) or _is_beside_boxes(name, answers):
            continue
        values = np.stack([wide(one) for one in rows])
        scores = _scores(values, name in places)
        if scores is not None and scores.places == 1 and scores.classes > 1:
            ordered = np.sort(np.log(scores.of(values)[:, 0]), axis=1)
            return float((ordered[:, -1] - ordered[:, -2]).mean())
    return None


def _is_beside_boxes(name: str, outputs: Answers) -> bool:
    """Whether an output is one number a place, and another output says more of the same places, as detectors do."""
    *places, last = outputs[name][0].shape or (0,)
    others = (rows[0].shape for other, rows in outputs.items() if other != name)
    return last == 1 and bool(places) and any(s[:-1] == tuple(places) and s[-1] > 1 for s in others if s)


def _change(
    name: str, before: Sequence[Array], after: Sequence[Array], at_places: bool, beside_boxes: bool, beside: int | None
) -> OutputChange:
    fitting = [(b, a) for b, a in zip(before, after, strict=True) if b.shape == a.shape]
    lost = 1 - len(fitting) / max(len(before), 1)
    if not fitting:
        return OutputChange(name, "values", changed=1.0)
    if not is_float(before[0].dtype):
        moved = float(np.mean([not np.array_equal(b, a) for b, a in fitting]))
        return OutputChange(name, "discrete", changed=lost + (1 - lost) * moved)
    if lost or len({b.shape for b, _ in fitting}) > 1:
        return OutputChange(name, "values", changed=lost, relative=_mean_relative(fitting))
    scores = None if beside_boxes else _scores(np.stack([b for b, _ in fitting]), at_places)
    if scores is None or not all(np.isfinite(a).all() for _, a in fitting):
        return OutputChange(name, "values", relative=_relative(fitting))
    if scores.places > 1:
        return _sequence_change(name, scores, fitting)
    both = (np.stack([wide(pair[at]) for pair in fitting]) for at in (0, 1))
    return _class_change(name, scores, *(_without(scores, scores.of(one), beside) for one in both))


@dataclass(frozen=True, slots=True)
class _Scores:
    """Class scores of shape (images, places, classes): probabilities already, or logits."""

    places: int
    classes: int
    normalised: bool

    def of(self, values: Array) -> Float64:
        """Probabilities (images, places, classes), at least 1e-12."""
        flat = values.reshape(len(values), self.places, self.classes)
        if not self.normalised:
            flat = np.exp(flat - flat.max(axis=2, keepdims=True))
        flat = np.maximum(np.nan_to_num(flat), _LEAST)
        return np.asarray(flat / flat.sum(axis=2, keepdims=True))


def _scores(values: Array, at_places: bool) -> _Scores | None:
    """Whether an output is class scores; None for boxes, masks, embeddings and the like."""
    sizes = [size for size in values.shape[1:] if size != 1]
    if not sizes or len(sizes) > 2 or not np.isfinite(values).all():
        return None
    flat = values.reshape(len(values), -1, sizes[-1])
    normalised = bool((flat >= -_LEAST).all() and np.abs(flat.sum(axis=2, dtype=np.float64) - 1).max() < _SUMS_TO_ONE)
    if normalised and sizes[-1] > 1 and (len(sizes) == 1 or values.shape[-1] == sizes[-1]):
        return _Scores(flat.shape[1], sizes[-1], True)
    if at_places or len(sizes) == 2 or sizes[0] == 1 or _is_embedding(wide(flat[:, 0])):
        return None
    return _Scores(1, sizes[0], False)


def _is_embedding(rows: Float64) -> bool:
    """Whether all rows have the same length, as normalised embeddings have."""
    lengths = np.linalg.norm(rows, axis=1)
    return len(rows) > 1 and bool(np.ptp(lengths) <= _SAME_LENGTH * lengths.mean())


def _without(scores: _Scores, probabilities: Float64, beside: int | None) -> Float64:
    """The probabilities (images, places, classes) of all classes but one, given that it is one of these."""
    if beside is None or scores.places != 1 or not 0 <= beside < scores.classes or scores.classes < _LEAST_CLASSES:
        return probabilities
    rest = np.delete(probabilities, beside, axis=2)
    return np.asarray(rest / rest.sum(axis=2, keepdims=True))


def _class_change(name: str, scores: _Scores, p: Float64, q: Float64) -> OutputChange:
    first, then = p.argmax(axis=2), q.argmax(axis=2)
    sure = np.take_along_axis(p, first[..., None], 2) - np.take_along_axis(p, then[..., None], 2)
    return OutputChange(
        name,
        "classes",
        changed=float((sure > _LEAST_LEAD).any(axis=(1, 2)).mean()),
        divergence=float((p * np.log(p / q)).sum(axis=(1, 2)).mean()),
        cost=float(np.minimum(sure.sum(axis=(1, 2)), 1.0).mean()),
        relative=_relative_of_scores(_centred(p), _centred(q)) if scores.places == 1 else None,
        classes=scores.classes,
        variety=_variety(first[:, 0]) if scores.places == 1 else None,
    )


def _sequence_change(name: str, scores: _Scores, pairs: Sequence[tuple[Array, Array]]) -> OutputChange:
    """The same for several sets of scores an image, one image at a time: there may be gigabytes of them."""
    each = [_class_change(name, scores, *(scores.of(wide(one)[None]) for one in pair)) for pair in pairs]

    def mean(values: Iterable[float | None]) -> float:
        return float(np.mean([value or 0.0 for value in values]))

    return OutputChange(
        name,
        "classes",
        changed=mean(one.changed for one in each),
        divergence=mean(one.divergence for one in each),
        cost=mean(one.cost for one in each),
        classes=scores.classes,
    )


def _variety(answers: NDArray[np.int_]) -> float:
    """e to the entropy of how the answers (images,) spread over classes: 1 to the number of classes."""
    shares = np.unique(answers, return_counts=True)[1] / len(answers)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _centred(probabilities: Float64) -> Float64:
    """Logits of mean 0 that give these probabilities (images, places, classes)."""
    logits = np.log(probabilities)
    return np.asarray(logits - logits.mean(axis=2, keepdims=True))


def _relative_of_scores(before: Float64, after: Float64) -> float:
    """Change over own variation, which counts as 0.1 nats at least: below that no class is ever sure."""
    own = np.linalg.norm(before - before.mean(axis=0, keepdims=True))
    return float(np.linalg.norm(after - before) / max(float(own), _LEAST_VARIATION * math.sqrt(before.size)))


def _relative(pairs: Sequence[tuple[Array, Array]]) -> float:
    """‖after − before‖ over the variation of `before` from image to image; infinite where values are lost.

    One image at a time, as there may be gigabytes of them.
    """
    mean = np.zeros(pairs[0][0].shape)
    for before, _ in pairs:
        mean += _finite(before) / len(pairs)
    moved = own = size = 0.0
    for before, after in pairs:
        known = np.isfinite(wide(before))
        if not np.isfinite(after[known]).all():
            return math.inf
        b, a = _finite(before), np.where(known, wide(after), 0)
        moved += float(np.square(a - b).sum())
        own += float(np.square(b - mean).sum())
        size += float(np.square(b).sum())
    return math.sqrt(moved / (own or size or 1.0))


def _finite(values: Array) -> Float64:
    """The values in float64, with 0 for what is not finite."""
    known = wide(values)
    return np.where(np.isfinite(known), known, 0)


def _mean_relative(pairs: Sequence[tuple[Array, Array]]) -> float:
    """The same for outputs whose size differs from image to image: over the values themselves."""
    parts = [np.linalg.norm(wide(a) - wide(b)) / (np.linalg.norm(wide(b)) or 1.0) for b, a in pairs]
    return float(np.mean(parts))
