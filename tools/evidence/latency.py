"""What caps cost a running model: the tool's output with and without them, in turn, on one thread.

Times are the thread's CPU seconds of whole batches, so that other work on the machine counts less. The un-folded
and the folded file of a model are both measured; the second has fewer normalisations left to cap.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import onnx_clp
from tools.evidence import record
from tools.evidence.measuring import session
from tools.evidence.subject import Subject
from tools.zoo import result

log = logging.getLogger(__name__)

LOG = "latency.jsonl"
BATCHES = (1, 32)
FORMS = {
    "resnet18 w16 from JAX": Path("models/resnet18_badnets.jax.onnx"),
    "resnet18 w16 from TensorFlow": Path("models/resnet18_badnets.tensorflow.onnx"),
}
"""Published files of other exporters; the folder is the repository's."""

_SECONDS = 2.0
_ROUNDS = 7

Feed = dict[str, NDArray[np.float32]]


def first_of_each(subjects: Sequence[Subject]) -> list[Subject]:
    """One model of every architecture, width and data set: their weights do not matter to the time."""
    found: dict[tuple[str, int, str], Subject] = {}
    for one in subjects:
        made = one.result.design
        found.setdefault((made.architecture, made.width, made.dataset), one)
    return list(found.values())


def measure(subjects: Sequence[Subject], work: Path, out: Path) -> None:
    """Note medians in milliseconds a batch, for one model of every kind and form that is missing."""
    done = {line["kind"] for line in record.lines(out / LOG)}
    paths = {kind(one): work / (one.name + result.UNFOLDED) for one in first_of_each(subjects)} | FORMS
    for name, path in paths.items():
        if name in done:
            continue
        line = {"kind": name, "batches": of_model(path)}
        record.write(out / LOG, [*record.lines(out / LOG), line])
        log.info("%s: %s", name, line["batches"])


def kind(subject: Subject) -> str:
    """What is the same for all models that share a row."""
    made = subject.result.design
    return f"{made.architecture}{f' w{made.width}' if made.width else ''}, {made.dataset}"


def of_model(path: Path) -> dict[str, dict[str, float]]:
    """Milliseconds by batch size: as it came, folded by the tool, and folded with caps at C = 3."""
    plain, capped = (
        onnx_clp.clean(path, onnx_clp.CleanConfig(prune=False, validate=False, bound_activations=times))
        for times in (None, 3.0)
    )
    models = {
        "input": path.read_bytes(),
        "folded": plain.model.SerializeToString(),
        "capped": capped.model.SerializeToString(),
    }
    sessions = {name: session(model) for name, model in models.items()}
    caps = capped.report.caps
    medians = {str(batch): interleaved(sessions, batch) for batch in BATCHES}
    return {batch: {**found, "caps": caps.capped if caps else 0} for batch, found in medians.items()}


def interleaved(sessions: Mapping[str, onnxruntime.InferenceSession], batch: int) -> dict[str, float]:
    """Median CPU milliseconds of one batch, the sessions taking turns."""
    some = next(iter(sessions.values())).get_inputs()[0]
    images = np.random.default_rng(0).random((batch, *some.shape[1:]), dtype=np.float32)
    feed: Feed = {some.name: images}
    repeats = max(
        1, round(_SECONDS / _ROUNDS / len(sessions) / max(_once(next(iter(sessions.values())), feed, 3), 1e-5))
    )
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(_ROUNDS + 1):
        for name, on in sessions.items():
            seconds = _once(on, feed, repeats)
            if turn:
                taken[name].append(1000 * seconds)
    return {name: round(statistics.median(found), 4) for name, found in taken.items()}


def _once(on: onnxruntime.InferenceSession, feed: Feed, repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        on.run(None, feed)
    return (time.thread_time() - start) / repeats
