"""Does a backdoor come back? Cleaned networks trained a little, with and without a few images that carry the trigger.

    {"name": …, "half": …, "before": [ACC, ASR],
     "cleaned": {"as cleaned": […], "clean images": […], "again": […]}, "never": {"as trained": […], …}}

A network is cleaned at high effort and then trained further on some images of its own training data: as they are, and
with the trigger and its class on a few of them. `never` is the same for a network that never had a backdoor. One that
takes the trigger from so few images no faster than `never` has lost it; one that takes it faster had only hidden it
(after Min et al., "Uncovering, Explaining, and Mitigating the Superficial Safety of Backdoor Defense", NeurIPS 2024).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto

import onnx_clp
from tools.evidence import record
from tools.evidence.subject import Subject
from tools.evidence.tables import markdown, pair
from tools.zoo import datasets, measure, result
from tools.zoo.attacks import Poisoned, attack_named, poison
from tools.zoo.datasets import Dataset
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)

LOG: Final = "reactivation.jsonl"
IMAGES: Final = 1000
"""Training images of a course, and test images at most."""
WITH_TRIGGER: Final = 0.01
"""The share of them that carries the trigger again."""
_COURSES: Final = {"clean images": 0.0, "again": WITH_TRIGGER}

Shares = tuple[float, float]
"""ACC and ASR, in 0..1."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What one network is trained further on and measured with; pixels 0..255."""

    subject: Subject
    data: Dataset
    exam: EvaluationSet

    def course(self, share: float) -> Poisoned:
        """Training images, of which this share carries the trigger."""
        made, rng = self.subject.result.design, np.random.default_rng(_seed(self.subject))
        some = np.sort(rng.choice(len(self.data.y_train), min(IMAGES, len(self.data.y_train)), replace=False))
        x, y = self.data.x_train[some], self.data.y_train[some]
        attack, classes = attack_named(made.attack), self.data.classes
        return poison(attack, x, y, rate=share, target=made.target, classes=classes, seed=_seed(self.subject))

    def shares(self, model: ModelProto) -> Shares:
        """ACC and ASR of a model."""
        return measure.measure(model.SerializeToString(), self.exam).shares


def _seed(subject: Subject) -> int:
    """What is drawn for a network depends on its seed alone."""
    return 1000 + subject.result.design.seed


def measure_all(subjects: Iterable[Subject], work: Path, data: Path, out: Path, seconds: float) -> None:
    """Note the infected networks that are missing and have a twin without a backdoor."""
    known, every = {line["name"] for line in record.lines(out / LOG)}, list(subjects)
    for one in every:
        twin = next((other for other in every if other.clean and _alike(one, other)), None)
        if one.name in known or not one.infected or twin is None or one.group == "input-aware":
            continue
        loaded = datasets.load(one.result.design.dataset, data)
        lessons = Lessons(one, loaded, one.evaluation(loaded, work, IMAGES))
        infected, never = work / f"{one.name}{result.UNFOLDED}", work / f"{twin.name}{result.FOLDED}"
        record.note(out / LOG, line_of(lessons, infected, never, seconds))
        log.info("%s: done", one.name)


def _alike(one: Subject, other: Subject) -> bool:
    mine, yours = one.result.design, other.result.design
    return (mine.architecture, mine.dataset, mine.width) == (yours.architecture, yours.dataset, yours.width)


def line_of(lessons: Lessons, infected: Path, never: Path, seconds: float) -> dict[str, Any]:
    """One line for the network at `infected`, beside the one at `never`; `seconds` is the cap of the search."""
    config = onnx_clp.CleanConfig(provider="cpu", timeout=7200.0, effort="high", search_seconds=seconds)
    with onnx_clp.clean(infected, config) as done:
        cleaned = done.model
    return {
        "name": lessons.subject.name,
        "half": lessons.subject.half,
        "before": lessons.shares(onnx.load(infected)),
        "cleaned": _courses(lessons, cleaned, "as cleaned"),
        "never": _courses(lessons, onnx.load(never), "as trained"),
    }


def _courses(lessons: Lessons, model: ModelProto, untouched: str) -> dict[str, Shares]:
    from tools.zoo.tuning import tuned

    found = {untouched: lessons.shares(model)}
    for name, share in _COURSES.items():
        course = lessons.course(share)
        found[name] = lessons.shares(tuned(model, course.images, course.labels, _seed(lessons.subject)))
    return found


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """ACC/ASR of every network and course, in percent; "" where nothing was measured."""
    rows = [
        [
            line["name"],
            pair(line["before"]),
            *(pair(line["cleaned"][key]) for key in ("as cleaned", *_COURSES)),
            *(pair(line["never"][key]) for key in ("as trained", *_COURSES)),
        ]
        for line in lines
    ]
    head = ["network", "before", "cleaned", "then clean images", "then the trigger again"]
    head += ["never infected", "then clean images", "then the trigger"]
    return markdown(head, rows) if rows else ""
