"""Scores and boxes in what detectors answer, place by place, and how far they moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.harm.comparing import relative_change

Array = NDArray[Any]
FOUND = 0.5
"""Score above which something counts as found."""


@dataclass(frozen=True, slots=True)
class Places:
    """Scores (samples, places) in 0..1 and box numbers (samples, places, numbers), in the network's own coding."""

    scores: Array
    boxes: Array


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x.astype(np.float64), -60, 60))))


def _yolov8(answers: Mapping[str, Array]) -> Places:
    rows = next(iter(answers.values()))[:, 0].swapaxes(1, 2)
    return Places(rows[..., 4:].max(-1), rows[..., :4])


def _yolox(answers: Mapping[str, Array]) -> Places:
    rows = next(iter(answers.values()))[:, 0]
    return Places(rows[..., 4] * rows[..., 5:].max(-1), rows[..., :4])


def _centerface(answers: Mapping[str, Array]) -> Places:
    heat, size, offset, _ = (array[:, 0] for array in answers.values())
    count = len(heat)
    boxes = np.concatenate([size, offset], 1).reshape(count, 4, -1).swapaxes(1, 2)
    return Places(heat.reshape(count, -1), boxes)


def _blazeface(answers: Mapping[str, Array]) -> Places:
    near, far, near_boxes, far_boxes = (array[:, 0] for array in answers.values())
    scores = np.concatenate([near, far], 1)[..., 0]
    return Places(_sigmoid(scores), np.concatenate([near_boxes, far_boxes], 1))


def _onet(answers: Mapping[str, Array]) -> Places:
    box, landmarks, face = answers.values()
    return Places(face[:, :, 1], np.concatenate([box, landmarks], -1))


READERS: dict[str, Callable[[Mapping[str, Array]], Places]] = {
    "yolov8": _yolov8,
    "yolox": _yolox,
    "centerface": _centerface,
    "blazeface": _blazeface,
    "onet": _onet,
}
"""Name of a coding -> what reads it from outputs by name, each (samples, 1, …)."""


def measures(before: Places, after: Places) -> dict[str, float]:
    """What became of the best find of each sample.

    `agreement`: share of samples with something found before and the same place still found after, or nothing before
    and nothing after. `found`: share with something found before. `score_change`: mean change of the best score.
    `box_change`: relative change of the boxes at those places.
    """
    rows = np.arange(len(before.scores))
    best = before.scores.argmax(1)
    was, stays = before.scores[rows, best] > FOUND, after.scores[rows, best] > FOUND
    nothing = ~was & ~(after.scores > FOUND).any(1)
    found = {
        "agreement": float(((was & stays) | nothing).mean()),
        "found": float(was.mean()),
        "score_change": float(np.abs(after.scores[rows, best] - before.scores[rows, best]).mean()),
    }
    if was.sum() > 1:
        places = rows[was], best[was]
        found["box_change"] = relative_change(before.boxes[places], after.boxes[places])
    return found
