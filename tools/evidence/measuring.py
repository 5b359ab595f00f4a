"""Clean with the library, run both halves of the evaluation set through ONNX Runtime, note the rates."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

import onnx_clp
from tools.evidence import choice, record, settings
from tools.evidence.record import Rates
from tools.evidence.settings import Setting
from tools.evidence.subject import Subject
from tools.zoo import datasets, measure, result
from tools.zoo.datasets import Dataset, Images
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)

IMAGES: dict[str, int] = {"choose": 1000, "report": 3000}
"""Test images a model is measured on, by its half."""

CALIBRATION = 64
"""Unlabelled training images that calibrated settings are given; the same for every model, clean of triggers."""

_SUFFIX = {"plain": result.UNFOLDED, "folded": result.FOLDED}
_BATCH = 50


class Bench:
    """Measures models of `work` on the data sets of folder `data`; `images` overrules `IMAGES`."""

    def __init__(self, work: Path, data: Path, images: int | None = None) -> None:
        self.work, self._folder, self._images = work, data, images

    def images(self, subject: Subject) -> int:
        """How many test images a model is measured on."""
        return min(self._images or IMAGES[subject.half], int(subject.result.rates["images"]))

    def missing(
        self, subject: Subject, wanted: Iterable[Setting | None], known: dict[str, Rates]
    ) -> list[Setting | None]:
        """Those of `wanted` (None: no cleaning) that are not noted with as many images."""
        count = self.images(subject)
        return [one for one in wanted if name_of(one) not in known or known[name_of(one)].images != count]

    def rates(self, subject: Subject, wanted: Sequence[Setting | None]) -> dict[str, Rates]:
        """Rates by setting. Settings that give the same bytes are run once."""
        dataset = _dataset(subject.result.design.dataset, self._folder)
        data = subject.evaluation(dataset, self.work, self.images(subject))
        ran: dict[str, measure.Rates] = {}
        with TemporaryDirectory() as folder:
            images = Path(folder) / "images.npz"
            np.savez(images, x=some_images(dataset))
            return {name_of(setting): self._one(subject, setting, data, images, ran) for setting in wanted}

    def _one(
        self,
        subject: Subject,
        setting: Setting | None,
        data: EvaluationSet,
        images: Path,
        ran: dict[str, measure.Rates],
    ) -> Rates:
        path = self.path(subject, setting)
        if setting is None:
            return _noted(run_once(path.read_bytes(), data, ran))
        done = onnx_clp.clean(path, setting.config(images))
        summary, caps = done.report.summary, done.report.caps
        return _noted(
            run_once(done.model.SerializeToString(), data, ran),
            pruned=summary.channels_pruned if setting.prunes else 0,
            capped=caps.capped if caps else 0,
            verdict=summary.verdict.value,
        )

    def path(self, subject: Subject, setting: Setting | None) -> Path:
        """The file of a model that a setting takes."""
        return self.work / (subject.name + _SUFFIX["plain" if setting is None else setting.form])


@cache
def _dataset(name: str, folder: Path) -> Dataset:
    return datasets.load(name, folder)


def some_images(data: Dataset) -> Images:
    """`CALIBRATION` images of the training split, drawn with a fixed seed."""
    chosen = np.random.default_rng(0).choice(len(data.x_train), min(CALIBRATION, len(data.x_train)), replace=False)
    return data.x_train[np.sort(chosen)]


def name_of(setting: Setting | None) -> str:
    """Under which name a setting is noted."""
    return settings.NONE if setting is None else setting.name


def _noted(rates: measure.Rates, *, pruned: int = 0, capped: int = 0, verdict: str = "") -> Rates:
    return Rates(rates.images, rates.acc, rates.asr, rates.ra, pruned, capped, verdict)


def run_once(model: bytes, data: EvaluationSet, ran: dict[str, measure.Rates]) -> measure.Rates:
    """The rates of a model's bytes, from `ran` where the same were run before."""
    key = hashlib.sha256(model).hexdigest()
    if key not in ran:
        on = session(model)
        clean, triggered = (measure.predict(on, x, _BATCH) for x in (data.x_clean, data.x_triggered))
        ran[key] = measure.rates(clean, triggered, data)
    return ran[key]


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread of the CPU, with the runtime's optimisations, as a user would run the model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def wanted(subject: Subject, picked: Sequence[Setting]) -> list[Setting | None]:
    """The settings a model is measured with: to choose, all there is to choose among; else what is reported."""
    if subject.half == "choose":
        return [None, *settings.DATA_FREE]
    reported = (*settings.FIXED, *settings.FOLDED, *settings.CALIBRATED)
    names = {*reported, *(setting.name for setting in picked)}
    return [None, *(setting for setting in settings.TABLE if setting.name in names)]


def chosen(subjects: Sequence[Subject], out: Path) -> list[Setting]:
    """The settings that what is noted in `out` chooses: one of each rule, and one for all."""
    found = record.read(out)
    candidates = [*settings.rules().values(), settings.DATA_FREE]
    return [choice.choose(subjects, found, one) for one in candidates if choice.can_choose(subjects, found, one)]


Task = tuple[Subject, list[Setting | None]]


def measure_all(
    bench: Bench, subjects: Sequence[Subject], out: Path, halves: Sequence[str], processes: int = 1
) -> None:
    """Measure what is missing of the given halves, the choosing one first, and note it in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for half in halves:
        picked = chosen(subjects, out) if half == "report" else []
        known = record.read(out)
        tasks = [
            (one, missing)
            for one in subjects
            if one.half == half and (missing := bench.missing(one, wanted(one, picked), known.get(one.name, {})))
        ]
        tasks.sort(key=lambda task: bench.path(task[0], None).stat().st_size)  # what is quick is noted first
        for subject, rates in _carry_out(bench, tasks, processes):
            record.append(out, subject.name, rates)
            log.info("%s: %d settings", subject.name, len(rates))


def _carry_out(bench: Bench, tasks: Sequence[Task], processes: int) -> Iterator[tuple[Subject, dict[str, Rates]]]:
    if processes == 1:
        yield from ((subject, bench.rates(subject, missing)) for subject, missing in tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(bench.rates, *task): task[0] for task in tasks}
        for done in as_completed(running):
            yield running[done], done.result()
