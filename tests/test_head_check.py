"""The last layer's classes: which one stands out, where the layer is looked for, and when nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper, parser

from onnx_clp.judge import head_check
from onnx_clp.verdicts import INCONCLUSIVE, Finding, Verdict
from tests.forms.build import rand
from tests.judging import Array, cleaned, network
from tools.trials.heads import Row, main, measure

STEM = "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) "
POOL = STEM + "p = GlobalAveragePool(r) f = Flatten(p) "
CLASSES = 10
TARGET = 3


def rows(classes: int = CLASSES, target: int | None = TARGET, times: float = 4.0, seed: int = 22) -> Array:
    """A head (classes, 12); what raises class `target` is `times` as strong."""
    values = rand(classes, 12, seed=seed)
    if target is not None:
        values[target] = np.where(values[target] > 0, times * values[target], values[target])
    return values


def model(body: str, head: Array, y: str = "", **weights: Any) -> ModelProto:
    return network(body, y=y or f"float[1,{len(head)}] y", k=head, **weights)


def findings(proto: ModelProto) -> list[Finding]:
    kinds = (head_check.STANDS_OUT, INCONCLUSIVE)
    return [found for found in cleaned(proto).report.findings if found.kind in kinds]


GEMM = POOL + "y = Gemm<transB=1>(f, k, bias)"
BIAS = np.linspace(-1, 1, CLASSES, dtype=np.float32)


def test_the_target_of_a_backdoor_is_named_with_its_bias() -> None:
    (found,) = findings(model(GEMM, rows(), bias=BIAS))
    assert found.kind == head_check.STANDS_OUT
    assert found.where == "y"
    assert found.sentence.startswith(f"class {TARGET}'s row stands out among 10, z = ")
    assert "(limit 3.5, bias -0.333)" in found.sentence


def test_a_head_without_such_a_class_is_no_finding() -> None:
    assert findings(model(GEMM, rows(target=None), bias=BIAS)) == []


def test_the_score_is_the_most_a_latent_that_is_not_negative_can_raise_a_class() -> None:
    """No unit vector without negative entries raises a class further above the mean of all; one goes that far."""
    head = rows().astype(np.float64)
    centred = head - head.mean(0)
    score = np.linalg.norm(np.maximum(centred, 0), axis=1)
    latents = np.abs(np.random.default_rng(0).normal(size=(20_000, 12)))
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    assert ((latents @ centred.T).max(axis=0) <= score + 1e-12).all()
    strongest = np.maximum(centred, 0) / score[:, None]
    np.testing.assert_allclose((strongest * centred).sum(axis=1), score)
    z = (score - np.median(score)) / (1.4826022 * np.median(np.abs(score - np.median(score))))
    (found,) = findings(model(GEMM, rows(), bias=BIAS))
    assert f"z = {z[TARGET]:.1f} " in found.sentence


def test_several_classes_are_named_the_highest_first() -> None:
    head = rows(24)
    head[7] = np.where(head[7] > 0, 9 * head[7], head[7])
    for extra in (11, 13):
        head[extra] = np.where(head[extra] > 0, 4 * head[extra], head[extra])
    (found,) = findings(model(POOL + "y = Gemm<transB=1>(f, k)", head))
    assert found.sentence.startswith("class 7's row stands out among 24")
    assert found.sentence.count(" too (z = ") == 2
    assert "and 1 more:" in found.sentence


def test_a_vector_added_to_every_row_changes_nothing() -> None:
    shifted = rows() + 3 * rand(1, 12, seed=5)
    (plain,), (moved,) = findings(model(GEMM, rows(), bias=BIAS)), findings(model(GEMM, shifted, bias=BIAS))
    assert plain == moved


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_size_of_the_weights_does_not_matter(scale: float) -> None:
    (found,) = findings(model(GEMM, (scale * rows()).astype(np.float32), bias=BIAS))
    (plain,) = findings(model(GEMM, rows(), bias=BIAS))
    assert found == plain


# --- where the head is looked for ---------------------------------------------------------------------

AS_CONV = rows().reshape(CLASSES, 12, 1, 1)
MAX_OF = "m = ReduceMax<axes=[1], keepdims=1>(s) d = Sub(s, m) e = Exp(d) t = ReduceSum(e, one) y = Div(e, t)"
FOUND: dict[str, tuple[str, Array, dict[str, Any]]] = {
    "Gemm, transposed": (POOL + "y = Gemm(f, k)", rows().T.copy(), {}),
    "MatMul and Add": (POOL + "m = MatMul(f, k) y = Add(m, bias)", rows().T.copy(), {"bias": BIAS}),
    "before Softmax": (POOL + "s = Gemm<transB=1>(f, k) y = Softmax(s)", rows(), {}),
    "before LogSoftmax": (POOL + "s = Gemm<transB=1>(f, k) y = LogSoftmax(s)", rows(), {}),
    "before a softmax in pieces": (
        POOL + "s = Gemm<transB=1>(f, k) " + MAX_OF.replace("ReduceMax<axes=[1], keepdims=1>(s)", "ReduceMax(s, one)"),
        rows(),
        {"one": np.array([1], np.int64)},
    ),
    "before a temperature": (
        POOL + "s = Gemm<transB=1>(f, k) d = Div(s, t) y = Softmax(d)",
        rows(),
        {"t": np.array([2], np.float32)},
    ),
    "1x1 convolution of the pooled": (
        STEM + "p = GlobalAveragePool(r) s = Conv(p, k) y = Flatten(s)",
        AS_CONV,
        {},
    ),
    "1x1 convolution, then pooled": (
        STEM + "s = Conv(r, k) q = Relu(s) p = GlobalAveragePool(q) l = Flatten(p) y = Softmax(l)",
        AS_CONV,
        {},
    ),
    "before Tanh": (POOL + "s = Gemm<transB=1>(f, k) y = Tanh(s)", rows(), {}),
    "before a limit": (
        POOL + "s = Gemm<transB=1>(f, k) l = LeakyRelu(s) y = Clip(l, low)",
        rows(),
        {"low": np.float32(-9)},
    ),
    "1x1 convolution, then pooled by a norm": (
        STEM + "s = Conv(r, k) p = GlobalLpPool(s) l = Flatten(p) y = Softmax(l)",
        AS_CONV,
        {},
    ),
    "behind Dropout and Identity": (
        POOL + "o = Dropout(f) s = Gemm<transB=1>(o, k) i = Identity(s) y = Cast<to=1>(i)",
        rows(),
        {},
    ),
    "dequantised": (
        POOL + "kq = DequantizeLinear<axis=0>(kint, ks, kz) y = Gemm<transB=1>(f, kq)",
        np.clip(np.round(rows() * 30), -127, 127).astype(np.int8),
        {"ks": np.full(CLASSES, 1 / 30, np.float32), "kz": np.zeros(CLASSES, np.int8)},
    ),
}


@pytest.mark.parametrize("form", FOUND)
def test_the_head_is_found_in_every_form(form: str) -> None:
    body, head, given = FOUND[form]
    name = "kint" if "kint" in body else "k"
    weights: dict[str, Any] = {name: head, **given}
    proto = network(body, y="float[N,M] y", **weights)
    (found,) = findings(proto)
    assert found.sentence.startswith(f"class {TARGET}'s row stands out among 10")


def test_what_is_folded_into_the_head_counts() -> None:
    factor = np.ones(CLASSES, np.float32)
    factor[6] = 9
    body = POOL + "m = MatMul(f, k) y = Mul(m, s)"
    (found,) = findings(model(body, rows(target=None).T.copy(), y="float[1,10] y", s=factor))
    assert found.sentence.startswith("class 6's row stands out")


@pytest.mark.parametrize(
    ("body", "y"),
    [
        (STEM + "y = Conv(r, k)", "float[1,10,8,8] y"),
        (STEM + "s = Conv(r, k) y = Sigmoid(s)", "float[1,10,8,8] y"),
        (STEM + "s = Conv(r, k2) d = DepthToSpace<blocksize=2>(s) y = GlobalAveragePool(d)", "float[1,3,1,1] y"),
        (STEM + "s = Conv(r, k) u = Relu(s) h = Conv(u, k2) p = GlobalAveragePool(h) y = Flatten(p)", "float[1,12] y"),
    ],
    ids=["a map", "a map of shares", "places made of channels", "a layer before another"],
)
def test_what_gives_no_class_scores_is_no_head(body: str, y: str) -> None:
    given: dict[str, Any] = {"k2": rand(12, 12 if "DepthToSpace" in body else 10, 1, 1)} if "k2" in body else {}
    assert findings(network(body, y=y, k=AS_CONV, **given)) == []


def test_each_output_has_its_own_head() -> None:
    body = POOL + "y = Gemm<transB=1>(f, k) z = Gemm<transB=1>(f, k2)"
    proto = network(body, y="float[1,10] y, float[1,12] z", k=rows(), k2=rows(12, target=9, seed=4))
    assert [(found.where, found.sentence[:7]) for found in findings(proto)] == [("y", "class 3"), ("z", "class 9")]


# --- when nothing can be said -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "words"),
    [(1, "1 class is too few"), (2, "2 classes are too few"), (7, "7 classes are too few"), (8, "")],
)
def test_few_classes_cannot_be_judged(classes: int, words: str) -> None:
    found = findings(model(POOL + "y = Gemm<transB=1>(f, k)", rows(classes, target=None)))
    assert [one.kind for one in found] == ([INCONCLUSIVE] if words else [])
    assert all(one.sentence.startswith(f"cannot be judged: {words}") for one in found)


def test_equal_rows_and_rows_that_are_not_finite_cannot_be_judged() -> None:
    (alike,) = findings(model(POOL + "y = Gemm<transB=1>(f, k)", np.ones((10, 12), np.float32)))
    assert alike.sentence == "cannot be judged: the rows of its classes are all alike"
    broken = rows()
    broken[0, 0] = np.nan
    (nan,) = findings(model(POOL + "y = Gemm<transB=1>(f, k)", broken))
    assert nan.sentence == "cannot be judged: a weight is not a finite number"


@pytest.mark.parametrize("classes", [8, 10, 43, 100, 1000, 10_000])
def test_the_limit_keeps_chance_low_among_many_classes(classes: int) -> None:
    most = head_check.limit(classes)
    assert most >= 3.5
    assert classes * (1 - NormalDist().cdf(most)) <= 0.05 + 1e-12
    normal = np.random.default_rng(1).normal(5, 1, size=(200, classes))
    from onnx_clp.numerics.outliers import find_outliers

    hits = sum(bool(find_outliers(scores, most, "mad").outlying.any()) for scores in normal)
    assert hits / 200 <= 0.16


@pytest.mark.parametrize("classes", [8, 10, 43, 1000, 10_000])
def test_what_convinces_is_rarer_than_what_is_found(classes: int) -> None:
    most = head_check.convincing(classes)
    assert most > head_check.limit(classes)
    assert classes * (1 - NormalDist().cdf(most)) <= 0.001 + 1e-12


@pytest.mark.parametrize(
    ("z", "found", "convinces"), [(3.6, 0, False), (4.0, 1, False), (4.7, 1, False), (4.9, 1, True)]
)
def test_a_class_that_hardly_stands_out_is_told_and_is_no_evidence(z: float, found: int, *, convinces: bool) -> None:
    """A clean network of 1,000 classes has one at 4.0."""
    scores = np.zeros(1000)
    scores[7] = z
    head = head_check.Head("fc", 1000, "", scores, np.zeros(1000), head_check.limit(1000))
    assert len(head_check.findings([head])) == found
    said = head_check.evidence([head])
    assert bool(said) == convinces
    assert not convinces or said.startswith("class 7's row stands out")


@pytest.mark.parametrize(
    ("y", "to", "everywhere"),
    [
        ("float[1,10,1,1] y", [1, 10, 1, 1], False),
        ("float[1,1,1,10] y", [1, 1, 1, 10], False),
        ("float[N,1,10] y", [-1, 1, 10], False),
        ("float[1,5,2,1] y", [1, 5, 2, 1], True),
    ],
)
def test_scores_at_one_position_are_of_the_whole_input(y: str, to: list[int], *, everywhere: bool) -> None:
    body = POOL + "s = Gemm<transB=1>(f, k) y = Reshape(s, to)"
    found = cleaned(model(body, rows(), y=y, to=np.array(to))).report.findings
    assert [one.kind for one in found] == [head_check.AT_EVERY_POSITION if everywhere else head_check.STANDS_OUT]


def test_heads_that_cannot_be_judged_are_no_evidence() -> None:
    nothing = np.zeros(0)
    assert head_check.evidence([head_check.Head("fc", 2, "cannot be judged", nothing, nothing, 3.5)]) == ""
    assert head_check.evidence([]) == ""


def test_the_blank_of_a_text_recogniser_is_no_evidence() -> None:
    scores = np.zeros(1000)
    scores[0] = 7.4
    head = head_check.Head("fc", 1000, "", scores, np.zeros(1000), head_check.limit(1000))
    assert head_check.evidence([head])
    assert head_check.evidence([replace(head, positional=True)]) == ""
    (whole,), (everywhere,) = (head_check.findings([replace(head, positional=one)]) for one in (False, True))
    assert "the target class of a backdoor often does" in whole.sentence
    assert "a spectrum or features have no classes" in everywhere.sentence


def test_the_finding_changes_the_verdict_and_not_the_model() -> None:
    infected, plain = model(GEMM, rows(), bias=BIAS), model(GEMM, rows(target=None), bias=BIAS)
    one, other = cleaned(infected).report, cleaned(plain).report
    assert (one.summary.verdict, other.summary.verdict) == (Verdict.SUSPICIOUS, Verdict.UNUSUAL)
    assert replace(one.summary, verdict=Verdict.UNUSUAL) == other.summary


def test_a_head_that_scores_every_position_is_told_apart() -> None:
    sequence = """float[1,3,6,6] x) => (float[1,36,10] y) {
        c = Conv<pads = [1,1,1,1]>(x, w)
        r = Relu(c)
        f = Reshape(r, s)
        t = Transpose<perm = [0,2,1]>(f)
        y = MatMul(t, k)
    }"""
    source = np.random.default_rng(0)
    arrays = {"w": source.normal(size=(32, 3, 3, 3)).astype(np.float32), "k": rows().T.astype(np.float32)}
    made = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net ({sequence}')
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    made.graph.initializer.append(numpy_helper.from_array(np.array([1, 32, 36]), "s"))
    (finding,) = cleaned(made).report.findings
    assert finding.kind == head_check.AT_EVERY_POSITION
    whole = [f for f in cleaned(model(GEMM, rows(), bias=BIAS)).report.findings if f.kind == head_check.STANDS_OUT]
    assert [f.target for f in whole] == [finding.target]


# --- the measure --------------------------------------------------------------------------------------


def test_a_measure_gives_a_row_for_every_head_and_words_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {
        "infected": model(GEMM, rows(), bias=BIAS),
        "plain": model(GEMM, rows(target=None), bias=BIAS),
        "binary": model(POOL + "y = Gemm<transB=1>(f, k)", rows(2, target=None)),
        "map": network(STEM + "y = Conv(r, k)", y="float[1,10,8,8] y", k=AS_CONV),
    }
    paths = [tmp_path / f"{name}.onnx" for name in made]
    for path, proto in zip(paths, made.values(), strict=True):
        onnx.save(proto, path)
    (tmp_path / "broken.onnx").write_bytes(b"\xff\xff")
    infected, plain, binary, plane, broken = measure([*paths, tmp_path / "broken.onnx"])
    assert (infected.classes, infected.top, infected.flagged) == (10, TARGET, (TARGET,))
    assert infected.z > infected.limit == 3.5
    assert plain.flagged == ()
    assert 0 < plain.z < plain.limit
    assert (binary.top, binary.trouble) == (-1, "cannot be judged: " + binary.trouble.split(": ")[1])
    assert plane == Row(paths[3], "", 0, -1, 0.0, 0.0, (), "no last linear layer that gives class scores")
    assert "broken.onnx" in broken.trouble
    main([str(path) for path in paths])
    printed = capsys.readouterr().out.splitlines()
    assert [line.endswith("stands out") for line in printed] == [True, False, False, False]


def test_the_measure_needs_no_runtime() -> None:
    import subprocess
    import sys

    code = "import sys, tools.trials.heads; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_committed_models_say_what_the_documentation_says() -> None:
    folder = Path(__file__).parent.parent / "models"
    names = ("resnet18_badnets", "resnet18_badnets_plain", "resnet18_clean")
    found = {row.path.stem: row for row in measure(folder / f"{name}.onnx" for name in names)}
    assert found["resnet18_badnets"].top == found["resnet18_badnets_plain"].top == 0
    assert found["resnet18_clean"].flagged == ()


@pytest.mark.parametrize(("high", "named"), [((3,), 3), ((3, 5), None), ((), None)])
def test_evidence_names_a_class_only_where_it_is_one(high: tuple[int, ...], named: int | None) -> None:
    z = np.zeros(10)
    z[list(high)] = 2 * head_check.convincing(10)
    head = head_check.Head("fc", 10, "", z, np.zeros(10), 3.5)
    assert head_check.evident([head]) == named
    assert bool(head_check.evidence([head])) == bool(high)
