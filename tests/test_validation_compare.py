"""Distances between outputs, the wire format, and the words of others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from onnx_clp.config import RunLimits
from onnx_clp.document.run import EvaluationReport, Finding, Rates, ValidationReport
from onnx_clp.errors import ClpError, NotValidated, UsageError, ValidationFailed
from onnx_clp.process import child, serve
from onnx_clp.process.codec import decode, encode
from onnx_clp.text import quoted
from onnx_clp.validation import Candidate, Outcome, Request, compare, worker
from onnx_clp.validation.compare import Agreement, agreements
from onnx_clp.validation.request import VALIDATION
from onnx_clp.validation.session import FailureKind, failure, flatten

NAN, INF = math.nan, math.inf


def agreement(reference: list[float], other: list[float], dtype: str = "float32") -> Agreement:
    (found,) = agreements([{"y": np.array(reference, dtype)}], [{"y": np.array(other, dtype)}])
    return found


@pytest.mark.parametrize(
    ("reference", "other", "error"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.5, -4.0], 0.125),
        ([0.0, 0.0], [0.25, 0.0], 0.25),
        ([NAN, 2.0], [NAN, 1.0], 0.5),
        ([NAN, 2.0], [1.0, 2.0], INF),
        ([1.0, 2.0], [NAN, 2.0], INF),
        ([INF, 2.0], [INF, 2.0], 0.0),
        ([INF, 2.0], [-INF, 2.0], INF),
        ([], [], 0.0),
    ],
)
def test_error_is_relative_to_the_largest_value(reference: list[float], other: list[float], error: float) -> None:
    assert agreement(reference, other).error == error


def test_worst_draw_and_largest_value_count_over_all_draws() -> None:
    reference = [{"y": np.array([1.0])}, {"y": np.array([10.0])}]
    other = [{"y": np.array([2.0])}, {"y": np.array([10.5])}]
    assert agreements(reference, other)[0].error == 0.1


@pytest.mark.parametrize(
    ("other", "dtype", "changed"),
    [
        ([1.0, 2.0], "float64", "type float32 became float64"),
        ([1.0], "float32", "shape (2,) became (1,)"),
    ],
)
def test_changed_forms_are_named(other: list[float], dtype: str, changed: str) -> None:
    (found,) = agreements([{"y": np.array([1, 2], "float32")}], [{"y": np.array(other, dtype)}])
    assert found.changed == changed
    assert compare.disagrees(found, 1e9)


def test_missing_output_disagrees() -> None:
    (found,) = agreements([{"y": np.ones(1)}], [{}])
    assert found.changed == "missing"
    assert compare.disagrees(found, 1e9)


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_discrete_outputs_have_a_share_and_no_error(dtype: str) -> None:
    found = agreement([1, 0, 1, 0], [1, 0, 0, 0], dtype)
    assert (found.error, found.equal) == (None, 0.75)


def test_strings_are_compared_as_they_are() -> None:
    values = np.array(["a", "b"], object)
    (found,) = agreements([{"y": values}], [{"y": np.array(["a", "c"], object)}])
    assert found.equal == 0.5


def test_class_scores_need_a_class_axis() -> None:
    scores = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0], [0.0, 1.0]], "float32")
    for given in (scores, scores[..., None, None]):
        found = compare.class_scores(given)
        assert found is not None
        np.testing.assert_array_equal(found, scores)
    for given in (scores[:, :1], scores.reshape(2, 2, 2), scores.astype(np.int64), scores[0]):
        assert compare.class_scores(given) is None


def test_new_non_finite_values_are_counted() -> None:
    before = np.array([1.0, NAN, 2.0])
    assert compare.turned_non_finite(before, np.array([NAN, NAN, INF])) == 2
    assert compare.turned_non_finite(before, np.array([1.0, 1.0, 1.0])) == 0
    assert compare.turned_non_finite(before, np.array([NAN, NAN])) == 1
    assert compare.turned_non_finite(np.array([1]), np.array([2])) == 0


def test_sequences_and_maps_become_arrays() -> None:
    found = flatten(["s", "m"], [[np.ones(1), np.zeros(2)], [{2: 0.5, 1: 0.25}]])
    assert {name: a.tolist() for name, a in found.items()} == {
        "s[0]": [1.0],
        "s[1]": [0.0, 0.0],
        "m[0]": [0.25, 0.5],
    }


def test_request_survives_the_wire() -> None:
    asked = Request(
        original=Path("/a"),
        folded=None,
        final=Path("/c"),
        limits=RunLimits(provider="cuda", seed=3, shapes={"x\n": (1, 2)}, timeout=1.5, memory=7, model_bytes=9),
        tolerance=0.5,
        eval_data=Path("/e"),
        output_name="y",
        candidates=(Path("/d"),),
    )
    assert decode(Request, encode(asked)) == asked
    assert decode(Request, encode(Request(original=Path("/a"), folded=None, final=None))).limits.shapes == {}


def test_outcome_survives_the_wire() -> None:
    validation = ValidationReport("validated", "auto", "p", "note", 1e-4, INF, 1.0)
    evaluation = EvaluationReport("e", 1, 2, Rates(1.0, None, 0.5), Rates(0.5, 0.0, 0.5))
    outcome = Outcome(validation, evaluation, (Finding("k", "w", "s"),), (Candidate("p", Rates(1.0, 0.0, 0.0), "f"),))
    assert decode(Outcome, encode(outcome)) == outcome
    bare = Outcome(validation, None, (), ())
    assert decode(Outcome, encode(bare)) == bare


@pytest.mark.parametrize("kind", [ValidationFailed, NotValidated, UsageError])
def test_errors_survive_the_wire(kind: type[ClpError], monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> None:
        raise kind("the words")

    monkeypatch.setattr(worker, "validate", work)
    told = serve.answer(VALIDATION, encode(Request(original=Path("/a"), folded=None, final=None)), 1 << 30)
    with pytest.raises(kind, match=r"^the words$"):
        child._understood(VALIDATION, f"tick a 1 2\n{told}\n")


def test_words_of_others_stay_on_one_bounded_line() -> None:
    assert quoted("a\nb\t c\x1b[31m\u202e") == "a b c\\x1b[31m\\u202e"
    assert quoted("x" * 1000, 10) == "x" * 9 + "…"
    said = "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/core/model.cc:256 void A::B(int, C(*)(x)) Bad thing"
    assert quoted(said) == "Bad thing"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), FailureKind.MEMORY),
        (RuntimeError("Failed to allocate memory for requested buffer of size 4"), FailureKind.MEMORY),
        (RuntimeError("std::bad_alloc"), FailureKind.MEMORY),
        (RuntimeError("9 : NOT_IMPLEMENTED : Could not find an implementation for Conv"), FailureKind.KERNEL),
        (RuntimeError("Got invalid dimensions for input"), FailureKind.REFUSED),
    ],
)
def test_failures_are_sorted_by_what_they_mean(error: Exception, kind: FailureKind) -> None:
    assert failure(error).kind is kind
