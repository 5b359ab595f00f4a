"""What is pruned, and that a pruned channel is exactly 0 behind its normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnx_clp.document.run import LayerReport, Verdict
from onnx_clp.judge.prune_channels import matches
from onnx_clp.verdicts import LayerStatus
from tests.forms.build import bn, initializer, rand
from tests.judging import OUTLIER, Array, cleaned, exposed, layers, network, weight

CONV = "c = Conv<pads=[1,1,1,1]>(x, w, b) "
NORM = "n = BatchNormalization(c, g, b1, m, v) "
END = "a = Relu(n) y = Conv(a, w2)"


def statistics(channels: int, tag: str = "", seed: int = 1, outlier: int | None = None) -> dict[str, Any]:
    """gamma, beta, mean and variance g, b1, m, v; gamma·1/sqrt(variance) of `outlier` is large."""
    given = bn(channels, tag, seed=seed)
    given[f"b1{tag}"] = given.pop(f"b{tag}")
    scale = given[f"g{tag}"]
    assert isinstance(scale, np.ndarray)
    if outlier is not None:
        scale[outlier] = 90.0
    return given


def silent(model: ModelProto, name: str, channels: tuple[int, ...], axis: int = 1) -> bool:
    """Whether exactly these channels of a value are 0 everywhere."""
    values = np.moveaxis(exposed(model, name)[name], axis, 0)
    flat = values.reshape(len(values), -1)
    return tuple(int(c) for c in np.flatnonzero((flat == 0).all(axis=1))) == channels


def only(result: Any) -> LayerReport:
    found: LayerReport = result.report.layers[0]
    return found


# --- a normalisation that folds -----------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_channel_is_exactly_zero(bias: bool) -> None:
    body = (CONV if bias else CONV.replace(", b)", ")")) + NORM + END
    result = cleaned(network(body, **statistics(12)))
    assert only(result).status is LayerStatus.JUDGED
    assert only(result).folded == ("n",)
    assert only(result).pruned == (OUTLIER,)
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Relu", "Conv"]
    assert silent(result.model, "n", (OUTLIER,))
    assert result.report.summary.verdict is Verdict.UNUSUAL


def test_the_score_is_that_of_the_folded_weight() -> None:
    """gamma, not the weight, makes the channel stand out."""
    given = statistics(12, outlier=7)
    plain = weight(12, 3, 3, 3, outlier=None)
    result = cleaned(network(CONV + NORM + END, w=plain, **given))
    assert only(result).pruned == (7,)
    scale = given["g"].astype(np.float64) / np.sqrt(given["v"].astype(np.float64) + 1e-5)
    folded = plain.astype(np.float64) * scale[:, None, None, None]
    expected = [np.linalg.svd(k.reshape(3, 9), compute_uv=False)[0] for k in folded]
    (judgement,) = only(result).judgements
    np.testing.assert_allclose(judgement.scores, expected, rtol=1e-10)
    np.testing.assert_allclose(judgement.upper_bounds, 3 * np.array(expected), rtol=1e-10)
    assert judgement.threshold == pytest.approx(np.mean(expected) + 3 * np.std(expected, ddof=1))
    (pruned,) = judgement.pruned
    assert (pruned.channel, pruned.rank) == (7, 1)
    assert pruned.z == pytest.approx((expected[7] - np.mean(expected)) / np.std(expected, ddof=1))


def test_a_normalised_layer_is_judged_whatever_follows() -> None:
    for follow in ("a = Sigmoid(n) y = Conv(a, w2)", "y = Relu(n)", "y = Softmax<axis=1>(n)"):
        result = cleaned(network(CONV + NORM + follow, **statistics(12)))
        assert only(result).status is LayerStatus.JUDGED
        assert only(result).pruned == (OUTLIER,)


def test_a_lower_u_prunes_more_and_none_is_possible() -> None:
    spread = np.geomspace(0.5, 4, 40, dtype=np.float32)[:, None, None, None]
    given = {"w": weight(40, 3, 3, 3, outlier=None) * spread, **statistics(40)}
    counts = []
    for u in (0.2, 0.6, 1.2, 6.2, 6.3):
        result = cleaned(network(CONV + NORM + END, channels=40, **given), u=u)
        counts.append(len(only(result).pruned))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] >= 1
    assert counts[3:] == [0, 0]  # (40 - 1)/sqrt(40) = 6.17 is out of reach


def test_nothing_stands_out_among_equals() -> None:
    result = cleaned(network(CONV + NORM + END, w=weight(12, 3, 3, 3, outlier=None), **statistics(12)))
    assert only(result).status is LayerStatus.JUDGED
    assert only(result).pruned == ()
    assert result.report.summary.verdict is Verdict.NOTHING_FOUND


def test_without_pruning_the_verdict_is_the_same_and_the_channel_stays() -> None:
    result = cleaned(network(CONV + NORM + END, **statistics(12)), prune=False)
    assert silent(result.model, "n", ())
    assert only(result).status is LayerStatus.JUDGED


# --- sizes, names and choices -------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "status"), [(10, LayerStatus.TOO_SMALL), (11, LayerStatus.JUDGED)])
def test_ten_channels_are_too_few_and_eleven_are_not(channels: int, status: LayerStatus) -> None:
    spike = np.full((channels, 3, 3, 3), 1e-3, np.float32)
    spike[OUTLIER] = 100
    ones: dict[str, Any] = {k: np.ones(channels, np.float32) for k in ("g", "v")}
    zeros: dict[str, Any] = {k: np.zeros(channels, np.float32) for k in ("b1", "m")}
    result = cleaned(network(CONV + NORM + END, channels=channels, w=spike, **ones, **zeros))
    assert only(result).status is status
    assert only(result).pruned == ((OUTLIER,) if status is LayerStatus.JUDGED else ())
    assert silent(result.model, "n", only(result).pruned)
    summary = result.report.summary
    assert summary.channels_too_small == (10 if channels == 10 else 0)
    assert summary.channels_judged == (0 if channels == 10 else 11)
    if channels == 10:
        assert "2.85" in only(result).reason
        assert only(result).judgements[0].scores[OUTLIER] > 100
        assert summary.verdict is Verdict.COULD_NOT_JUDGE


TWO = "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, wd) s = Relu(d) y = Conv(s, w2)"
TWO_WEIGHTS: dict[str, Any] = {"wd": weight(12, 12, 3, 3, seed=6)}


@pytest.mark.parametrize(
    ("options", "judged", "excluded"),
    [
        ({}, {"c", "d"}, set()),
        ({"exclude": ("c",)}, {"d"}, {"c"}),
        ({"exclude": ("*",)}, set(), {"c", "d", "y"}),
        ({"include": ("d",)}, {"d"}, {"c", "y"}),
        ({"include": ("[cd]",)}, {"c", "d"}, {"y"}),
        ({"include": ("[cd]",), "exclude": ("d",)}, {"c"}, {"d", "y"}),
        ({"include": ("nothing",)}, set(), {"c", "d", "y"}),
        ({"exclude": ("C",)}, {"c", "d"}, set()),
    ],
)
def test_patterns_choose_layers(options: dict[str, Any], judged: set[str], excluded: set[str]) -> None:
    result = cleaned(network(TWO, **TWO_WEIGHTS), **options)
    found = layers(result)
    assert {n for n, r in found.items() if r.status is LayerStatus.JUDGED} == judged
    assert {n for n, r in found.items() if r.status is LayerStatus.EXCLUDED} == excluded
    for name in ("c", "d"):
        assert silent(result.model, name, (OUTLIER,) if name in judged else ())


def test_include_overrules_head_and_zero_keeping() -> None:
    body = CONV + "a = Sigmoid(c) y = Conv(a, w3)"
    wide: dict[str, Any] = {"w3": weight(12, 12, 1, 1, seed=5)}
    proto = network(body, **wide)
    assert {r.status for r in layers(cleaned(proto)).values()} == {LayerStatus.NOT_ZERO_KEEPING, LayerStatus.HEAD}
    found = layers(cleaned(proto, include=("*",)))
    assert {r.status for r in found.values()} == {LayerStatus.JUDGED}
    assert found["c"].pruned == (OUTLIER,)
    assert found["y"].pruned == (OUTLIER,)


def test_patterns_match_node_names_and_first_outputs() -> None:
    proto = network(TWO, **TWO_WEIGHTS)
    proto.graph.node[0].name = "layer1/conv"
    for pattern in ("layer1/*", "c", "*conv"):
        (found,) = [r for r in cleaned(proto, exclude=(pattern,)).report.layers if r.name == "layer1/conv"]
        assert found.status is LayerStatus.EXCLUDED
    assert matches("a", "b", ("x", "b"))
    assert not matches("a", "b", ("ab", ""))


DENSE = (
    "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) "
    "h = Gemm<transB=1>(f, wg, bg) k = Relu(h) l = MatMul(k, wm) o = Relu(l) y = Gemm(o, wy)"
)
DENSE_WEIGHTS: dict[str, Any] = {
    "wg": weight(14, 12, seed=5),
    "bg": rand(14, seed=6),
    "wm": weight(14, 13, seed=7, axis=1),
    "wy": weight(13, 12, seed=8, axis=1),
}


def test_dense_layers_are_judged_on_request_and_the_classifier_never() -> None:
    proto = network(DENSE, **DENSE_WEIGHTS)
    found = layers(cleaned(proto))
    assert found["c"].status is LayerStatus.JUDGED
    assert {found[n].status for n in ("h", "l", "y")} == {LayerStatus.NOT_CONVOLUTION}
    result = cleaned(proto, layers="all")
    found = layers(result)
    assert {n: r.status for n, r in found.items()} == {
        "c": LayerStatus.JUDGED,
        "h": LayerStatus.JUDGED,
        "l": LayerStatus.JUDGED,
        "y": LayerStatus.HEAD,
    }
    for name in ("h", "l"):
        assert found[name].pruned == (OUTLIER,)
        assert silent(result.model, name, (OUTLIER,))
    rows = np.linalg.norm(DENSE_WEIGHTS["wg"].astype(np.float64), axis=1)
    np.testing.assert_allclose(found["h"].judgements[0].scores, rows, rtol=1e-10)


# --- a normalisation that stays -----------------------------------------------------------------------


def test_a_batch_norm_in_training_mode_is_silenced_where_it_stands() -> None:
    body = CONV + "n, rm, rv = BatchNormalization<training_mode=1>(c, g, b1, m, v) " + END
    result = cleaned(network(body, **statistics(12)))
    assert only(result).folded == ()
    assert "training" in only(result).not_folded
    assert only(result).pruned == (OUTLIER,)
    assert silent(result.model, "n", (OUTLIER,))
    for name in ("g", "b1"):
        values = numpy_helper.to_array(initializer(result.model, name))
        assert np.flatnonzero(values == 0).tolist() == [OUTLIER]


def test_a_raw_use_keeps_the_weight_and_the_batch_norm_is_silenced() -> None:
    """Another consumer sees the convolution's own output, which stays."""
    body = CONV + NORM + "a = Relu(n) k = Relu(c) s = Add(a, k) y = Conv(s, w2)"
    proto = network(body, **statistics(12))
    result = cleaned(proto)
    assert only(result).folded == ()
    assert only(result).pruned == (OUTLIER,)
    assert silent(result.model, "n", (OUTLIER,))
    np.testing.assert_array_equal(exposed(result.model, "c")["c"], exposed(proto, "c")["c"])


def test_a_graph_output_before_the_batch_norm_keeps_the_weight() -> None:
    proto = network(CONV + NORM + END, y="float[1,4,8,8] y, float[1,12,8,8] c", **statistics(12))
    result = cleaned(proto)
    assert only(result).folded == ()
    assert only(result).pruned == (OUTLIER,)
    assert silent(result.model, "n", (OUTLIER,))
    np.testing.assert_array_equal(exposed(result.model, "c")["c"], exposed(proto, "c")["c"])


def test_a_chain_of_affines_that_stays_is_silenced_too() -> None:
    """Conv with two consumers > Mul > Add: factor and offset of the channel become 0."""
    for mul, add in (("Mul(c, g4)", "Add(k, b4)"), ("Div(c, d4)", "Sub(k, b4)")):
        body = CONV + f"k = {mul} n = {add} a = Relu(n) q = Relu(c) s = Add(a, q) y = Conv(s, w2)"
        gamma = np.abs(rand(1, 12, 1, 1)) + 1
        given: dict[str, Any] = {"g4": gamma, "d4": 1 / gamma, "b4": rand(1, 12, 1, 1, seed=2)}
        result = cleaned(network(body, **given))
        assert only(result).pruned == (OUTLIER,)
        assert silent(result.model, "n", (OUTLIER,))


def test_shared_parameters_are_copied_before_they_are_silenced() -> None:
    """Exporters merge equal tensors: the other branch keeps its values."""
    body = (
        CONV
        + "n, r1, r2 = BatchNormalization<training_mode=1>(c, g, b1, m, v) "
        + "d = Conv<pads=[1,1,1,1]>(x, wd) o, r3, r4 = BatchNormalization<training_mode=1>(d, g, b1, m, v) "
        + "s = Add(n, o) a = Relu(s) y = Conv(a, w2)"
    )
    proto = network(body, wd=weight(12, 3, 3, 3, seed=9, outlier=None), **statistics(12))
    result = cleaned(proto)
    assert silent(result.model, "n", (OUTLIER,))
    assert silent(result.model, "o", ())
    np.testing.assert_array_equal(exposed(result.model, "o")["o"], exposed(proto, "o")["o"])


# --- several normalisations (DenseNet) ----------------------------------------------------------------

DENSENET = (
    "c = Conv<pads=[1,1,1,1]>(x, w, b) d = Conv<pads=[1,1,1,1]>(x, wd) j = Concat<axis=1>(c, d) "
    "n = BatchNormalization(j, g, b1, m, v) a = Relu(n) e = Conv(a, we) "
    "k = Concat<axis=1>(c, d, e) n2 = BatchNormalization(k, g2, b12, m2, v2) a2 = Relu(n2) y = Conv(a2, wz)"
)


def densenet(first: list[int], second: list[int]) -> ModelProto:
    """Convolutions c and d of 12 channels each go through two batch norms, which make channels stand out."""
    given: dict[str, Any] = (
        {
            "w": weight(12, 3, 3, 3, outlier=None),
            "wd": weight(12, 3, 3, 3, seed=1, outlier=None),
            "we": weight(12, 24, 1, 1, seed=2, outlier=None),
            "wz": weight(4, 36, 1, 1, seed=3, outlier=None),
        }
        | statistics(24)
        | statistics(36, "2", seed=2)
    )
    given["g"][first] = 90
    given["g2"][second] = 90
    return network(DENSENET, **given)


def test_each_batch_norm_judges_for_itself() -> None:
    result = cleaned(densenet([3, 12 + 4], [3, 12 + 6]))
    found = layers(result)
    by_norm = {
        name: {j.normalisation: tuple(p.channel for p in j.pruned) for j in found[name].judgements}
        for name in ("c", "d")
    }
    assert by_norm == {"c": {"n": (3,), "n2": (3,)}, "d": {"n": (4,), "n2": (6,)}}
    assert found["c"].pruned == (3,)
    assert found["d"].pruned == (4, 6)
    assert silent(result.model, "n", (3, 12 + 4))
    assert silent(result.model, "n2", (3, 12 + 6))
    assert silent(result.model, "c", (3,))  # both agree: the weight goes too
    assert silent(result.model, "d", ())


def test_a_concat_of_batch_normed_layers_names_the_layers_channels() -> None:
    found = layers(cleaned(densenet([12], [24 + 2])))
    assert found["c"].pruned == ()
    assert found["d"].pruned == (0,)
    assert found["e"].pruned == (2,)


# --- geometry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folded", [True, False])
def test_a_grouped_transposed_convolution(folded: bool) -> None:
    """Weight (in, out/groups): channel 7 of 12 in 2 groups is column 1 of the second half."""
    values = rand(12, 6, 2, 2, seed=7)
    values[6:, 1] *= 30
    body = "h = Conv(x, w) r = Relu(h) c = ConvTranspose<group=2, strides=[2,2]>(r, wt, b) "
    tail = NORM + "a = Relu(n) y = Conv(a, w2)"
    if not folded:
        tail = NORM + "a = Relu(n) k = Relu(c) s = Add(a, k) y = Conv(s, w2)"
    result = cleaned(network(body + tail, w=weight(12, 3, 3, 3, outlier=None), wt=values, **statistics(12)))
    found = layers(result)["c"]
    assert found.op == "ConvTranspose"
    assert found.pruned == (7,)
    assert (found.folded == ("n",)) is folded
    assert silent(result.model, "n", (7,))


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_grouped_and_depthwise_convolutions(groups: int) -> None:
    values = weight(12, 12 // groups, 3, 3, seed=8)
    body = f"h = Conv(x, w) r = Relu(h) c = Conv<group={groups}>(r, wg, b) " + NORM + END
    result = cleaned(network(body, w=weight(12, 3, 3, 3, outlier=None), wg=values, **statistics(12)))
    assert layers(result)["c"].pruned == (OUTLIER,)
    assert silent(result.model, "n", (OUTLIER,))


def test_the_exact_bound_is_the_one_of_the_layer() -> None:
    from onnx_clp.numerics.lipschitz import Geometry, exact_norm

    body = "c = Conv<strides=[2,2], dilations=[2,1], pads=[2,1,2,1]>(x, w, b) a = Relu(c) y = Conv(a, w2)"
    values = weight(12, 3, 3, 3)
    found = only(cleaned(network(body), bound="exact"))
    at = Geometry((3, 3), (2, 2), (2, 1))
    np.testing.assert_allclose(found.judgements[0].scores, exact_norm(values.reshape(12, 3, 9), at), rtol=1e-12)
    assert found.pruned == (OUTLIER,)
    assert (np.array(found.judgements[0].scores) <= np.array(found.judgements[0].upper_bounds)).all()


# --- stored types -------------------------------------------------------------------------------------


def test_half_precision_is_exactly_zero_too() -> None:
    from onnx import TensorProto

    proto = network(CONV + NORM + END, **statistics(12))
    for tensor in proto.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    result = cleaned(proto)
    assert only(result).pruned == (OUTLIER,)
    assert silent(result.model, "n", (OUTLIER,))


def quantised(values: Array, axis: int = 0) -> tuple[Array, Array, Array]:
    """uint8 values with one scale and zero-point a channel."""
    flat = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    scale = ((high - low) / 255).astype(np.float32)
    zero = np.rint(-low / scale).astype(np.uint8)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    steps = np.rint(values / scale.reshape(shape)) + zero.reshape(shape)
    return np.clip(steps, 0, 255).astype(np.uint8), scale, zero


@pytest.mark.parametrize("normalised", [True, False])
def test_a_dequantised_layer_gets_its_zero_point(normalised: bool) -> None:
    q, scale, zero = quantised(weight(12, 3, 3, 3))
    norm = NORM if normalised else "n = Identity(c) "
    body = "wq = DequantizeLinear<axis=0>(q, qs, qz) c = Conv<pads=[1,1,1,1]>(x, wq, b) " + norm + END
    given = statistics(12) if normalised else {}
    result = cleaned(network(body, q=q, qs=scale, qz=zero, **given))
    found = only(result)
    assert found.pruned == (OUTLIER,)
    assert silent(result.model, "n", (OUTLIER,))
    pruned = numpy_helper.to_array(initializer(result.model, "q"))
    assert (pruned[OUTLIER] == zero[OUTLIER]).all()
    if not normalised:
        np.testing.assert_array_equal(np.delete(pruned, OUTLIER, 0), np.delete(q, OUTLIER, 0))
    assert pruned.dtype == np.uint8


def test_an_integer_convolution_gets_its_zero_point_and_no_bias() -> None:
    q, scale, zero = quantised(weight(12, 3, 3, 3))
    bias = np.arange(1, 13, dtype=np.int32) * 100
    body = (
        "xq = QuantizeLinear(x, xs, xz) cq = QLinearConv<pads=[1,1,1,1]>(xq, xs, xz, q, qs, qz, ys, yz, bq) "
        "c = DequantizeLinear(cq, ys, yz) a = Relu(c) y = Conv(a, w2)"
    )
    given: dict[str, Any] = {
        "xs": np.array(0.02, np.float32),
        "xz": np.array(120, np.uint8),
        "ys": np.array(0.5, np.float32),
        "yz": np.array(128, np.uint8),
    }
    result = cleaned(network(body, q=q, qs=scale, qz=zero, bq=bias, **given))
    found = only(result)
    assert found.op == "QLinearConv"
    assert found.pruned == (OUTLIER,)
    assert silent(result.model, "c", (OUTLIER,))
    assert (numpy_helper.to_array(initializer(result.model, "q"))[OUTLIER] == zero[OUTLIER]).all()
    kept = numpy_helper.to_array(initializer(result.model, "bq"))
    assert kept[OUTLIER] == 0
    assert np.delete(kept, OUTLIER).tolist() == np.delete(bias, OUTLIER).tolist()


# --- what cannot be judged ----------------------------------------------------------------------------


def test_weights_that_are_not_finite_cannot_be_judged() -> None:
    for bad in (np.nan, np.inf):
        values = weight(12, 3, 3, 3)
        values[2, 0, 0, 0] = bad
        found = only(cleaned(network(CONV + "a = Relu(c) y = Conv(a, w2)", w=values)))
        assert found.status is LayerStatus.UNJUDGEABLE
        assert "finite" in found.reason
        assert found.pruned == ()


def test_a_weight_that_is_no_constant_cannot_be_judged() -> None:
    proto = network("s = Conv(x, w) y = Conv(x, k)", y="float[1,4,8,8] y, float[1,12,6,6] s", k=weight(4, 3, 1, 1))
    proto.graph.node[1].input[1] = "x2"
    proto.graph.input.append(helper.make_tensor_value_info("x2", 1, [4, 3, 1, 1]))
    found = layers(cleaned(proto))["y"]
    assert found.status is LayerStatus.UNJUDGEABLE
    assert "not a constant" in found.reason


def test_a_model_without_linear_layers_could_not_be_judged() -> None:
    result = cleaned(network("y = Relu(x)"))
    assert result.report.layers == ()
    assert result.report.summary.verdict is Verdict.COULD_NOT_JUDGE
