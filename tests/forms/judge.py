"""Puts one form through a folder and lists, in words, everything that is wrong with what came out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import ModelProto, checker, numpy_helper

from onnx_clp.config import CleanConfig
from tests.forms.build import Expect, Form, Oracle
from tests.forms.graphs import affines, bodies, counts, labels
from tests.forms.run import difference, feeds, outputs
from tests.forms.structure import changes

REASON = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class LayerView(Protocol):
    @property
    def folded(self) -> tuple[str, ...]: ...


class LeftView(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def sentence(self) -> str: ...


class ReportView(Protocol):
    @property
    def layers(self) -> Sequence[LayerView]: ...
    @property
    def affines_left(self) -> Sequence[LeftView]: ...


class Outcome(Protocol):
    @property
    def model(self) -> ModelProto: ...
    @property
    def report(self) -> ReportView: ...


Folder = Callable[[Any, CleanConfig], Outcome]


def config(form: Form) -> CleanConfig:
    return CleanConfig(prune=False, validate=False, freeze_inputs=form.freeze)


def judge(form: Form, folder: Folder, folder_path: Path) -> list[str]:
    """Everything wrong with `folder` on `form`, in words; empty when it is right.

    Args:
        form: the row.
        folder: takes a model and a configuration, as `onnx_clp.clean` does.
        folder_path: an empty directory for forms with external data.
    """
    before = form.make()
    source, given = _source(form, before, folder_path)
    bytes_before = before.SerializeToString(deterministic=True)
    outcome = folder(source, given)
    after = outcome.model
    wrong = []
    if before.SerializeToString(deterministic=True) != bytes_before:
        wrong.append("the caller's model was changed")
    wrong += _invalid(before, after)
    wrong += computed_wrong(form, before, after, folder_path)
    wrong += _expected(form, before, outcome)
    wrong += _shape_of_change(form, before, after)
    if _scales_positive(before) and not _scales_positive(after):
        wrong.append("a quantisation scale is no longer positive")
    return wrong + _again(form, folder, after)


def _source(form: Form, before: ModelProto, folder_path: Path) -> tuple[ModelProto | Path, CleanConfig]:
    if not form.external:
        return before, config(form)
    copy = ModelProto()
    copy.CopyFrom(before)
    path = folder_path / "model.onnx"
    onnx.save_model(copy, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path, config(form)


def _shape_of_change(form: Form, before: ModelProto, after: ModelProto) -> list[str]:
    # External tensors may come back in memory: then only the graph around them can be compared.
    if form.external:
        return []
    stored = {i.name for i in before.graph.initializer}
    freed = frozenset(i.name for i in before.graph.input if i.name in stored) if form.freeze else frozenset()
    return changes(before, after, freed)


def _scales_positive(model: ModelProto) -> bool:
    """Whether every stored scale of a QuantizeLinear or DequantizeLinear is finite and above zero."""
    stored = {i.name: i for i in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    arrays = [numpy_helper.to_array(stored[n.input[1]]) for n in nodes if n.input[1] in stored]
    return all(bool(np.all(np.isfinite(a) & (a > 0))) for a in arrays)


def _invalid(before: ModelProto, after: ModelProto) -> list[str]:
    """What the checks say of the result, those the input fails as it came left out."""
    for full in (True, False):
        if not check(before, full=full):
            words = check(after, full=full)
            return [f"the result is invalid: {words}"] if words else []
    return []


def check(model: ModelProto, *, full: bool = True) -> str:
    """What onnx.checker says in one line, empty when it passes; `full` adds strict shape inference."""
    try:
        checker.check_model(model, full_check=full)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return " ".join(str(error).split())[:300]
    return ""


def computed_wrong(form: Form, before: ModelProto, after: ModelProto, folder_path: Path) -> list[str]:
    """Where `after` computes something else than `before` on seeded inputs."""
    if form.oracle is Oracle.NONE:
        return []
    runnable = _in_memory(after, folder_path) if form.external else after
    for feed in feeds(before):
        wanted = outputs(before, feed, form.oracle)
        try:
            got = outputs(runnable, feed, form.oracle)
        except Exception as error:  # whatever an evaluator raises means the result does not run
            return [f"the result does not run: {error}"]
        words = difference(got, wanted, form.tolerance)
        if words:
            return [f"the result computes something else: {words}"]
    return []


def _in_memory(model: ModelProto, folder_path: Path) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    onnx.external_data_helper.load_external_data_for_model(copy, str(folder_path))
    return copy


def _expected(form: Form, before: ModelProto, outcome: Outcome) -> list[str]:
    unchanged = before == outcome.model
    folded = [name for layer in outcome.report.layers for name in layer.folded]
    wrong = _left_words(outcome.report)
    if form.expect is Expect.STAYS or (form.expect is Expect.MAY and not folded):
        return wrong + _stayed(form, before, outcome, unchanged, folded)
    if not folded:
        wrong.append("the report names no folded affine")
    known = {label for body in bodies(before) for node in body.node for label in labels(node)}
    wrong += [f"the report folds {name!r}, which the model has not" for name in folded if name not in known]
    if form.expect is Expect.MAY:
        return wrong
    return wrong + _went(form, outcome)


def _stayed(form: Form, before: ModelProto, outcome: Outcome, unchanged: bool, folded: list[str]) -> list[str]:
    wrong = [f"folded {name!r}, which must stay ({form.why})" for name in folded]
    if not unchanged and not form.external and not form.freeze:
        wrong.append(f"the model changed, though nothing may be folded ({form.why})")
    if form.expect is Expect.STAYS and form.listed:
        present = {label for body in bodies(before) for node in body.node for label in labels(node)}
        listed = {left.name for left in outcome.report.affines_left}
        if not listed & present:
            wrong.append(f"the report does not list the affine left ({form.why})")
    return wrong


def _went(form: Form, outcome: Outcome) -> list[str]:
    left = counts(outcome.model)
    most = Counter((form.remain + " " + form.left).split())
    wrong = [f"{n} {op} left instead of at most {most[op]}" for op, n in left.items() if n > most[op]]
    for op, n in Counter(form.left.split()).items():
        if left[op] < n:
            wrong.append(f"a {op} went that must stay ({form.why})")
    if form.left and not outcome.report.affines_left:
        wrong.append("the report does not list the affine left")
    return wrong


def _left_words(report: ReportView) -> list[str]:
    wrong = []
    for left in report.affines_left:
        if not REASON.fullmatch(left.reason):
            wrong.append(f"the reason {left.reason!r} of {left.name!r} is no snake_case word")
        if len(left.sentence.split()) < 3:
            wrong.append(f"no sentence says why {left.name!r} stayed")
    return wrong


def _again(form: Form, folder: Folder, after: ModelProto) -> list[str]:
    if form.external:
        return []
    outcome = folder(after, config(form))
    wrong = []
    if any(layer.folded for layer in outcome.report.layers):
        wrong.append("a second run folds again")
    if outcome.model != after:
        wrong.append("a second run changes the model")
    return wrong


def bypassed(model: ModelProto) -> ModelProto | None:
    """The model with every affine replaced by Identity: what a fold that forgets the arithmetic gives.

    None where the model holds neither an affine nor a BatchNormalization.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    found = affines(copy) or [(n, 0) for n in _normalisations(copy)]
    for node, place in found:
        kept = onnx.helper.make_node("Identity", [node.input[place]], [node.output[0]], node.name, domain=node.domain)
        node.CopyFrom(kept)
    return copy if found else None


def _normalisations(model: ModelProto) -> list[onnx.NodeProto]:
    return [n for b in bodies(model) for n in b.node if n.op_type == "BatchNormalization"]
