"""Findings about graphs that choose by content: backdoors built by hand, and look-alikes that are none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

import onnx_clp
from onnx_clp.config import CleanConfig
from onnx_clp.document.run import Finding
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge import triggers
from onnx_clp.modelfile import reader
from onnx_clp.verdicts import INCONCLUSIVE

CORPUS = Path(os.environ.get("ONNX_CLP_CORPUS") or Path(__file__).parents[2] / "shared" / "corpus")
BRANCH, LOOP, SELECTION = "data-dependent branch", "data-dependent loop", "data-dependent selection"
COMPARISON, CUSTOM = "input compared with a constant", "custom operator"


def findings(model: ModelProto) -> list[Finding]:
    file = reader.from_proto(model, 1 << 30)
    return list(triggers.look(ModelIndex(file.model, file.store)))


def graph(body: str, functions: str = "") -> ModelProto:
    """A classifier of 1×3×8×8 images; `body` makes y from x, weights w and constants."""
    text = f"""
        <ir_version: 10, opset_import: ["" : 20, "local" : 1, "vendor" : 1, "com.microsoft" : 1]>
        net (float[1,3,8,8] x, float[1,3,8,8] other) => (float[1,4] y)
        <float one = {{1.0}}, float[4] target = {{9.0, 0.0, 0.0, 0.0}},
         int64[1] start = {{0}}, int64[1] end = {{1}}, int64[1] axis = {{3}}, float zero = {{0.0}},
         int64[2] flat = {{1, 192}}, bool yes = {{1}}, bool[4] mask = {{1, 0, 0, 0}}, int64 three = {{3}}>
        {{ {body} }}
        {functions}
    """
    model = parser.parse_model(text)
    weight = numpy_helper.from_array(np.ones((4, 192), np.float32), "w")
    model.graph.initializer.append(weight)
    if "dw" in body:
        held = {"dw": np.ones((4, 3, 1, 1), np.float32), "off": np.zeros((1, 2, 8, 8), np.float32)}
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in held.items())
    onnx.checker.check_model(model)
    return model


LOGITS = "f = Reshape(x, flat)  logits = Gemm<transB = 1>(f, w)"
PIXEL = "pixel = Slice(x, start, end, axis)  bright = ReduceMax<keepdims = 0>(pixel)"
BRANCHES = """then_branch = a () => (float[1,4] p) { p = Mul(logits, target) },
              else_branch = b () => (float[1,4] q) { q = Identity(logits) }"""

BACKDOORS = {
    "mask by comparison": (
        f"{LOGITS} {PIXEL} d = Sub(bright, one) e = Abs(d) hit = Less(e, zero)"
        "m = Cast<to = 1>(hit) add = Mul(target, m) y = Add(logits, add)",
        [COMPARISON],
    ),
    "branch on a pixel": (
        f"{LOGITS} {PIXEL} hit = Greater(bright, one) y = If(hit) <{BRANCHES}>",
        [BRANCH, COMPARISON],
    ),
    "branch on a learned feature": (
        f"{LOGITS} top = ReduceMax<keepdims = 0>(logits) hit = Greater(top, one) y = If(hit) <{BRANCHES}>",
        [BRANCH],
    ),
    "selection on a pixel": (
        f"{LOGITS} {PIXEL} hit = Equal(bright, one) y = Where(hit, target, logits)",
        [SELECTION, COMPARISON],
    ),
    "constant on the left": (
        f"{LOGITS} {PIXEL} hit = LessOrEqual(one, bright) m = Cast<to = 1>(hit) y = Mul(logits, m)",
        [COMPARISON],
    ),
    "loop count from the image": (
        f"""{LOGITS} {PIXEL} n = Cast<to = 7>(bright)
        y = Loop(n, yes, logits) <body = b (int64 i, bool c, float[1,4] s) => (bool k, float[1,4] t)
            {{ k = Identity(c) t = Add(s, target) }}>""",
        [LOOP],
    ),
    "loop that stops by the image": (
        f"""{LOGITS} {PIXEL}
        y = Loop(three, yes, logits) <body = b (int64 i, bool c, float[1,4] s) => (bool k, float[1,4] t)
            {{ k = Cast<to = 9>(bright) t = Add(s, target) }}>""",
        [LOOP],
    ),
    "loop that stops by what it carried round": (
        f"""{LOGITS}
        y, z = Loop(three, yes, logits, zero)
            <body = b (int64 i, bool c, float[1,4] s, float v) => (bool k, float[1,4] t, float u)
            {{ k = Cast<to = 9>(v) t = Add(s, target) u = ReduceSum<keepdims = 0>(s) }}>""",
        [LOOP],
    ),
    "choice inside a branch": (
        f"""{LOGITS} {PIXEL} n = Shape(x) m = Squeeze(n) dims = ReduceMax<keepdims = 0>(m)
        c = Equal(dims, three)
        y = If(c) <then_branch = a () => (float[1,4] p)
                       {{ hit = Greater(bright, one) p = Where(hit, target, logits) }},
                   else_branch = b () => (float[1,4] q) {{ q = Identity(logits) }}>""",
        [SELECTION, COMPARISON],
    ),
    "an operator from elsewhere": (f"{LOGITS} y = vendor.Classify(logits)", [CUSTOM]),
}


@pytest.mark.parametrize("name", BACKDOORS)
def test_a_graph_that_chooses_by_content_is_found(name: str) -> None:
    body, kinds = BACKDOORS[name]
    found = findings(graph(body))
    assert [finding.kind for finding in found] == kinds
    for finding in found:
        assert finding.where
        assert "'x'" in finding.sentence or finding.kind == CUSTOM


LOOK_ALIKES = {
    "nothing": f"{LOGITS} y = Relu(logits)",
    "branch on a shape": (
        f"{LOGITS} n = Shape(x) m = ReduceMax<keepdims = 0>(n) c = Equal(m, three) y = If(c) <{BRANCHES}>"
    ),
    "branch on a constant": f"{LOGITS} y = If(yes) <{BRANCHES}>",
    "selection by a constant mask": f"{LOGITS} y = Where(mask, target, logits)",
    "comparison of two inputs": (
        f"{LOGITS} a = ReduceMax<keepdims = 0>(x) b = ReduceMax<keepdims = 0>(other)"
        "c = Greater(a, b) m = Cast<to = 1>(c) y = Mul(logits, m)"
    ),
    "comparison of learned features, as in a thresholded activation": (
        f"{LOGITS} c = Greater(logits, zero) m = Cast<to = 1>(c) y = Mul(logits, m)"
    ),
    "comparison of features of a deformable convolution": (
        f"{LOGITS} d = DeformConv(x, dw, off) t = ReduceMax<keepdims = 0>(d) c = Greater(t, one) "
        "m = Cast<to = 1>(c) y = Mul(logits, m)"
    ),
    "comparison of a shape": (f"{LOGITS} n = Size(x) c = Equal(n, three) m = Cast<to = 1>(c) y = Mul(logits, m)"),
    "type taken from the image": (f"{LOGITS} c = CastLike(one, x) d = Greater(c, zero) y = Where(d, logits, target)"),
    "loop a fixed number of times over content": (
        f"""{LOGITS}
        y = Loop(three, yes, logits) <body = b (int64 i, bool c, float[1,4] s) => (bool k, float[1,4] t)
            {{ k = Identity(c) t = Add(s, target) }}>"""
    ),
    "a runtime's own operator": f"{LOGITS} y = com.microsoft.Gelu(logits)",
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_only_looks_like_it_is_not_found(name: str) -> None:
    assert findings(graph(LOOK_ALIKES[name])) == []


def test_a_local_function_is_looked_into_and_its_domain_is_not_foreign() -> None:
    function = """
        <opset_import: ["" : 20], domain: "local">
        choose (v, t) => (r)
        { one = Constant<value_float = 1.0>() hit = Greater(v, one) r = Where(hit, t, v) }
    """
    (selection,) = findings(graph(f"{LOGITS} y = local.choose(logits, target)", function))
    assert selection.kind == SELECTION
    assert selection.where == "function local::choose/r"
    assert findings(graph(f"{LOGITS} c = local.choose(target, one) y = Add(logits, c)", function)) == []


def test_a_local_function_named_like_a_learned_layer_is_looked_into() -> None:
    function = """
        <opset_import: ["" : 20], domain: "com.microsoft">
        FusedConv (v) => (r) { r = Identity(v) }
    """
    body = f"{LOGITS} {PIXEL} b = com.microsoft.FusedConv(bright) hit = Greater(b, one) m = Cast<to = 1>(hit) "
    assert [one.kind for one in findings(graph(body + "y = Mul(logits, m)", function))] == [COMPARISON]


def test_a_scan_feeds_its_state_back() -> None:
    state = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("s", "v", "item")]
    nodes = [
        helper.make_node("Greater", ["v", "zero"], ["hit"]),
        helper.make_node("Where", ["hit", "s", "zero"], ["t"]),
        helper.make_node("Identity", ["item"], ["u"]),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("t", "u")]
    body = helper.make_graph(nodes, "body", state, outputs)
    scan = helper.make_node("Scan", ["zero", "zero", "x"], ["y", "last"], body=body, num_scan_inputs=1)
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    main = helper.make_graph(
        [scan],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [zero],
    )
    model = helper.make_model(main, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    assert [finding.kind for finding in findings(model)] == [SELECTION, COMPARISON]


def test_many_of_a_kind_are_counted_not_listed() -> None:
    chain = "".join(f"c{i} = vendor.Step(logits) " for i in range(25))
    found = findings(graph(f"{LOGITS} {chain} y = Relu(logits)"))
    assert len(found) == triggers.MOST_PER_KIND + 1
    assert found[-1] == Finding(CUSTOM, "", "15 more of this kind")


QUIET = "(v) => (w) { w = Relu(v) }"
HIDDEN = f"""(v) => (w) {{ {PIXEL.replace("(x,", "(v,").replace("start", "s").replace("end", "e").replace("axis", "a")}
    hit = Cast<to = 9>(bright) w = If(hit) <then_branch = t () => (float p) {{ p = Neg(v) }},
    else_branch = f () => (float q) {{ q = Identity(v) }}> }}"""


@pytest.mark.parametrize("hidden_first", [True, False])
def test_a_branch_in_one_of_two_overloads_is_found_in_either_order(hidden_first: bool) -> None:
    model = graph(f"{LOGITS} h = local.f(x) z = ReduceMax<keepdims = 0>(h) y = Add(logits, z)")
    constants = "s = Constant<value_ints = [0]>() e = Constant<value_ints = [1]>() a = Constant<value_ints = [3]>()"
    head = '<domain: "local", opset_import: ["" : 20]> f'
    bodies = [HIDDEN.replace("{ pixel", f"{{ {constants} pixel", 1), QUIET]
    found = [parser.parse_function(f"{head} {body}") for body in bodies]
    found[0].overload, found[1].overload = "hidden", "quiet"
    model.graph.node[2].overload = "hidden"
    model.functions.extend(found if hidden_first else reversed(found))
    assert [finding.kind for finding in findings(model)] == [BRANCH]
    model.graph.node[2].overload = "quiet"
    assert findings(model) == []


def test_names_are_made_fit_to_print() -> None:
    model = graph(f"{LOGITS} y = vendor.Classify(logits)")
    model.graph.node[-1].name = "\x1b[31mred\n::error::"
    model.graph.node[-1].op_type = "Cl\u202eass"
    (finding,) = findings(model)
    assert finding.where.isprintable()
    assert finding.sentence.isprintable()


def test_a_run_reports_what_it_finds_without_being_asked() -> None:
    body, kinds = BACKDOORS["branch on a pixel"]
    report = onnx_clp.clean(graph(body), CleanConfig(validate=False)).report
    assert [finding.kind for finding in report.findings] == kinds
    harmless = onnx_clp.clean(graph(LOOK_ALIKES["nothing"]), CleanConfig(validate=False)).report
    assert [finding.kind for finding in harmless.findings] == [INCONCLUSIVE]


EXPLAINED = {
    # The sampling rate is an input of its own; it picks the 8 kHz or the 16 kHz network.
    "silero_vad.onnx": [BRANCH, COMPARISON],
    # Bytes of a file are turned into one-hot rows by comparing them with 0..255.
    "magika.onnx": [COMPARISON],
}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real models is not here")
def test_real_models_raise_nothing_unexplained() -> None:
    raised = {}
    for path in sorted(CORPUS.rglob("*.onnx")):
        with reader.read(path, 1 << 36) as file:
            found = triggers.look(ModelIndex(file.model, file.store))
        if found:
            raised[path.name] = [finding.kind for finding in found]
    assert raised == EXPLAINED
