"""How far answers after an edit are from those before: pure functions of arrays.

Every function takes what a network answered to the same samples, before and after; the first axis counts samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.harm.network import Scores

Array = NDArray[Any]
Floats = NDArray[np.float64]

_TINY = 1e-12


def relative_change(before: Array, after: Array) -> float:
    """‖after - before‖ over ‖before - its mean over the samples‖: 1 is as far as a sample is from the average one.

    NaN where all samples have the same answer before, or an answer is not finite after.
    """
    x, y = before.astype(np.float64), after.astype(np.float64)
    spread = float(np.linalg.norm(x - x.mean(0)))
    return float(np.linalg.norm(y - x)) / spread if spread > _TINY else float("nan")


def probabilities(scores: Array, meaning: Scores) -> Floats:
    """Class probabilities (samples, classes), each row summing to 1; independent ones are normalised."""
    x = scores.astype(np.float64).reshape(len(scores), -1)
    if meaning == Scores.LOGITS:
        powers = np.exp(x - x.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))
    return np.asarray(x / np.maximum(x.sum(1, keepdims=True), _TINY))


def divergence(before: Floats, after: Floats) -> float:
    """Mean Kullback-Leibler divergence of class probabilities (samples, classes) after from those before, in nats."""
    terms = before * (np.log(np.maximum(before, _TINY)) - np.log(np.maximum(after, _TINY)))
    return float(terms.sum(1).mean())


def agreement(before: Floats, after: Floats) -> float:
    """Share of samples whose likeliest class stays the same."""
    return float((before.argmax(1) == after.argmax(1)).mean())


def loss(before: Array, after: Array) -> tuple[float, float]:
    """Share of samples that were right and no longer are, less the opposite, and its standard error.

    `before` and `after` say of each sample whether the answer is right. The error is that of the paired difference.
    """
    lost = before.astype(np.float64) - after.astype(np.float64)
    error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else float("nan")
    return float(lost.mean()), float(error)


def right_classes(scores: Floats, labels: Array) -> Array:
    """Whether the likeliest class is the label, (samples,)."""
    return np.asarray(scores.argmax(1) == labels)


def texts(answers: Array, blank: int, ignored: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Character indices of each sample by CTC: the likeliest along the line, less repeats, blanks and those ignored.

    `answers` is (samples, …, length, characters); all axes between have length 1, and the one behind the length may.
    """
    out = []
    for row in answers.argmax(-1).reshape(len(answers), -1):
        first = np.concatenate([[True], row[1:] != row[:-1]])
        out.append(tuple(int(index) for index in row[first & (row != blank)] if index not in ignored))
    return out


def right_texts(read: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> Array:
    """Whether each text read is the one wanted, (samples,)."""
    return np.array([one == other for one, other in zip(read, wanted, strict=True)])


def same_texts(before: list[tuple[int, ...]], after: list[tuple[int, ...]]) -> float:
    """Share of samples read as the same text."""
    return float(np.mean([one == other for one, other in zip(before, after, strict=True)]))


def cosine(before: Array, after: Array) -> float:
    """Mean cosine between embeddings before and after."""
    x, y = (one.astype(np.float64).reshape(len(one), -1) for one in (before, after))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float((np.einsum("ij,ij->i", x, y) / np.maximum(norms, _TINY)).mean())


def same_neighbour(before: Array, after: Array) -> float:
    """Share of samples whose nearest other sample before, by cosine, is the one an embedding after is nearest to.

    The embedding after is looked up among those before: as when a gallery was made with the original network.
    """
    x, y = (_unit(one) for one in (before, after))
    own, across = x @ x.T, y @ x.T
    for matrix in (own, across):
        np.fill_diagonal(matrix, -np.inf)
    return float((own.argmax(1) == across.argmax(1)).mean())


def _unit(values: Array) -> Floats:
    flat = values.astype(np.float64).reshape(len(values), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), _TINY))


def same_side(before: Array, after: Array, limit: float = 0.5) -> float:
    """Share of places that lie on the same side of `limit`."""
    return float(((before > limit) == (after > limit)).mean())


def overlap(before: Array, after: Array, limit: float = 0.5) -> float:
    """Places above `limit` both before and after, over those above it before or after; 1 if there are none."""
    x, y = before > limit, after > limit
    return float((x & y).sum() / (x | y).sum()) if (x | y).any() else 1.0
