"""How strongly a channel is read: the weight of its consumers, through what stands between, or words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_clp.document.run import LayerReport
from tests.forms.build import rand
from tests.judging import Array, cleaned, network

CONV = "c = Conv<pads=[1,1,1,1]>(x, w, b) "
W2, W3 = rand(4, 12, 1, 1, seed=4), rand(6, 12, 3, 3, seed=8)
FLAT = rand(12 * 64, 7, seed=9)
POOLED = rand(12, 7, seed=10)
SCALE = np.linspace(0.5, 2, 12, dtype=np.float32).reshape(1, 12, 1, 1)
AXES = np.array([2, 3], np.int64)


def judged(body: str, rule: str, **weights: Any) -> LayerReport:
    result = cleaned(network(CONV + body, **weights), rule=rule, include=("c",))
    return next(layer for layer in result.report.layers if layer.name == "c")


def weighted(body: str, **weights: Any) -> Array:
    """What the rule multiplies the paper's scores of `c` by."""
    plain, gained = (judged(body, rule, **weights) for rule in ("paper", "gain"))
    assert gained.reason == plain.reason == ""
    return np.asarray(np.array(gained.judgements[0].scores) / np.array(plain.judgements[0].scores))


def norm(weight: Array, axis: int = 1) -> Array:
    """The l2 norm of everything that reads each channel of `axis`."""
    flat = np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], -1)
    return np.asarray(np.linalg.norm(flat, axis=1))


FORMS: dict[str, tuple[str, Array, dict[str, Any]]] = {
    "directly": ("y = Conv(c, w2)", norm(W2), {}),
    "a kernel": ("a = Relu(c) y = Conv(a, w3)", norm(W3), {}),
    "a transposed convolution": ("a = Relu(c) y = ConvTranspose(a, t)", norm(rand(12, 5, 3, 3), 0), {}),
    "depthwise": ("a = Relu(c) y = Conv<group=12>(a, d)", norm(rand(12, 1, 3, 3), 0), {}),
    "two groups": (
        "a = Relu(c) y = Conv<group=2>(a, g)",
        np.concatenate([norm(rand(4, 6, 3, 3)[:2]), norm(rand(4, 6, 3, 3)[2:])]),
        {},
    ),
    "two transposed groups": ("a = Relu(c) y = ConvTranspose<group=2>(a, t)", norm(rand(12, 5, 3, 3), 0), {}),
    "two consumers": (
        "a = Relu(c) y1 = Conv(a, w2) e = Conv(a, w3) y = GlobalMaxPool(y1) z = GlobalMaxPool(e)",
        np.hypot(norm(W2), norm(W3)),
        {"y": "float[1,4,1,1] y, float[1,6,1,1] z"},
    ),
    "a residual sum": (
        "a = Relu(c) e = Conv<pads=[1,1,1,1]>(a, q) s = Add(a, e) r = Relu(s) y = Conv(r, w2)",
        np.hypot(norm(W2), norm(rand(12, 12, 3, 3, seed=3))),
        {"q": rand(12, 12, 3, 3, seed=3)},
    ),
    "pooling and flattening": (
        "a = Relu(c) p = GlobalAveragePool(a) f = Flatten(p) y = Gemm(f, k)",
        norm(POOLED, 0),
        {},
    ),
    "a mean over positions": (
        "a = Relu(c) f = ReduceMean<keepdims=0>(a, axes) y = MatMul(f, k)",
        norm(POOLED, 0),
        {"axes": AXES},
    ),
    "flattening alone": (
        "a = Relu(c) f = Flatten(a) y = Gemm(f, flat)",
        np.linalg.norm(FLAT.astype(np.float64).reshape(12, -1), axis=1),
        {"flat": FLAT},
    ),
    "flattening channels that stand last": (
        "a = Relu(c) h = Transpose<perm=[0,2,3,1]>(a) f = Flatten(h) y = Gemm(f, flat)",
        np.sqrt((FLAT.astype(np.float64).reshape(64, 12, 7) ** 2).sum((0, 2))),
        {"flat": FLAT},
    ),
    "a choice": (
        "z = Relu(c) n = Neg(c) h = ReduceMax(x, first) go = Greater(h, zero) a = Where(go, z, n) y = Conv(a, w2)",
        norm(W2) * np.sqrt(2),
        {"first": np.array([1], np.int64), "zero": np.float32(0), "y": "float[1,4,8,8] y"},
    ),
    "a reciprocal": ("e = Exp(c) r = Reciprocal(e) y = Conv(r, w2)", norm(W2), {}),
    "squares over positions": (
        "a = Relu(c) f = ReduceSumSquare<keepdims=0>(a, axes) y = MatMul(f, k)",
        norm(POOLED, 0),
        {"axes": AXES},
    ),
    "a factor": ("a = Relu(c) m = Mul(a, s) y = Conv(m, w2)", norm(W2) * SCALE.reshape(-1), {"s": SCALE}),
    "gelu in pieces": (
        "e = Erf(c) p = Add(e, one) h = Mul(c, p) y = Conv(h, w2)",
        np.sqrt(2) * norm(W2),
        {"one": np.ones((1,), np.float32)},
    ),
    "concatenation": (
        "a = Relu(c) e = Concat<axis=1>(x, a) y = Conv(e, cat)",
        norm(rand(4, 15, 1, 1))[3:],
        {"cat": rand(4, 15, 1, 1)},
    ),
    "added channels": (
        "a = Relu(c) e = Pad(a, pads) y = Conv(e, wide)",
        norm(rand(4, 17, 1, 1, seed=7))[2:14],
        {"pads": np.array([0, 2, 0, 0, 0, 3, 0, 0], np.int64), "wide": rand(4, 17, 1, 1, seed=7)},
    ),
    "a shape taken beside": (
        "a = Relu(c) h = Shape(a) y = Conv(a, w2) z = Identity(h)",
        norm(W2),
        {"y": "float[1,4,8,8] y, int64[4] z"},
    ),
    "splitting": (
        "a = Relu(c) l, h = Split<axis=1>(a, sizes) y1 = Conv(l, wl) e = Conv(h, wh) "
        "y = GlobalMaxPool(y1) z = GlobalMaxPool(e)",
        np.r_[norm(rand(4, 5, 1, 1)), norm(rand(4, 7, 1, 1))],
        {
            "sizes": np.array([5, 7], np.int64),
            "wl": rand(4, 5, 1, 1),
            "wh": rand(4, 7, 1, 1),
            "y": "float[1,4,1,1] y, float[1,4,1,1] z",
        },
    ),
}
GIVEN: dict[str, Array] = {
    "w3": W3,
    "t": rand(12, 5, 3, 3),
    "d": rand(12, 1, 3, 3),
    "g": rand(4, 6, 3, 3),
    "k": POOLED,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_weight_is_the_norm_of_what_reads_the_channel(form: str) -> None:
    body, expected, weights = FORMS[form]
    np.testing.assert_allclose(weighted(body, **GIVEN, **weights), expected, rtol=1e-6)


def test_what_is_folded_into_the_reader_counts() -> None:
    body = "a = Relu(c) e = Conv(a, w2) m = Mul(e, s) y = Relu(m)"
    factor = np.array([1, 2, 3, 0.5], np.float32).reshape(1, 4, 1, 1)
    np.testing.assert_allclose(weighted(body, s=factor), norm(W2 * factor.reshape(4, 1, 1, 1)), rtol=1e-6)


def test_a_channel_that_is_read_much_more_stands_out_by_this_rule_alone() -> None:
    loud = W2.copy()
    loud[:, 7] *= 50
    flat = rand(12, 3, 3, 3)
    flat /= norm(flat, 0).reshape(-1, 1, 1, 1)
    given = {"w": flat, "w2": loud}
    assert judged("a = Relu(c) y = Conv(a, w2)", "paper", **given).pruned == ()
    assert judged("a = Relu(c) y = Conv(a, w2)", "gain", **given).pruned == (7,)


def test_a_channel_nobody_reads_does_not_stand_out_however_strong_it_is() -> None:
    deaf = W2.copy()
    deaf[:, 5] = 0
    assert judged("a = Relu(c) y = Conv(a, w2)", "paper").pruned == (5,)
    assert judged("a = Relu(c) y = Conv(a, w2)", "gain", w2=deaf).pruned == ()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("y = Relu(c)", "an output of its graph"),
        ("a = Relu(c) y = Softmax<axis=1>(a)", "Softmax"),
        ("a = Relu(c) y = DepthToSpace<blocksize=2>(a)", "DepthToSpace"),
    ],
)
def test_without_a_reader_the_scores_stay_the_papers_and_the_report_says_so(body: str, word: str) -> None:
    plain, gained = judged(body, "paper"), judged(body, "gain")
    assert gained.judgements[0].scores == plain.judgements[0].scores
    assert gained.pruned == plain.pruned == (5,)
    assert "no layer that reads its channels was found" in gained.reason
    assert word in gained.reason


def test_a_reader_that_cannot_be_followed_beside_one_that_can_is_named() -> None:
    body = "a = Relu(c) y = Conv(a, w2) z = Softmax<axis=1>(a)"
    found = judged(body, "gain", y="float[1,4,8,8] y, float[1,12,8,8] z")
    assert "leave out that Softmax reads its channels too" in found.reason
    assert found.judgements[0].rule == "gain"


def test_each_normalisation_that_stays_has_its_own_reader() -> None:
    """DenseNet: one convolution, two normalisations, each read by another layer."""
    from tests.test_prune_channels import statistics

    body = (
        "k = Concat<axis=1>(x, c) n = BatchNormalization(k, g, b1, m, v) r = Relu(n) e = Conv(r, w4) "
        "h = Concat<axis=1>(k, e) o = BatchNormalization(h, g2, b12, m2, v2) q = Relu(o) y = Conv(q, w5)"
    )
    given: dict[str, Any] = {"w4": rand(4, 15, 1, 1, seed=5), "w5": rand(4, 19, 1, 1, seed=6)}
    given |= statistics(15, seed=2) | statistics(19, tag="2", seed=3)
    plain, gained = judged(body, "paper", **given), judged(body, "gain", **given)
    assert len(gained.judgements) == 2
    for one, other, reader in zip(plain.judgements, gained.judgements, ("w4", "w5"), strict=True):
        np.testing.assert_allclose(np.array(other.scores) / np.array(one.scores), norm(given[reader])[3:15], rtol=1e-6)
        assert other.upper_bounds == one.upper_bounds
