"""What further steps would find in a file, and patterns that fit no layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser

from onnx_clp import CleanConfig, clean
from onnx_clp.document.run import Outlook, Report
from onnx_clp.run.patterns import UNMATCHED
from tests.batches import model as headless

QUICK = CleanConfig(validate=False)
BODY = """
    c = Conv<pads = [1,1,1,1]>(x, w)
    b = BatchNormalization(c, g, s, m, v)
    r = Relu(b)
    d = Conv<pads = [1,1,1,1]>(r, w2)
    e = BatchNormalization(d, g, s, m, v)
    t = Relu(e)
    p = GlobalAveragePool(t)
    f = Flatten(p)
    y = Gemm<transB = 1>(f, k)
"""
TWO = BODY.replace("y = Gemm", "z = Gemm") + "y = Softmax(z) a = Relu(z)"


def classifier(body: str = BODY, x: str = "float[n,3,8,8] x", y: str = "float[n,10] y", **arrays: Any) -> ModelProto:
    source = np.random.default_rng(0)
    given = {
        "w": source.normal(size=(16, 3, 3, 3)),
        "w2": source.normal(size=(16, 16, 3, 3)),
        "k": source.normal(size=(10, 16)),
        **{name: np.ones(16) for name in ("g", "s", "m", "v")},
        **arrays,
    }
    used = {name: a for name, a in given.items() if f"{name}," in body or f"{name})" in body}
    made = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net ({x}) => ({y}) {{{body}}}')
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in used.items())
    return made


def report(made: ModelProto, config: CleanConfig = QUICK) -> Report:
    with clean(made, config) as result:
        return result.report


def outlook(made: ModelProto, **options: Any) -> Outlook:
    return report(made, CleanConfig(**options)).outlook


def test_a_classifier_with_statistics_can_be_searched_and_capped() -> None:
    found = report(classifier(), CleanConfig())
    assert found.outlook == Outlook(cappable=2)
    capped = report(classifier(), CleanConfig(bound_activations=2.5, budget=1.0))
    assert capped.caps is not None
    assert capped.caps.capped == found.outlook.cappable


def test_what_nothing_may_run_cannot_be_searched() -> None:
    assert "--no-validate" in outlook(classifier(), validate=False).unsearchable


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"x": "float[n,3,h,w_] x"}, "the size of its images is open (--shape x:1,3,224,224 gives it)"),
        ({"body": TWO, "y": "float[n,10] y, float[n,10] a"}, "it has several outputs"),
        ({"body": "y = Gemm<transB = 1>(x, k)", "x": "float[n,16] x"}, "its input is no batch of images"),
        ({"k": np.ones((3, 16)), "y": "float[n,3] y"}, "3 classes are too few"),
        ({"k": np.ones((1, 16)), "y": "float[n,1] y"}, "its output is no list of class scores"),
        ({"body": BODY.replace("f = Flatten(p)", "o = Det(p) f = Flatten(p)")}, "there is no gradient rule for Det"),
    ],
)
def test_what_cannot_be_searched_says_why(changes: dict[str, Any], why: str) -> None:
    assert why in outlook(classifier(**changes), prune=False).unsearchable


def test_a_size_or_an_output_that_is_given_opens_the_search() -> None:
    assert outlook(classifier(x="float[n,3,h,w_] x"), shapes={"x": (1, 3, 8, 8)}, prune=False).unsearchable == ""
    made = classifier(TWO, y="float[n,10] y, float[n,10] a")
    assert outlook(made, output_name="y", prune=False).unsearchable == ""


def test_an_image_of_features_is_no_list_of_scores() -> None:
    assert "class scores" in outlook(headless(), prune=False).unsearchable


def test_outputs_of_this_tool_are_recognised_and_inputs_are_not() -> None:
    before = classifier()
    assert (report(before).outlook.folded, report(before).outlook.capped) == (0, 0)
    with clean(before, QUICK) as result:
        folded = result.model
    assert report(folded).outlook == Outlook(folded=2, unsearchable=report(before).outlook.unsearchable)
    with clean(before, CleanConfig(validate=False, bound_activations=2.5)) as result:
        capped = result.model
    assert report(capped).outlook.capped == 2


def test_a_pattern_that_fits_no_layer_is_said_with_the_nearest_name() -> None:
    made = classifier()
    for node, name in zip(made.graph.node, ("conv_a", "", "", "conv_b", "", "", "", "", "head"), strict=True):
        node.name = name
    config = CleanConfig(validate=False, include=("conv_*", "con_a"), exclude=("nothing*",))
    found = [one for one in report(made, config).findings if one.kind == UNMATCHED]
    assert [(one.where, one.sentence) for one in found] == [
        ("--include con_a", "no layer has such a name; the nearest is 'conv_a'"),
        ("--exclude nothing*", "no layer has such a name"),
    ]
    fitting = CleanConfig(validate=False, include=("conv_?",), exclude=("head",))
    assert not any(one.kind == UNMATCHED for one in report(made, fitting).findings)
