"""Clean with the library, run both halves of the evaluation set through ONNX Runtime, note the rates."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

import onnx_clp
from tools.evidence import choice, record, settings
from tools.evidence.record import Rates
from tools.evidence.settings import Setting
from tools.evidence.subject import Subject
from tools.zoo import datasets, measure, result
from tools.zoo.datasets import Dataset
from tools.zoo.evalset import EvaluationSet

log = logging.getLogger(__name__)

IMAGES: dict[str, int | None] = {"choose": 2000, "report": None}
"""Test images a model is measured on, by its half; None is the whole test split."""

_SUFFIX = {"plain": result.UNFOLDED, "folded": result.FOLDED}
_BATCH = 50


class Bench:
    """Measures models of `work`, loading each data set once. `images` overrules `IMAGES`."""

    def __init__(self, work: Path, data: Path, images: int | None = None) -> None:
        self.work, self._folder, self._images = work, data, images
        self._loaded: dict[str, Dataset] = {}

    def images(self, subject: Subject) -> int:
        """How many test images a model is measured on."""
        wanted = self._images or IMAGES[subject.half]
        available = int(subject.result.rates["images"])
        return available if wanted is None else min(wanted, available)

    def missing(
        self, subject: Subject, wanted: Iterable[Setting | None], known: dict[str, Rates]
    ) -> list[Setting | None]:
        """Those of `wanted` (None: no cleaning) that are not noted with as many images."""
        count = self.images(subject)
        return [one for one in wanted if name_of(one) not in known or known[name_of(one)].images != count]

    def measure(self, subject: Subject, wanted: Sequence[Setting | None]) -> dict[str, Rates]:
        """Rates by setting. Settings that give the same bytes are run once."""
        data = subject.evaluation(self._dataset(subject), self.work, self.images(subject))
        ran: dict[str, measure.Rates] = {}
        return {name_of(setting): self._one(subject, setting, data, ran) for setting in wanted}

    def _dataset(self, subject: Subject) -> Dataset:
        name = subject.result.design.dataset
        if name not in self._loaded:
            self._loaded[name] = datasets.load(name, self._folder)
        return self._loaded[name]

    def _one(
        self, subject: Subject, setting: Setting | None, data: EvaluationSet, ran: dict[str, measure.Rates]
    ) -> Rates:
        path = self.path(subject, setting)
        if setting is None:
            return _noted(_run(path.read_bytes(), data, ran))
        done = onnx_clp.clean(path, setting.config)
        summary, caps = done.report.summary, done.report.caps
        return _noted(
            _run(done.model.SerializeToString(), data, ran),
            pruned=summary.channels_pruned,
            capped=caps.capped if caps else 0,
            verdict=summary.verdict.value,
        )

    def path(self, subject: Subject, setting: Setting | None) -> Path:
        """The file of a model that a setting takes."""
        return self.work / (subject.name + _SUFFIX["plain" if setting is None else setting.form])


def name_of(setting: Setting | None) -> str:
    """Under which name a setting is noted."""
    return settings.NONE if setting is None else setting.name


def _noted(rates: measure.Rates, *, pruned: int = 0, capped: int = 0, verdict: str = "") -> Rates:
    return Rates(rates.images, rates.acc, rates.asr, rates.ra, pruned, capped, verdict)


def _run(model: bytes, data: EvaluationSet, ran: dict[str, measure.Rates]) -> measure.Rates:
    """The rates of a model, from `ran` where the same bytes were run before."""
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


def wanted(subject: Subject, chosen: Sequence[Setting]) -> list[Setting | None]:
    """The settings a model is measured with: every one on the choosing half, the fixed and the chosen ones else."""
    if subject.half == "choose":
        return [None, *settings.TABLE]
    names = {*settings.FIXED, *(setting.name for setting in chosen)}
    return [None, *(setting for setting in settings.TABLE if setting.name in names)]


def chosen(subjects: Sequence[Subject], out: Path) -> list[Setting]:
    """The setting of each rule that what is noted in `out` chooses; rules that were not measured are left out."""
    found = record.read(out)
    picked = []
    for of_rule in settings.rules().values():
        with _unmeasured():
            picked.append(choice.choose(subjects, found, of_rule))
    return picked


@contextmanager
def _unmeasured() -> Iterator[None]:
    try:
        yield
    except onnx_clp.UsageError as error:
        log.info("%s", error)


def measure_all(bench: Bench, subjects: Sequence[Subject], out: Path, halves: Sequence[str]) -> None:
    """Measure what is missing of the given halves, the choosing one first, and note it in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for half in halves:
        picked = chosen(subjects, out) if half == "report" else []
        for subject in (one for one in subjects if one.half == half):
            missing = bench.missing(subject, wanted(subject, picked), record.read(out).get(subject.name, {}))
            if missing:
                rates = bench.measure(subject, missing)
                record.append(out, subject.name, rates)
                log.info("%s: %d settings", subject.name, len(rates))
