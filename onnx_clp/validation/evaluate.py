"""ACC, ASR and RA of a classifier on labelled images.

ACC  share of clean images given their true class
ASR  share of triggered images given the target class, images whose true class is the target left out
RA   share of triggered images given their true class
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_clp.document.validation import Rates
from onnx_clp.errors import UsageError
from onnx_clp.text import quoted
from onnx_clp.validation.anatomy import Anatomy, InputSpec
from onnx_clp.validation.compare import class_scores
from onnx_clp.validation.evaldata import EvalData
from onnx_clp.validation.inputs import shown
from onnx_clp.validation.session import Array, FailureKind, Outputs, RunError, Runner

BATCH = 64
_NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class Exam:
    """Images fitted to a model: the one input they go to, the batch sizes to try, the output to read."""

    data: EvalData
    input: str
    dtype: np.dtype[Any]
    batches: tuple[int, ...]
    output: str | None


def prepare(data: EvalData, anatomy: Anatomy, output: str | None) -> Exam:
    """Fit `data` to the model.

    Raises:
        UsageError: the model does not take one batch of such images.
    """
    if len(anatomy.inputs) != 1:
        names = ", ".join(quoted(s.name, 40) for s in anatomy.inputs) or "none"
        raise UsageError(f"--eval {quoted(data.path)}: needs a model with one input, this one has: {names}")
    spec = anatomy.inputs[0]
    if spec.elem_type == 0:
        raise UsageError(f"--eval {quoted(data.path)}: the model's input is not a tensor")
    dtype = np.dtype(tensor_dtype_to_np_dtype(spec.elem_type))
    if dtype.kind in "iu" and data.x_clean.dtype.kind == "f":
        raise UsageError(f"--eval {quoted(data.path)}: x_clean holds fractions, the model takes {dtype}")
    return Exam(data, spec.name, dtype, _batch_sizes(data, spec), output)


def _batch_sizes(data: EvalData, spec: InputSpec) -> tuple[int, ...]:
    shape, image = spec.shape, data.x_clean.shape[1:]
    if shape is None:
        return (BATCH, 1)
    fits = len(shape) == len(image) + 1 and all(
        not isinstance(d, int) or d == i for d, i in zip(shape[1:], image, strict=True)
    )
    if not fits:
        raise UsageError(
            f"--eval {quoted(data.path)}: x_clean has images of shape {shown(image)}, "
            f"the model's input {quoted(spec.name, 40)} takes {shown(shape)}"
        )
    first = shape[0]
    return (first,) if isinstance(first, int) and first > 0 else (BATCH, 1)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The class given to each clean (n,) and triggered (m,) image; -1 where its scores are not finite."""

    clean: Array
    triggered: Array


def predict(runner: Runner, exam: Exam) -> Predictions:
    """Run `runner` over all of `exam`'s images.

    Raises:
        RunError: it cannot run them.
        UsageError: no output holds class scores, or a label is no class of the model.
    """
    for size in exam.batches:
        try:
            return Predictions(*(_classes(runner, exam, x, size) for x in (exam.data.x_clean, exam.data.x_triggered)))
        except RunError as failure:
            if failure.kind is not FailureKind.REFUSED or size == exam.batches[-1]:
                raise
    raise AssertionError("an exam has at least one batch size")


def _classes(runner: Runner, exam: Exam, images: Array, size: int) -> Array:
    found = [np.empty(0, np.int64)]
    for batch in exam.data.batches(images, size, exam.dtype):
        scores = _scores(runner.run({exam.input: batch}), exam, size)
        top = scores.argmax(axis=1)
        found.append(np.where(np.isfinite(scores).all(axis=1), top, _NO_CLASS))
    return np.concatenate(found)[: len(images)]


def _scores(outputs: Outputs, exam: Exam, size: int) -> Array:
    names = list(outputs) if exam.output is None else [exam.output]
    for name in names:
        scores = class_scores(outputs[name]) if name in outputs else None
        if scores is not None and len(scores) == size:
            _check_labels(exam.data, scores.shape[1])
            return scores
    chosen = "no output" if exam.output is None else f"--output {quoted(exam.output, 60)}: it"
    found = ", ".join(f"{quoted(n, 40)} {a.dtype}[{shown(a.shape)}]" for n, a in outputs.items())
    raise UsageError(
        f"--eval {quoted(exam.data.path)}: {chosen} holds float scores of shape (images, classes); "
        f"the model gives {found} for {size} images"
        if exam.output is None
        else f"{chosen} does not hold float scores of shape (images, classes); the model gives {found}"
    )


def _check_labels(data: EvalData, classes: int) -> None:
    for name, labels in (
        ("y_clean", data.y_clean),
        ("y_target", data.y_target),
        ("y_true_triggered", data.y_true),
    ):
        if labels.size and labels.max() >= classes:
            raise UsageError(
                f"--eval {quoted(data.path)}: {name} holds the class {labels.max()}, "
                f"the model has {classes} (0 to {classes - 1})"
            )


def rates(data: EvalData, predictions: Predictions) -> Rates:
    """The shares; without triggered images ASR and RA are None, ASR also if all of them are of the target class."""
    mean: Callable[[Array], float] = lambda hits: float(np.mean(hits))  # noqa: E731
    elsewhere = data.y_true != data.y_target
    return Rates(
        acc=mean(predictions.clean == data.y_clean),
        asr=mean((predictions.triggered == data.y_target)[elsewhere]) if elsewhere.any() else None,
        ra=mean(predictions.triggered == data.y_true) if elsewhere.size else None,
    )
