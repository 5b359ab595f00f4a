"""Networks with channels that do nothing, and what taking them out must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper, parser

Array = NDArray[Any]
Weight = Array | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One form: the body in ONNX's text form, its weights (a shape asks for random ones), and what is to happen.

    `removed` and `kept` go by layer name, the layer's first output; `kept` are channels that do nothing and stay.
    """

    id: str
    text: str
    weights: Mapping[str, Weight]
    removed: Mapping[str, tuple[int, ...]]
    kept: Mapping[str, set[int]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    header: str = "float[2,3,8,8] x"
    result: str = "float[n,o,h,w] y"
    opset: int = 18
    tolerance: float = 1e-5
    edit: Callable[[ModelProto], None] | None = None
    imports: str = ""

    def model(self) -> ModelProto:
        """The model, built afresh."""
        text = f"""<ir_version: 9, opset_import: ["" : {self.opset}{self.imports}]>
            g ({self.header}) => ({self.result}) {{ {self.text} }}"""
        made = parser.parse_model(text)
        for name, weight in self.weights.items():
            made.graph.initializer.append(numpy_helper.from_array(filled(name, weight), name))
        if self.edit is not None:
            self.edit(made)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)

    def feeds(self) -> Iterator[dict[str, Array]]:
        """Inputs: standard normal, and the same times ten."""
        source = np.random.default_rng(7)
        for scale in (1, 10):
            feed = {}
            for value in self.model().graph.input:
                dims = value.type.tensor_type.shape.dim
                shape = [d.dim_value or (8 if at else 2) for at, d in enumerate(dims)]
                dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                feed[value.name] = (scale * source.normal(size=shape)).astype(dtype)
            yield feed


def filled(name: str, weight: Weight) -> Array:
    """The array itself, or a random one that is never zero."""
    if not isinstance(weight, tuple):
        return weight
    source = np.random.default_rng(sum(name.encode()))
    values = source.normal(size=weight)
    return (np.sign(values) * (0.1 + np.abs(values))).astype(np.float32)


def dead(name: str, shape: tuple[int, ...], channels: tuple[int, ...], axis: int = 0) -> Array:
    """Random values with the entries of some channels set to 0."""
    values = filled(name, shape).copy()
    np.moveaxis(values, axis, 0)[list(channels)] = 0
    return values


def outputs(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime makes of the model without its optimisations."""
    import onnxruntime as ort  # noqa: TID251  an oracle independent of the package under test

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def shapes(model: ModelProto) -> list[Any]:
    """Names, types and shapes of the graph's inputs and outputs."""
    return [*model.graph.input, *model.graph.output]


CHAIN = {
    "w1": dead("w1", (8, 3, 3, 3), (2, 5)),
    "b1": dead("b1", (8,), (2, 5)),
    "w2": (4, 8, 3, 3),
}
CONV1 = "[a] a = Conv<pads=[1,1,1,1]>(x, w1, b1)"


def bn(
    name: str, count: int, zero: tuple[int, ...] = (), shifts: Mapping[int, float] | None = None
) -> dict[str, Weight]:
    """Scale, shift, mean and variance of a BatchNormalization; `zero` channels have neither scale nor shift."""
    scale, shift = dead(f"{name}g", (count,), zero), dead(f"{name}b", (count,), zero)
    for channel, value in (shifts or {}).items():
        scale[channel], shift[channel] = 0, value
    return {f"{name}g": scale, f"{name}b": shift, f"{name}m": (count,), f"{name}v": np.abs(filled("v", (count,)))}


NO_BIAS = {"w1": CHAIN["w1"], "w2": CHAIN["w2"]}
HEAD = "y = Conv(r, w2)"
DEAD = {"a": (2, 5)}
STAYS: dict[str, tuple[int, ...]] = {}
FLAT = "float[2,o] y"


def keeps_zero(name: str, text: str, more: Mapping[str, Weight] | None = None, **how: Any) -> Row:
    """A chain whose middle keeps zeros at zero."""
    return Row(f"zero stays zero/{name}", f"{CONV1} {text} {HEAD}", {**CHAIN, **(more or {})}, DEAD, **how)


def moves_zero(name: str, text: str, more: Mapping[str, Weight] | None = None, **how: Any) -> Row:
    """A chain whose middle makes something else of zero."""
    reasons = {"a": how.pop("why", "constant and not zero")}
    kept = {"a": {2, 5}}
    return Row(f"zero moves/{name}", f"{CONV1} {text} {HEAD}", {**CHAIN, **(more or {})}, STAYS, kept, reasons, **how)


def vector(*values: float, shape: tuple[int, ...] = (8, 1, 1)) -> Array:
    return np.asarray(values, np.float32).reshape(shape)


CHAINS = [
    Row("chain/relu", f"{CONV1} r = Relu(a) y = Conv(r, w2)", CHAIN, DEAD),
    Row("chain/no activation", f"{CONV1} y = Conv<pads=[1,1,1,1]>(a, w2)", CHAIN, DEAD),
    Row("chain/no bias", "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)", NO_BIAS, DEAD),
    Row("chain/graph output stays", f"{CONV1} y = Relu(a)", CHAIN, {}, {"a": {2, 5}}, {"a": "output of the graph"}),
    Row("chain/nothing is zero", f"{CONV1} y = Conv(a, w2)", {**CHAIN, "w1": (8, 3, 3, 3), "b1": (8,)}, {}),
    Row("chain/zero weight, bias stays", f"{CONV1} y = Conv(a, w2)", {**CHAIN, "b1": dead("b1", (8,), (5,))},
        {"a": (5,)}, {"a": {2}}, {"a": "constant and not zero"}),
    Row("chain/a negative bias dies in Relu", f"{CONV1} r = Relu(a) y = Conv(r, w2)",
        {**CHAIN, "b1": np.asarray([1, 1, -2, 1, 1, 3, 1, 1], np.float32)}, {"a": (2,)}, {"a": {5}}),
    Row("chain/zeros go on through the next layer",
        "a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) s = Relu(b) y = Conv(s, w3)",
        {"w1": CHAIN["w1"], "w2": np.where(np.arange(4)[:, None, None, None] == 1,
                                          dead("w2", (4, 8, 1, 1), (0, 1, 3, 4, 6, 7), 1), filled("w2", (4, 8, 1, 1))),
         "w3": (3, 4, 1, 1)}, {"a": (2, 5), "b": (1,)}),
    Row("chain/what nobody reads goes too", "a = Conv(x, w1) r = Sigmoid(a) b = Conv(r, w2) s = Relu(b) y = Conv(s, w3)",
        {"w1": (8, 3, 3, 3), "w2": dead("w2", (4, 8, 1, 1), (3, 6), 1), "w3": (3, 4, 1, 1)}, {"a": (3, 6)}),
    Row("chain/what only a dead channel reads goes too",
        "a = Conv(x, w1) r = Sigmoid(a) b = Conv(r, w2) y = Conv(b, w3)",
        {"w1": (8, 3, 3, 3), "w3": dead("w3", (3, 4, 1, 1), (2,), 1),
         "w2": np.where((np.arange(8) == 4)[:, None, None] & (np.arange(4) != 2)[:, None, None, None], np.float32(0),
                        filled("w2", (4, 8, 1, 1)))}, {"a": (4,), "b": (2,)}),
    Row("chain/a layer keeps one channel", f"{CONV1} r = Relu(a) y = Conv(r, w2, b2)",
        {**CHAIN, "w1": np.zeros((8, 3, 3, 3), np.float32), "b1": np.zeros(8, np.float32), "b2": (4,)},
        {"a": (1, 2, 3, 4, 5, 6, 7)}, {"a": {0}, "y": {0, 1, 2, 3}}, {"a": "at least one channel"}),
    Row("chain/one channel is left alone", "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": np.zeros((1, 3, 3, 3), np.float32), "w2": (4, 1, 1, 1)}, {}, {"a": {0}, "y": {0, 1, 2, 3}}, {"a": "only channel"}),
    Row("chain/two consumers", f"{CONV1} r = Relu(a) b = Conv(r, w2) s = Sigmoid(b) c = Conv(r, w3) y = Add(s, c)",
        {**CHAIN, "w3": (4, 8, 3, 3)}, DEAD),
    Row("chain/one consumer sees it moved", f"{CONV1} b = Conv(a, w2) s = Sigmoid(a) c = Conv(s, w3) y = Add(b, c)",
        {**CHAIN, "w3": (4, 8, 3, 3)}, {}, {"a": {2, 5}}),
    Row("chain/a weight that two layers share", "a = Conv<pads=[1,1,1,1]>(x, w1) b = Conv<pads=[1,1,1,1]>(x, w1) "
        "s = Sigmoid(b) c = Conv(a, w2) d = Conv(s, w2) y = Add(c, d)", NO_BIAS, {"a": (2, 5)}, {"b": {2, 5}}),
    Row("chain/not a number is not zero", "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": CHAIN["w1"], "w2": (4, 8, 1, 1)}, DEAD),
    Row("chain/a 1-d convolution", "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": dead("w1", (8, 3, 3), (2, 5)), "w2": (4, 8, 3)}, DEAD, header="float[2,3,20] x", result="float[n,o,l] y"),
    Row("chain/a 3-d convolution", "a = Conv(x, w1) r = Relu(a) y = Conv(r, w2)",
        {"w1": dead("w1", (8, 3, 1, 1, 1), (2, 5)), "w2": (4, 8, 1, 1, 1)}, DEAD, header="float[2,3,3,3,3] x",
        result="float[n,o,d,h,w] y"),
    Row("chain/a nested graph reads it", f"{CONV1} c = ReduceSum<keepdims=0>(x) g = Greater(c, nil) "
        "y = If(g) <then_branch = t () => (float[n,o,h,w] p) {{ p = Identity(a) }}, "
        "else_branch = e () => (float[n,o,h,w] q) {{ q = Neg(a) }}>".replace("{{", "{").replace("}}", "}"),
        {**CHAIN, "nil": np.float32(0)}, {}, {"a": {2, 5}}, {"a": "nested graph"}),
    Row("chain/inside a nested graph", "c = ReduceSum<keepdims=0>(x) g = Greater(c, nil) "
        "y = If(g) <then_branch = t () => (float[n,o,h,w] p) { a = Conv(x, w1) p = Conv(a, w2) }, "
        "else_branch = e () => (float[n,o,h,w] q) { b = Conv(x, w1) s = Sigmoid(b) q = Conv(s, w2) }>",
        {**NO_BIAS, "nil": np.float32(0)}, {"a": (2, 5)}, {"b": {2, 5}}),
]  # fmt: skip

ACTIVATIONS = [
    keeps_zero("leaky", "r = LeakyRelu<alpha=0.2>(a)"),
    keeps_zero("clip", "r = Clip(a, low, high)", {"low": np.float32(0), "high": np.float32(6)}),
    keeps_zero("hard swish", "r = HardSwish(a)"),
    keeps_zero("tanh and abs", "t = Tanh(a) r = Abs(t)"),
    keeps_zero("elu", "r = Elu(a)"),
    keeps_zero("prelu", "r = PRelu(a, slope)", {"slope": (8, 1, 1)}),
    keeps_zero("gelu", "r = Gelu(a)", opset=20),
    keeps_zero("silu", "s = Sigmoid(a) r = Mul(a, s)"),
    keeps_zero("mish", "s = Softplus(a) t = Tanh(s) r = Mul(a, t)"),
    keeps_zero("gelu of operators", "d = Div(a, root) e = Erf(d) f = Add(e, one) g = Mul(a, f) r = Mul(g, half)",
               {"root": np.float32(1.41421), "one": np.float32(1), "half": np.float32(0.5)}),
    keeps_zero("hard swish of operators", "p = Add(a, three) c = Clip(p, nil, six) m = Mul(a, c) r = Div(m, six)",
               {"three": np.float32(3), "nil": np.float32(0), "six": np.float32(6)}),
    keeps_zero("a cap", "s = Relu(a) r = Min(s, cap)", {"cap": np.abs(filled("cap", (8, 1, 1)))}),
    keeps_zero("an affine that switches it off", "m = Mul(a, f) r = Add(m, s)",
               {"f": dead("f", (8, 1, 1), (2, 5)), "s": dead("s", (1, 8, 1, 1), (2, 5), 1)}),
    keeps_zero("a shift that ends below a Relu", "m = Add(a, s) r = Relu(m)",
               {"s": vector(1, 1, -1, 1, 1, -2, 1, 1)}),
    keeps_zero("batch normalization", "n = BatchNormalization(a, ng, nb, nm, nv) r = Relu(n)",
               bn("n", 8, shifts={2: -1.0, 5: 0.0}), tolerance=1e-4),
    keeps_zero("dropout, cast and identity", "d = Dropout(a) c = Cast<to=1>(d) r = Identity(c)"),
    keeps_zero("pooling", "p = MaxPool<kernel_shape=[2,2]>(a) "
               "r = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(p)"),
    keeps_zero("instance normalization", "n = InstanceNormalization(a, ig, ib) r = Relu(n)",
               {"ig": (8,), "ib": dead("ib", (8,), (2, 5))}),
    keeps_zero("padding beside", "r = Pad(a, pads)", {"pads": np.asarray([0, 0, 1, 2, 0, 0, 0, 1])}),
    keeps_zero("resize", "r = Resize<mode=\"nearest\">(a, roi, scales)",
               {"roi": np.zeros(0, np.float32), "scales": np.asarray([1, 1, 2, 2], np.float32)}),
    keeps_zero("resize to sizes", "r = Resize<mode=\"linear\">(a, roi, none, sizes)",
               {"roi": np.zeros(0, np.float32), "none": np.zeros(0, np.float32), "sizes": np.asarray([2, 8, 12, 12])}),
    keeps_zero("softmax beside", "s = Softmax<axis=3>(a) r = Mul(s, a)"),
    keeps_zero("a number from elsewhere", "n = ReduceMean(x) r = Mul(a, n)"),
    keeps_zero("a map from elsewhere", "n = ReduceMean<axes=[1]>(x) r = Mul(a, n)", opset=13),
    moves_zero("sigmoid", "r = Sigmoid(a)"),
    moves_zero("exp", "b = Abs(a) c = Neg(b) r = Exp(c)"),
    moves_zero("clip above zero", "r = Clip(a, low)", {"low": np.float32(0.5)}),
    moves_zero("add", "r = Add(a, s)", {"s": (8, 1, 1)}),
    moves_zero("a positive shift and Relu", "m = Add(a, s) r = Relu(m)", {"s": np.abs(filled("s", (8, 1, 1)))}),
    moves_zero("batch normalization", "r = BatchNormalization(a, ng, nb, nm, nv)", bn("n", 8), tolerance=1e-4),
    moves_zero("padding with a number", "r = Pad(a, pads, five)", {"pads": np.asarray([0, 0, 1, 2, 0, 0, 0, 1]),
               "five": np.float32(5)}, why="not zero where"),
    moves_zero("softmax over the channels", "r = Softmax<axis=1>(a)", why="all channels together"),
    moves_zero("lrn", "r = LRN<size=3>(a)", why="not followed"),
    moves_zero("layer normalization", "r = LayerNormalization<axis=1>(a, lg)", {"lg": (8, 8, 8)}, why="not followed"),
    moves_zero("an add of the input", "u = Concat<axis=1>(x, x, z) r = Add(a, u)",
               {"z": (2, 2, 8, 8)}, why="no linear layer makes"),
    moves_zero("the largest of all channels", "m = ReduceMax<axes=[1]>(a) r = Sub(a, m)", opset=13,
               why="all channels together"),
    moves_zero("training", "r, u, v = BatchNormalization<training_mode=1>(a, ng, nb, nm, nv)", bn("n", 8), why="training"),
]  # fmt: skip

IMAGE = {"c1": dead("c1", (8, 3, 1, 1), (1, 2, 5)), "c2": dead("c2", (8, 3, 1, 1), (2, 5, 6))}
TWO = "[a] a = Conv(x, c1) [b] b = Conv(x, c2)"
HALF = {"h": (4, 4, 1, 1)}
WIDE = {"wide": (4, 16, 1, 1)}


def sizes(*values: int) -> Array:
    return np.asarray(values, np.int64)


JOINS = [
    Row("join/residual: only what is dead on both branches", f"{TWO} s = Add(a, b) r = Relu(s) y = Conv(r, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)}, {"a": (2, 5), "b": (2, 5)}, {"a": {1}, "b": {6}},
        {"a": "tied to other branches'"}),
    Row("join/three residuals in a row",
        "[a] a = Conv(x, c1) ra = Relu(a) [b] b = Conv(ra, d1) s = Add(ra, b) rs = Relu(s) "
        "[c] c = Conv(rs, d2) t = Add(rs, c) rt = Relu(t) y = Conv(rt, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1), "d1": dead("d1", (8, 8, 1, 1), (2, 5)), "d2": dead("d2", (8, 8, 1, 1), (1, 2))},
        {"a": (2,), "b": (2,), "c": (2,)}, {"a": {1, 5}, "b": {5}, "c": {1}}),
    Row("join/product: what is dead on either branch", f"{TWO} s = Mul(a, b) y = Conv(s, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)}, {"a": (1, 2, 5, 6), "b": (1, 2, 5, 6)}),
    Row("join/max of both", f"{TWO} s = Max(a, b) y = Conv(s, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)}, {"a": (2, 5), "b": (2, 5)}, {"a": {1}, "b": {6}}),
    Row("join/where", f"{TWO} c = Greater(x1, nil) x1 = ReduceSum(x) s = Where(c, a, b) y = Conv(s, w2)".replace(
        "c = Greater(x1, nil) x1 = ReduceSum(x)", "x1 = ReduceSum(x) c = Greater(x1, nil)"),
        {**IMAGE, "w2": (4, 8, 1, 1), "nil": np.float32(0)}, {"a": (2, 5), "b": (2, 5)}, {"a": {1}, "b": {6}}),
    Row("join/concat", f"{TWO} s = Concat<axis=1>(a, b) r = Relu(s) y = Conv(r, wide)", {**IMAGE, **WIDE},
        {"a": (1, 2, 5), "b": (2, 5, 6)}),
    Row("join/concat with the input", "[a] a = Conv(x, c1) s = Concat<axis=-3>(x, a, x) y = Conv(s, w14)",
        {**IMAGE, "w14": (4, 14, 1, 1)}, {"a": (1, 2, 5)}),
    Row("join/concat with a constant", "[a] a = Conv(x, c1) s = Concat<axis=1>(a, k) y = Conv(s, w12)",
        {**IMAGE, "k": dead("k", (2, 4, 8, 8), (3,), 1), "w12": (4, 12, 1, 1)}, {"a": (1, 2, 5)}),
    Row("join/concat read by many norms (dense)",
        "[a] a = Conv(x, c1) s = Concat<axis=1>(x, a) n = BatchNormalization(s, ng, nb, nm, nv) r = Relu(n) "
        "[b] b = Conv(r, k1) t = Concat<axis=1>(s, b) m = BatchNormalization(t, mg, mb, mm, mv) q = Relu(m) "
        "y = Conv(q, k2)",
        {**IMAGE, **bn("n", 11, shifts={4: -1.0, 5: 1.0, 8: 1.0}), **bn("m", 15, shifts={4: 0.0, 5: 1.0, 8: 1.0, 11: 1.0}), "k1": dead("k1", (4, 11, 1, 1), (0,)),
         "k2": (4, 15, 1, 1)}, {"a": (1,)}, {"a": {2, 5}, "b": {0}}, tolerance=1e-4),
    Row("join/concat beside", f"{TWO} s = Concat<axis=2>(a, b) r = Relu(s) y = Conv(r, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1)}, {"a": (2, 5), "b": (2, 5)}, {"a": {1}, "b": {6}}),
    Row("join/squeeze and excite",
        "[a] a = Conv(x, c1) r = Relu(a) p = GlobalAveragePool(r) [e] e = Conv(p, s1, t1) q = Relu(e) "
        "[f] f = Conv(q, s2, t2) g = Sigmoid(f) m = Mul(r, g) y = Conv(m, w2)",
        {**IMAGE, "s1": dead("s1", (3, 8, 1, 1), (1,)), "t1": dead("t1", (3,), (1,)), "s2": (8, 3, 1, 1), "t2": (8,),
         "w2": (4, 8, 1, 1)}, {"a": (1, 2, 5), "e": (1,), "f": (1, 2, 5)}),
    Row("join/squeeze and excite by Gemm",
        "[a] a = Conv(x, c1) r = Relu(a) p = ReduceMean<axes=[2,3],keepdims=0>(r) "
        "[e] e = Gemm<transB=1>(p, s1, t1) q = Relu(e) [f] f = Gemm(q, s2, t2) g = HardSigmoid(f) "
        "u = Reshape(g, shape) m = Mul(r, u) y = Conv(m, w2)",
        {**IMAGE, "s1": (3, 8), "t1": (3,), "s2": (3, 8), "t2": (1, 8), "w2": (4, 8, 1, 1), "shape": sizes(-1, 8, 1, 1)},
        {"a": (1, 2, 5), "f": (1, 2, 5)}, opset=13),
    Row("join/a map for all channels", "[a] a = Conv(x, c1) [m] m = Conv(x, one) s = Sigmoid(m) g = Mul(a, s) "
        "y = Conv(g, w2)", {**IMAGE, "one": (1, 3, 1, 1), "w2": (4, 8, 1, 1)}, {"a": (1, 2, 5)}),
    Row("join/split", "[a] a = Conv(x, c1) p, q = Split<axis=1>(a, parts) s = Sigmoid(p) b = Conv(s, h) "
        "c = Conv(q, h) y = Add(b, c)", {**IMAGE, **HALF, "parts": sizes(4, 4)}, {"a": (5,)}, {"a": {1, 2}}),
    Row("join/split without sizes", "[a] a = Conv(x, c1) p, q = Split<axis=1,num_outputs=2>(a) b = Conv(p, h) "
        "c = Conv(q, h) y = Add(b, c)", {**IMAGE, **HALF}, {"a": (1, 2, 5)}),
    Row("join/split by attribute", "[a] a = Conv(x, c1) p, q = Split<axis=1,split=[3,5]>(a) b = Conv(p, h3) "
        "c = Conv(q, h5) y = Add(b, c)", {**IMAGE, "h3": (4, 3, 1, 1), "h5": (4, 5, 1, 1)}, {"a": (1, 2, 5)}, opset=11),
    Row("join/a gated unit: halves go together", "[a] a = Conv(x, c1) p, q = Split<axis=1>(a, parts) s = Sigmoid(p) "
        "g = Mul(q, s) y = Conv(g, h)", {**IMAGE, **HALF, "parts": sizes(4, 4)}, {"a": (1, 5)}, {"a": {2}}),
    Row("join/split keeps one of each part", "[a] a = Conv(x, c1) p, q = Split<axis=1>(a, parts) b = Conv(p, k2) "
        "c = Conv(q, k6) y = Add(b, c)", {"c1": dead("c1", (8, 3, 1, 1), (0, 1, 5)), "k2": (4, 2, 1, 1),
        "k6": (4, 6, 1, 1), "parts": sizes(2, 6)}, {"a": (1, 5)}, {"a": {0}, "b": {0, 1, 2, 3}}, {"a": "at least one channel"}),
    Row("join/slice", "[a] a = Conv(x, c1) p = Slice(a, i2, i6, i1) y = Conv(p, h)",
        {**IMAGE, **HALF, "i2": sizes(2), "i6": sizes(-2), "i1": sizes(1)}, {"a": (0, 1, 2, 5, 6, 7)}),
    Row("join/slices that overlap", "[a] a = Conv(x, c1) p = Slice(a, i0, i5, i1) q = Slice(a, i3, i9, i1) "
        "b = Conv(p, k5) c = Conv(q, k5) y = Add(b, c)",
        {**IMAGE, "k5": (4, 5, 1, 1), "i0": sizes(0), "i5": sizes(5), "i3": sizes(3), "i9": sizes(1 << 40),
         "i1": sizes(1)}, {"a": (1, 2, 5)}),
    Row("join/slice in steps stays", "[a] a = Conv(x, c1) p = Slice(a, i0, i9, i1, i2) y = Conv(p, h)",
        {**IMAGE, **HALF, "i0": sizes(0), "i9": sizes(8), "i1": sizes(1), "i2": sizes(2)}, {}, {"a": {1, 2, 5}},
        {"a": "in steps"}),
    Row("join/slice beside", "[a] a = Conv(x, c1) p = Slice(a, i0, i9, i1, i2) y = Conv(p, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1), "i0": sizes(0, 1), "i9": sizes(8, 7), "i1": sizes(2, -1), "i2": sizes(2, 1)},
        {"a": (1, 2, 5)}),
    Row("join/gather", "[a] a = Conv(x, c1) p = Gather<axis=1>(a, at) y = Conv(p, k5)",
        {**IMAGE, "at": sizes(7, -3, 0, 7, 1), "k5": (4, 5, 1, 1)}, {"a": (1, 2, 3, 4, 5, 6)}),
    Row("join/gather of one channel stays", "[a] a = Conv(x, c1) p = Gather<axis=1>(a, at) u = Unsqueeze(p, one) "
        "y = Conv(u, k1)", {**IMAGE, "at": np.int64(3), "one": sizes(1), "k1": (4, 1, 1, 1)}, {}, {"a": {1, 2, 5}}),
    Row("join/depth to space", "[a] a = Conv(x, c1) p = DepthToSpace<blocksize=2, mode=\"DCR\">(a) y = Conv(p, k2)",
        {"c1": dead("c1", (8, 3, 1, 1), (1, 3, 5, 7, 0)), "k2": (4, 2, 1, 1)}, {"a": (1, 3, 5, 7)}, {"a": {0}}),
    Row("join/depth to space, column first",
        "[a] a = Conv(x, c1) p = DepthToSpace<blocksize=2, mode=\"CRD\">(a) y = Conv(p, k2)",
        {"c1": dead("c1", (8, 3, 1, 1), (1, 3, 4, 5, 6, 7)), "k2": (4, 2, 1, 1)}, {"a": (4, 5, 6, 7)}, {"a": {1, 3}}),
    Row("join/space to depth", "[a] a = Conv(x, c1) p = SpaceToDepth<blocksize=2>(a) y = Conv(p, k32)",
        {**IMAGE, "k32": (4, 32, 1, 1)}, {"a": (1, 2, 5)}),
    Row("join/a difference of itself", "[a] a = Conv(x, c1) t = Transpose<perm=[0,1,3,2]>(a) s = Sub(a, t) "
        "y = Conv(s, w2)", {**IMAGE, "w2": (4, 8, 1, 1)}, {"a": (1, 2, 5)}),
    Row("join/channels along different axes stay", "[a] a = Conv(x, c1) t = Transpose<perm=[0,3,2,1]>(a) "
        "s = Add(a, t) y = Conv(s, w2)", {**IMAGE, "w2": (4, 8, 1, 1)}, {}, {"a": {1, 2, 5}}),
]  # fmt: skip

GROUPS = [
    Row("group/depthwise", f"{CONV1} r = Relu(a) [d] d = Conv<group=8>(r, k, kb) q = Relu(d) y = Conv(q, w2)",
        {**CHAIN, "k": dead("k", (8, 1, 3, 3), (4,)), "kb": dead("kb", (8,), (2, 4, 5))},
        {"a": (2, 4, 5), "d": (2, 4, 5)}),
    Row("group/depthwise with a bias stays", f"{CONV1} r = Relu(a) [d] d = Conv<group=8>(r, k, kb) y = Conv(d, w2)",
        {**CHAIN, "k": (8, 1, 3, 3), "kb": dead("kb", (8,), (2,))}, {"a": (2,), "d": (2,)}, {"a": {5}, "d": {5}},
        {"a": "makes of it stays", "d": "constant and not zero"}),
    Row("group/depthwise with two outputs a channel",
        f"{CONV1} [d] d = Conv<group=8>(a, k) y = Conv(d, wide)",
        {**CHAIN, **WIDE, "k": dead("k", (16, 1, 3, 3), (0, 1, 6))}, {"a": (0, 2, 5), "d": (0, 1, 4, 5, 10, 11)},
        {"d": {6}}),
    Row("group/whole groups go", f"{CONV1} [d] d = Conv<group=4>(a, k) y = Conv(d, w2)",
        {**CHAIN, "w1": dead("w1", (8, 3, 3, 3), (4, 5, 2)), "b1": dead("b1", (8,), (4, 5, 2)), "k": (8, 2, 3, 3)},
        {"a": (4, 5), "d": (4, 5)}, {"a": {2}}, {"a": "of one size"}),
    Row("group/one of every group goes", f"{CONV1} [d] d = Conv<group=2>(a, k) y = Conv(d, k4)",
        {**CHAIN, "w1": dead("w1", (8, 3, 3, 3), (0, 3, 6)), "b1": dead("b1", (8,), (0, 3, 6)), "k": (4, 4, 3, 3),
         "k4": (4, 4, 1, 1)}, {"a": (0, 6)}, {"a": {3}}, {"a": "of one size"}),
    Row("group/an output of every group goes", f"{CONV1} [d] d = Conv<group=2>(a, k) y = Conv(d, k6)",
        {**CHAIN, "w1": (8, 3, 3, 3), "k": dead("k", (6, 4, 3, 3), (1, 3, 4)), "k6": (4, 6, 1, 1)},
        {"d": (1, 3)}, {"d": {4}}),
    Row("group/of the input", "[a] a = Conv<group=3>(x, k) y = Conv(a, k6)",
        {"k": dead("k", (6, 1, 3, 3), (1, 2, 4)), "k6": (4, 6, 1, 1)}, {"a": (1, 2, 4)}),
    Row("group/every group would go", f"{CONV1} [d] d = Conv<group=8>(a, k) y = Conv(d, w2, b2)",
        {**CHAIN, "w1": np.zeros((8, 3, 3, 3), np.float32), "b1": np.zeros(8, np.float32), "k": (8, 1, 3, 3),
         "b2": (4,)}, {"a": (1, 2, 3, 4, 5, 6, 7), "d": (1, 2, 3, 4, 5, 6, 7)}, {"a": {0}, "d": {0}, "y": {0, 1, 2, 3}}),
    Row("transposed/plain", f"{CONV1} [d] d = ConvTranspose<strides=[2,2]>(a, k, kb) y = Conv(d, k5)",
        {**CHAIN, "k": dead("k", (8, 5, 2, 2), (1,), 1), "kb": dead("kb", (5,), (1,)), "k5": (4, 5, 1, 1)},
        {"a": (2, 5), "d": (1,)}),
    Row("transposed/depthwise", f"{CONV1} [d] d = ConvTranspose<group=8>(a, k) y = Conv(d, w2)",
        {**CHAIN, "k": (8, 1, 2, 2)}, {"a": (2, 5), "d": (2, 5)}),
    Row("transposed/grouped", f"{CONV1} [d] d = ConvTranspose<group=2>(a, k, kb) y = Conv(d, k6)",
        {**CHAIN, "k": np.stack([dead("k0", (4, 3, 2, 2), (0,), 1), dead("k1", (4, 3, 2, 2), (2,), 1)]).reshape(8, 3, 2, 2),
         "kb": dead("kb", (6,), (0, 5)), "k6": (4, 6, 1, 1)}, {"a": (2, 5), "d": (0, 5)}),
]  # fmt: skip

NHWC = "t = Transpose<perm=[0,2,3,1]>(a)"
FLATTENED = {**CHAIN, "dense": (288, 5), "bias": (5,)}
LAYOUTS = [
    Row("layout/nhwc island", f"{CONV1} {NHWC} s = Add(t, k) r = Relu(s) u = Transpose<perm=[0,3,1,2]>(r) y = Conv(u, w2)",
        {**CHAIN, "k": dead("k", (8,), (2, 5))}, DEAD),
    Row("layout/nhwc to MatMul", f"{CONV1} {NHWC} m = MatMul(t, d) y = Relu(m)", {**CHAIN, "d": (8, 5)}, DEAD),
    Row("layout/flatten", f"{CONV1} f = Flatten(a) y = Gemm(f, dense, bias)", {**CHAIN, "dense": (512, 5), "bias": (5,)},
        DEAD, result=FLAT),
    Row("layout/flatten of an open image", f"{CONV1} f = Flatten(a) r = Relu(f) y = Gemm<transB=1>(r, dense, bias)",
        {**CHAIN, "dense": (5, 512), "bias": (5,)}, DEAD, header="float[n,3,h,w] x", result=FLAT),
    Row("layout/flatten, norm, dense", f"{CONV1} f = Flatten(a) n = BatchNormalization(f, ng, nb, nm, nv) r = Relu(n) "
        "y = MatMul(r, dense)", {**CHAIN, **bn("n", 512, tuple(range(128, 192)) + tuple(range(320, 384))),
        "dense": (512, 5)}, DEAD, header="float[n,3,h,w] x", result=FLAT, tolerance=1e-4),
    Row("layout/flatten with one position moved stays", f"{CONV1} f = Flatten(a) s = Add(f, k) r = Relu(s) "
        "y = MatMul(r, dense)", {**CHAIN, "dense": (512, 5), "k": np.abs(dead("k", (512,), tuple(range(129, 512))))}, {"a": (5,)},
        {"a": {2}}, result=FLAT),
    Row("layout/nhwc flatten", f"{CONV1} {NHWC} f = Flatten(t) y = Gemm(f, dense)", {**CHAIN, "dense": (512, 5)}, DEAD,
        result=FLAT),
    Row("layout/nhwc reshape of an open image", f"{CONV1} {NHWC} f = Flatten(t) y = Gemm(f, dense)",
        {**CHAIN, "dense": (512, 5)}, DEAD, header="float[n,3,h,w] x", result=FLAT),
    Row("layout/reshape 0 -1", f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (512, 5), "s": sizes(0, -1)}, DEAD, header="float[n,3,h,w] x", result=FLAT),
    Row("layout/reshape -1 512", f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (512, 5), "s": sizes(-1, 512)}, DEAD, header="float[n,3,8,8] x", result=FLAT),
    Row("layout/reshape to one row of both images", f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (1024, 5), "s": sizes(-1, 1024)}, DEAD, result="float[1,o] y"),
    Row("layout/reshape that cuts images stays", f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (256, 5), "s": sizes(-1, 256)}, {}, {"a": {2, 5}}, {"a": "several axes, or among"},
        result="float[4,o] y"),
    Row("layout/reshape of an unknown image stays", f"{CONV1} f = Reshape(a, s) y = MatMul(f, dense)",
        {**CHAIN, "dense": (512, 5), "s": sizes(-1, 512)}, {}, {"a": {2, 5}}, {"a": "image before it is not known"},
        header="float[n,3,h,w] x", result=FLAT),
    Row("layout/tokens", f"{CONV1} f = Reshape(a, s) t = Transpose<perm=[0,2,1]>(f) m = MatMul(t, d) y = Relu(m)",
        {**CHAIN, "d": (8, 5), "s": sizes(0, 8, -1)}, DEAD, result="float[n,o,h] y"),
    Row("layout/a shuffle stays", f"{CONV1} f = Reshape(a, s) t = Transpose<perm=[0,2,1,3,4]>(f) u = Reshape(t, v) "
        "y = Conv(u, w2)", {**CHAIN, "s": sizes(2, 2, 4, 8, 8), "v": sizes(2, 8, 8, 8)}, {}, {"a": {2, 5}},
        {"a": "several axes"}),
    Row("layout/pooled, squeezed, dense", f"{CONV1} p = GlobalAveragePool(a) q = Squeeze(p, at) y = Gemm(q, d)",
        {**CHAIN, "at": sizes(-1, 2), "d": (8, 5)}, DEAD, result=FLAT),
    Row("layout/reduced, dense", f"{CONV1} p = ReduceMean<axes=[-2,-1],keepdims=0>(a) y = Gemm(p, d)",
        {**CHAIN, "d": (8, 5)}, DEAD, opset=13, result=FLAT),
    Row("layout/reduced by an input, dense", f"{CONV1} p = ReduceMax<keepdims=0>(a, at) y = Gemm(p, d)",
        {**CHAIN, "d": (8, 5), "at": sizes(2, 3)}, DEAD, result=FLAT),
    Row("layout/a sum over the channels", f"{CONV1} y = ReduceSum(a, one)", {**CHAIN, "one": sizes(1)}, DEAD),
    Row("layout/a sum over all", f"{CONV1} y = ReduceL2<keepdims=0>(a)", CHAIN, DEAD, result="float y"),
    Row("layout/a mean over the channels stays", f"{CONV1} y = ReduceMean(a, one)", {**CHAIN, "one": sizes(1)}, {},
        {"a": {2, 5}}, {"a": "all channels together"}),
    Row("layout/unsqueeze", f"{CONV1} u = Unsqueeze(a, at) r = Relu(u) v = Squeeze(r, at) y = Conv(v, w2)",
        {**CHAIN, "at": sizes(1, -1)}, DEAD),
    Row("layout/expand", f"[p] p = GlobalAveragePool(x) [a] a = Conv(p, c1) r = Relu(a) e = Expand(r, s) y = Conv(e, w2)",
        {**IMAGE, "w2": (4, 8, 1, 1), "s": sizes(2, 8, 3, 3)}, {"a": (1, 2, 5)}),
    Row("layout/dense layers", "p = Flatten(x) [a] a = Gemm(p, d1, e1) r = Relu(a) [b] b = MatMul(r, d2) s = Add(b, e2) "
        "t = Relu(s) y = Gemm<alpha=0.5,beta=2.0,transB=1>(t, d3, e3)",
        {"d1": dead("d1", (192, 6), (1, 4), 1), "e1": dead("e1", (1, 6), (1, 4), 1), "d2": dead("d2", (6, 7), (0,), 1),
         "e2": dead("e2", (7,), (0,)), "d3": (3, 7), "e3": (2, 3)}, {"a": (1, 4), "b": (0,)}, result=FLAT),
    Row("layout/a bias a row", "p = Flatten(x) [a] a = Gemm(p, d1, e1) r = Relu(a) y = MatMul(r, d2)",
        {"d1": dead("d1", (192, 6), (1, 4), 1), "e1": dead("e1", (2, 6), (1,), 1), "d2": (6, 3)}, {"a": (1,)}, {},
        result=FLAT),
    Row("layout/attention stays", f"{CONV1} f = Reshape(a, s) t = Transpose<perm=[0,2,1]>(f) y = MatMul(f, t)",
        {**CHAIN, "s": sizes(0, 8, -1)}, {}, {"a": {2, 5}}, result="float[n,o,h] y"),
]  # fmt: skip


def ints(name: str, shape: tuple[int, ...], zero: tuple[int, ...] = (), axis: int = 0, kind: type = np.int8) -> Array:
    """Random integers that are never 0 but in some channels, where they are all 0."""
    scaled = np.clip(np.rint(30 * dead(name, shape, zero, axis)), -100, 100)
    return scaled.astype(kind)


def steps(name: str, count: int) -> Array:
    return (0.01 + 0.01 * np.abs(filled(name, (count,)))).astype(np.float32)


Q1 = {
    "q1": ints("w1", (8, 3, 3, 3), (2, 5)),
    "s1": steps("s1", 8),
    "z1": np.zeros(8, np.int8),
    "qb": ints("b1", (8,), (2, 5), kind=np.int32),
    "sb": steps("s1", 8) * np.float32(0.02),
    "xs": np.float32(0.02),
    "xz": np.int8(3),
    "as": np.float32(0.05),
    "az": np.int8(-7),
    "q2": ints("w2", (4, 8, 3, 3)),
    "s2": np.float32(0.02),
    "z2": np.int8(0),
}
QDQ = (
    "xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz) w = DequantizeLinear<axis=0>(q1, s1, z1) "
    "[a] a = Conv(xd, w, b) r = Relu(a) aq = QuantizeLinear(r, as, az) ad = DequantizeLinear(aq, as, az) "
    "v = DequantizeLinear(q2, s2, z2) y = Conv(ad, v)"
)
BIAS = "b = DequantizeLinear<axis=0>(qb, sb) "
U8 = {
    "xs": np.float32(0.05),
    "xz": np.uint8(120),
    "ws": steps("s1", 8),
    "wz": np.asarray([0, 0, 5, 0, 0, -3, 0, 0], np.int8),
    "w8": np.where(np.isin(np.arange(8), [2, 5])[:, None, None, None],
                   np.asarray([0, 0, 5, 0, 0, -3, 0, 0], np.int8)[:, None, None, None], ints("w1", (8, 3, 3, 3))),
    "ys": np.float32(0.3),
    "yz": np.uint8(131),
    "b8": ints("b1", (8,), (2, 5), kind=np.int32),
    "v8": ints("w2", (4, 8, 3, 3)),
    "vs": np.float32(0.01),
    "vz": np.int8(0),
    "os": np.float32(0.5),
    "oz": np.uint8(128),
}  # fmt: skip
ROUNDED = "xq = QuantizeLinear(x, xs, xz) [a] a = QLinearConv(xq, xs, xz, w8, ws, wz, ys, yz, b8)"
LAST = "[o] o = QLinearConv(r, ys, yz, v8, vs, vz, os, oz) y = DequantizeLinear(o, os, oz)"
MS = ', "com.microsoft" : 1'
PER_ROW = {"i1": ints("d1", (192, 6), (1, 4), 1), "n1": steps("s1", 6), "e1": dead("e1", (6,), (1, 4)), "d2": (6, 3)}
QUANTISED = [
    Row("quantised/qdq", BIAS + QDQ, Q1, DEAD, tolerance=2e-2),
    Row("quantised/qdq, weights computed from integers stay",
        BIAS + QDQ.replace("[a] a = Conv(xd, w, b)", "wt = Identity(w) [a] a = Conv(xd, wt, b)"), Q1, {}, {"a": {2, 5}}),
    Row("quantised/qdq, one scale for all", QDQ.replace("<axis=0>(q1, s1, z1)", "(q1, s2, z2)").replace(", b)", ")"), Q1,
        DEAD, tolerance=2e-2),
    Row("quantised/qdq, a weight in two places", QDQ.replace("(xd, w, b)", "(xd, w)").replace(
        "y = Conv(ad, v)", "c = Conv(ad, v) e = Conv(xd, w) f = Sigmoid(e) g = Conv(f, v) y = Add(c, g)"), Q1,
        DEAD, {"e": {2, 5}}, tolerance=2e-2),
    Row("quantised/qdq of activations a channel", f"{CONV1} q = QuantizeLinear<axis=1>(a, s1, z1) "
        "r = DequantizeLinear<axis=1>(q, s1, z1) y = Conv(r, w2)", {**CHAIN, "s1": steps("s1", 8),
        "z1": ints("z1", (8,))}, DEAD, tolerance=2e-2),
    Row("quantised/qdq moves zero", f"{CONV1} q = QuantizeLinear(a, s, z) r = DequantizeLinear(q, s, t) y = Conv(r, w2)",
        {**CHAIN, "s": np.float32(0.1), "z": np.int8(3), "t": np.int8(2)}, {}, {"a": {2, 5}}, tolerance=2e-2),
    Row("quantised/qdq, depthwise", BIAS + QDQ.replace("v = Deq", "k = DequantizeLinear<axis=0>(qk, s1, z1) "
        "[d] d = Conv<group=8>(ad, k) v = Deq").replace("Conv(ad, v)", "Conv(d, v)"), {**Q1, "qk": ints("k", (8, 1, 1, 1))},
        {"a": (2, 5), "d": (2, 5)}, tolerance=2e-2),
    Row("quantised/int4 in blocks stays", f"{CONV1} {NHWC} d = DequantizeLinear<axis=0,block_size=4>(i4, sc) "
        "y = MatMul(t, d)", {**CHAIN, "i4": ints("i4", (8, 5)), "sc": np.abs(filled("sc", (2, 5)))}, {},
        {"a": {2, 5}}, {"a": "a block of channels"}, opset=21, tolerance=2e-2),
    Row("quantised/blocks along the other axis", f"{CONV1} {NHWC} d = DequantizeLinear<axis=1,block_size=2>(i4, sc) "
        "y = MatMul(t, d)", {**CHAIN, "i4": ints("i4", (8, 6)), "sc": np.abs(filled("sc", (8, 3)))}, DEAD, opset=21,
        tolerance=1e-4),
    Row("quantised/QLinearConv", f"{ROUNDED} r = MaxPool<kernel_shape=[2,2]>(a) {LAST}", U8, {"a": (2, 5)}),
    Row("quantised/QLinearConv, zero moves", f"{ROUNDED} [o] o = QLinearConv(a, ys, xz, v8, vs, vz, os, oz) "
        "y = DequantizeLinear(o, os, oz)", U8, {}, {"a": {2, 5}}),
    Row("quantised/QLinearAdd and the like",
        f"{ROUNDED} [b] b = QLinearConv(xq, xs, xz, w8, ws, wz, ys, yz, b9) "
        "s = com.microsoft.QLinearAdd(a, ys, yz, b, ys, yz, ys, yz) "
        "r = com.microsoft.QLinearLeakyRelu<alpha=0.1>(s, ys, yz, ys, yz) " + LAST,
        {**U8, "b9": np.where(np.arange(8) == 2, 500, U8["b8"]).astype(np.int32)}, {"a": (5,), "b": (5,)},
        {"a": {2}}, imports=MS),
    Row("quantised/ConvInteger",
        "xq, xsc, xzp = DynamicQuantizeLinear(x) [a] a = ConvInteger(xq, q1, xzp) f = Cast<to=1>(a) "
        "sc = Mul(xsc, ws3) m = Mul(f, sc) n = Add(m, b1) r = Relu(n) y = Conv(r, w2)",
        {**Q1, "ws3": steps("s1", 8).reshape(8, 1, 1), "b1": dead("b1", (8, 1, 1), (2, 5)), "w2": (4, 8, 1, 1)},
        DEAD, tolerance=1e-4),
    Row("quantised/a dynamic one after another",
        f"{CONV1} aq, asc, azp = DynamicQuantizeLinear(a) [i] i = ConvInteger(aq, v8, azp) f = Cast<to=1>(i) "
        "y = Mul(f, asc)", {**CHAIN, "v8": U8["v8"]}, DEAD, tolerance=1e-4),
    Row("quantised/a dynamic one of what is not zero stays",
        f"{CONV1} g = Sigmoid(a) aq, asc, azp = DynamicQuantizeLinear(g) [i] i = ConvInteger(aq, v8, azp) f = Cast<to=1>(i) "
        "y = Mul(f, asc)", {**CHAIN, "v8": ints("w2", (4, 8, 3, 3), (3,), 1)}, {}, {"a": {2, 5}}, tolerance=1e-4),
    Row("quantised/MatMulInteger", "p = Flatten(x) xq, xsc, xzp = DynamicQuantizeLinear(p) "
        "[a] a = MatMulInteger(xq, i1, xzp) f = Cast<to=1>(a) sc = Mul(xsc, n1) m = Mul(f, sc) n = Add(m, e1) "
        "r = Relu(n) y = MatMul(r, d2)", PER_ROW, {"a": (1, 4)}, result=FLAT, tolerance=1e-4),
]  # fmt: skip
FUSED = [
    Row("fused/FusedConv with Relu", "[a] a = com.microsoft.FusedConv<activation=\"Relu\">(x, w1, b1) y = Conv(a, w2)",
        {**CHAIN, "b1": np.asarray([1, 1, -2, 1, 1, 3, 1, 1], np.float32)}, {"a": (2,)}, {"a": {5}}, imports=MS),
    Row("fused/FusedConv with an addition stays", "[b] b = Conv(x, w1) [a] a = com.microsoft.FusedConv"
        "<activation=\"Relu\">(x, w1, b1, b) y = Conv(a, w2)", CHAIN, {}, {"b": {2, 5}}, {"b": "part of it"}, imports=MS),
]  # fmt: skip
ROWS = [*CHAINS, *ACTIVATIONS, *JOINS, *GROUPS, *LAYOUTS, *QUANTISED, *FUSED]
