"""Names that repeat, are missing or clash, and everything a file says beside its computation."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto, helper

from tests.forms.build import (
    Edit,
    Form,
    Recipe,
    Weight,
    bn,
    folds,
    initializer,
    model,
    positive,
    rand,
    reference,
    stays,
)

W = (4, 3, 3, 3)
BODY = "c = Conv(x, W) y = BatchNormalization(c, g, b, m, v)"
TWO = "float y, float z"
# Names a folder could want for a constant it makes, all taken already by somebody else.
TAKEN = (
    "W_bias",
    "W.bias",
    "conv.bias",
    "conv_bias",
    "c_bias",
    "c.bias",
    "y_bias",
    "y.bias",
    "bias",
    "W_folded",
    "W.folded",
    "W_fold",
    "c_folded",
    "weight_folded",
    "bias_folded",
    "W_1",
    "W_0",
    "W_2",
    "W_new",
    "W_fused",
    "W_copy",
    "W_bn",
    "c_weight",
    "y_weight",
    "folded_0",
    "onnx_clp_0",
    "onnx_clp_bias_0",
)


def rows() -> Iterator[Form]:
    yield from _node_names()
    yield from _odd_names()
    yield from _clashes()
    yield from _documents()


def _node_names() -> Iterator[Form]:
    names = {
        "one-empty": "c = Conv(x, W) [bn] y = BatchNormalization(c, g, b, m, v)",
        "given": "[conv] c = Conv(x, W) [bn] y = BatchNormalization(c, g, b, m, v)",
        "duplicate": "[n] c = Conv(x, W) [n] y = BatchNormalization(c, g, b, m, v)",
        "like-tensors": "[y] c = Conv(x, W) [W] y = BatchNormalization(c, g, b, m, v)",
        "swapped-with-tensors": "[c] c = Conv(x, W) [c] y = BatchNormalization(c, g, b, m, v)",
    }
    for name, body in names.items():
        form = folds(f"names/nodes-{name}", model(body, W=W, **bn(4)))
        # ONNX Runtime refuses repeated node names, though ONNX allows them.
        yield reference(form) if name in ("duplicate", "swapped-with-tensors") else form
    four = "[n] a = Conv(x, W) [n] c = BatchNormalization(a, g, b, m, v) [n] r = Relu(c) "
    four += "[n] d = Conv(r, V) [n] y = BatchNormalization(d, b, g, m, v)"
    yield reference(folds("names/nodes-all-the-same", model(four, W=W, V=rand(4, 4, 2, 2), **bn(4))))
    same = "[n] c = Conv(x, W) [n] r = Relu(c) [n] y = BatchNormalization(r, g, b, m, v)"
    yield reference(stays("names/nodes-same-Relu-between", "not_linear", model(same, W=W, **bn(4))))


def _odd_names() -> Iterator[Form]:
    """Tensor names as files hold them: paths, colons, spaces, other scripts."""
    plain = bn(4)
    for kind, pattern in (
        ("paths", "/model/layer.0/{}"),
        ("tensorflow", "import/block/{}/ReadVariableOp:0"),
        ("spaces", "a tensor called {}"),
        ("unicode", "层/{}·ß"),
        ("emoji", "🙂{}"),
        ("combining", "e\u0301{}"),
        ("numbers", "12{}"),
        ("dots", "..{}"),
        ("long", "n" * 300 + "{}"),
    ):
        names = {n: pattern.format(n) for n in "Wgbmvc"}
        q = {n: f'"{t}"' for n, t in names.items()}
        body = f'["{pattern.format("node")}"] {q["c"]} = Conv(x, {q["W"]}) '
        body += f"y = BatchNormalization({q['c']}, {q['g']}, {q['b']}, {q['m']}, {q['v']})"
        weights: dict[str, Weight] = {names["W"]: W, **{names[n]: plain[n] for n in "gbmv"}}
        yield folds(f"names/tensors-{kind}", model(body, **weights))
    ends = 'c = Conv("in put", W) "out/put:0" = BatchNormalization(c, g, b, m, v)'
    recipe = model(ends, x='float[2,3,6,6] "in put"', y='float "out/put:0"', W=W, **bn(4))
    yield folds("names/inputs-and-outputs", recipe)


def _clashes() -> Iterator[Form]:
    for taken in TAKEN:
        # The clashing initializer is read by another node, and shaped so that taking it over would show.
        body = f'{BODY} z = Mul(x, "{taken}")'
        recipe = model(body, y=TWO, W=W, **{taken: positive(1)}, **bn(4))
        yield folds(f"names/taken-{taken}", recipe, remain="Mul")
    all_of_them = "".join(f'z{i} = Mul(z{i - 1}, "{t}") ' for i, t in enumerate(TAKEN, 1)).replace("z0", "x")
    last = f"z{len(TAKEN)}"
    weights = {t: positive(1, seed=i) for i, t in enumerate(TAKEN)}
    recipe = model(f"{BODY} {all_of_them}", y=f"float y, float {last}", W=W, **weights, **bn(4))
    yield folds("names/all-taken", recipe, remain="Mul " * len(TAKEN))
    output = f'{BODY} "W_bias" = Relu(x) z = Neg("W_bias")'
    yield folds("names/taken-by-a-node-output", model(output, y=TWO, W=W, **bn(4)))
    given = model(f'{BODY} z = Neg("W_bias")', x='float[2,3,6,6] x, float[4] "W_bias"', y=TWO, W=W, **bn(4))
    yield folds("names/taken-by-an-input", given)
    inside = (
        "y = If (q) <then_branch = t () => (float[2,4,4,4] p) { c = Conv(x, W) "
        "p = BatchNormalization(c, g, b, m, v) }, "
        "else_branch = e () => (float[2,4,4,4] r) { d = Conv(x, W) r = Relu(d) }> "
        'z = Mul(x, "W_bias") o = Mul(x, "c_bias")'
    )
    weights = {"W_bias": positive(1), "c_bias": positive(1, seed=5)}
    recipe = model(
        inside, x="float[2,3,6,6] x, bool q", y="float[2,4,4,4] y, float z, float o", W=W, **weights, **bn(4)
    )
    yield folds("names/taken-in-the-outer-graph", recipe, remain="Mul Mul")
    outside = (
        f"{BODY} z = If (q) <then_branch = t () => (float[2,3,6,6] p) "
        '{ "W_bias" = Neg(x) p = Relu("W_bias") }, else_branch = e () => (float[2,3,6,6] r) { r = Abs(x) }>'
    )
    recipe = model(outside, x="float[2,3,6,6] x, bool q", y="float y, float[2,3,6,6] z", W=W, **bn(4))
    yield folds("names/taken-in-an-inner-graph", recipe)


def _recipe(*edits: Edit, body: str = BODY, **more: Weight) -> Recipe:
    return model(body, *edits, ir=10, W=W, **more, **bn(4))


def _documents() -> Iterator[Form]:
    for edit in (
        _describe,
        _describe_nodes,
        _quantisation_notes,
        _unused,
        _denotations,
        _training,
        _stale_names,
    ):
        name = edit.__name__.strip("_").replace("_", "-")
        yield folds(f"names/keeps-{name}", _recipe(edit))
    relu = f"{BODY.replace('y =', 'n =')} r = Relu(n) y = Sigmoid(r)"
    yield folds("names/keeps-followers", _recipe(_describe_nodes, body=relu))
    dynamic = model(BODY, x='float[batch,3,"h in",7] x', W=(4, 3, 1, 1), **bn(4))
    yield folds("names/keeps-symbolic-shapes", dynamic)


def _describe(proto: ModelProto) -> None:
    proto.producer_name, proto.producer_version = "a maker", "7"
    proto.domain, proto.model_version, proto.doc_string = "org.example", 41, "what it is for"
    proto.graph.doc_string = "the graph"
    helper.set_model_props(proto, {"author": "somebody", "licence": "open"})
    entry = proto.graph.metadata_props.add()
    entry.key, entry.value = "origin", "a paper"


def _describe_nodes(proto: ModelProto) -> None:
    for i, node in enumerate(proto.graph.node):
        node.doc_string = f"step {i}"
        entry = node.metadata_props.add()
        entry.key, entry.value = "line", str(i)
    for init in proto.graph.initializer:
        init.doc_string = f"learned {init.name}"


def _quantisation_notes(proto: ModelProto) -> None:
    for name in ("x", "y"):
        note = proto.graph.quantization_annotation.add()
        note.tensor_name = name
        entry = note.quant_parameter_tensor_names.add()
        entry.key, entry.value = "SCALE_TENSOR", "scale"
    proto.graph.initializer.append(helper.make_tensor("scale", 1, [1], [0.5]))


def _unused(proto: ModelProto) -> None:
    for place, name in ((0, "first"), (len(proto.graph.initializer) + 1, "last")):
        proto.graph.initializer.insert(place, helper.make_tensor(name, 1, [2], [1.0, 2.0]))


def _denotations(proto: ModelProto) -> None:
    proto.graph.input[0].type.denotation = "IMAGE"
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.doc_string = "NCHW"
        value.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"


def _training(proto: ModelProto) -> None:
    info = proto.training_info.add()
    info.algorithm.CopyFrom(helper.make_graph([], "step", [], []))


def _stale_names(proto: ModelProto) -> None:
    # Scale and mean stay because another output reads them; their values must not move.
    for name in ("g", "m"):
        proto.graph.output.append(helper.make_tensor_value_info(name, 1, list(initializer(proto, name).dims)))
