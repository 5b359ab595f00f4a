"""Models sound and broken in one way each: (name, edit of a sound model[, words of the refusal]).

`test_structure` runs them through the check alone, `test_hostile` through the command line.
"""

# ruff: noqa: E501 - a case of the tables is one line
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

Edit = Callable[[ModelProto], object]


def model() -> ModelProto:
    """Conv > Relu > MaxPool, an If with a local function in one branch, and a custom operator."""
    made = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1, "com.microsoft" : 1]>
        g (float[1,4,8,8] x, bool b) => (float[1,6,4,4] y, float[1,6,8,8] z)
        <float[6] bias = {1, 2, 3, 4, 5, 6}>
        {
            c = Conv <group = 2, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]> (x, w, bias)
            r = Relu (c)
            y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            i = If (b) <then_branch = t () => (float[1,6,8,8] o) { o = Neg (r) },
                        else_branch = e () => (float[1,6,8,8] o) { o = local.twice <by = 2.0> (r) }>
            k = Constant <value = float[1] {1}> ()
            z = com.microsoft.Anything <odd = "yes"> (i, k)
        }
        <domain: "local", opset_import: ["" : 17]>
        twice <by> (a) => (s) { f = Constant <value_float : float = @by> () s = Mul (a, f) }
    """)
    made.graph.initializer.append(TensorProto(name="w", data_type=1, dims=[6, 2, 3, 3], raw_data=bytes(432)))
    del made.graph.value_info[:]
    return made


def node(m: ModelProto, op_type: str) -> NodeProto:
    found: NodeProto = next(n for n in m.graph.node if n.op_type == op_type)
    return found


def branch(m: ModelProto, number: int = 0) -> GraphProto:
    found: GraphProto = node(m, "If").attribute[number].g
    return found


def attribute(m: ModelProto, op_type: str, name: str) -> AttributeProto:
    found: AttributeProto = next(a for a in node(m, op_type).attribute if a.name == name)
    return found


def tensor(m: ModelProto, name: str = "w") -> TensorProto:
    found: TensorProto = next(t for t in m.graph.initializer if t.name == name)
    return found


def add_node(
    m: ModelProto,
    op: str,
    inputs: list[str],
    outputs: list[str],
    **more: int | float | list[int] | GraphProto,
) -> None:
    made = helper.make_node(op, inputs, outputs)
    made.attribute.extend(helper.make_attribute(name, value) for name, value in more.items())
    m.graph.node.append(made)


def set_ints(op: str, name: str, values: list[int]) -> Edit:
    def edit(m: ModelProto) -> None:
        found = next((a for a in node(m, op).attribute if a.name == name), None)
        if found is None:
            found = node(m, op).attribute.add(name=name, type=AttributeProto.INTS)
        found.ints[:] = values

    return edit


def set_group(value: int) -> Edit:
    return lambda m: setattr(attribute(m, "Conv", "group"), "i", value)


def set_dims(*dims: int) -> Edit:
    def edit(m: ModelProto) -> None:
        tensor(m).dims[:] = dims

    return edit


def auto_pad(mode: str) -> Edit:
    return lambda m: node(m, "Conv").attribute.append(helper.make_attribute("auto_pad", mode))


def extra(name: str, kind: int, count: int, field: str = "", size: int | None = None, dims: int = 1) -> Edit:
    """Add an initializer of `count` elements with `size` entries in `field` (raw bytes when "raw_data")."""

    def edit(m: ModelProto) -> None:
        made = m.graph.initializer.add(name=name, data_type=kind, dims=[count] * dims)
        if field == "raw_data":
            made.raw_data = b"\0" * (size or 0)
        elif field:
            getattr(made, field).extend([b"" if field == "string_data" else 0] * (size or 0))

    return edit


def sparse(dims: list[int], values: list[int], indices: list[int], kind: int = TensorProto.INT64) -> Edit:
    def edit(m: ModelProto) -> None:
        made = m.graph.sparse_initializer.add(dims=dims)
        made.values.CopyFrom(TensorProto(name="s", data_type=1, dims=values))
        made.values.float_data.extend([0.0] * math.prod(values))
        made.indices.CopyFrom(TensorProto(data_type=kind, dims=indices))
        field = made.indices.int64_data if kind == TensorProto.INT64 else made.indices.int32_data
        field.extend([0] * math.prod(indices))

    return edit


def as_ir3(m: ModelProto) -> None:
    """IR version 3: every initializer is an input too."""
    m.ir_version = 3
    for each in m.graph.initializer:
        m.graph.input.append(helper.make_tensor_value_info(each.name, 1, each.dims))


def as_ir1(m: ModelProto) -> None:
    """IR version 1: no operator sets, no attribute types; only what opset 1 has."""
    del m.opset_import[:], m.graph.node[3:], m.functions[:], m.graph.output[1:]
    m.ir_version = 1
    for each in itertools.chain(*(n.attribute for n in m.graph.node)):
        each.ClearField("type")


def no_channels(m: ModelProto) -> None:
    set_dims(0, 2, 3, 3)(m)
    tensor(m).ClearField("raw_data")


def hiding_loop(m: ModelProto) -> None:
    """The body's x is the carried value, not the graph's input of another shape; later nodes see the latter."""
    body = onnx.parser.parse_graph(
        "body (int64 k, bool b, float[1] x) => (bool go, float[1] v) { go = Identity(b) v = Neg(x) }"
    )
    add_node(m, "Loop", ["", "b", "k"], ["looped"], body=body)
    add_node(m, "Conv", ["x", "w"], ["again"], group=2)


def rename_function(m: ModelProto, domain: str, name: str) -> None:
    """Another name for the local function and the node that calls it."""
    function, call = m.functions[0], branch(m, 1).node[0]
    function.domain, function.name = domain, name
    call.domain, call.op_type = domain, name


def another_overload(m: ModelProto) -> None:
    m.functions.append(m.functions[0])
    m.functions[1].overload = "b"


def with_training(m: ModelProto) -> None:
    training = m.training_info.add()
    training.initialization.node.append(helper.make_node("RandomNormal", [], ["w0"], shape=[6]))
    training.algorithm.node.append(helper.make_node("Neg", ["bias"], ["step"]))


def loop(m: ModelProto) -> None:
    body = onnx.parser.parse_graph(
        "body (int64 n, bool go, float[1] v) => (bool go2, float[1] v2) { go2 = Identity(go) v2 = Add(v, bias) }"
    )
    add_node(m, "Loop", ["", "b", "k"], ["looped"], body=body)


SOUND: list[tuple[str, Edit]] = [
    ("as it is", ModelProto.ByteSize),
    ("IR 3, initializers are inputs", as_ir3),
    ("overridable initializer in IR 8", lambda m: m.graph.input.append(helper.make_tensor_value_info("bias", 1, [6]))),
    ("opset named ai.onnx", lambda m: setattr(m.opset_import[0], "domain", "ai.onnx")),
    ("one opset named twice alike", lambda m: m.opset_import.add(domain="ai.onnx", version=17)),
    ("unknown domain, high version", lambda m: m.opset_import.add(domain="odd", version=2**31 - 1)),
    ("a loop whose body uses an outer constant", loop),
    ("a branch constant hides an outer value", lambda m: branch(m).initializer.append(tensor(m))),
    ("a loop whose inputs hide outer values", hiding_loop),
    ("no output name", lambda m: add_node(m, "Dropout", ["r"], ["d", ""])),
    ("optional input left out", lambda m: add_node(m, "Clip", ["r", "", "k"], ["d"])),
    ("int attribute without a value", lambda m: node(m, "Relu").attribute.add(name="n", type=AttributeProto.INT)),
    ("empty lists mean defaults", lambda m: (set_ints("Conv", "pads", [])(m), set_ints("Conv", "strides", [])(m))),
    ("auto_pad", auto_pad("SAME_UPPER")),
    ("a dilation", set_ints("Conv", "dilations", [2, 1])),
    ("negative steps elsewhere are no window", lambda m: add_node(m, "Transpose", ["r"], ["d"], perm=[0, 2, 3, 1])),
    ("strings", extra("t", TensorProto.STRING, 3, "string_data", 3)),
    ("int4 in raw bytes", extra("t", TensorProto.INT4, 5, "raw_data", 3)),
    ("int4 in numbers", extra("t", TensorProto.INT4, 5, "int32_data", 3)),
    ("uint2", extra("t", 25, 5, "raw_data", 2)),
    ("float6", extra("t", 27, 5, "raw_data", 4)),
    ("float4", extra("t", 23, 3, "int32_data", 2)),
    ("bfloat16", extra("t", TensorProto.BFLOAT16, 3, "int32_data", 3)),
    ("complex", extra("t", TensorProto.COMPLEX64, 3, "float_data", 6)),
    ("double complex", extra("t", TensorProto.COMPLEX128, 3, "raw_data", 48)),
    ("uint32", extra("t", TensorProto.UINT32, 3, "uint64_data", 3)),
    ("no elements", extra("t", TensorProto.FLOAT, 0)),
    ("no elements, raw", extra("t", TensorProto.FLOAT, 0, "raw_data", 0)),
    ("scalar", extra("t", TensorProto.FLOAT, 1, "float_data", 1, dims=0)),
    ("sparse, linear indices", sparse([4, 4], [3], [3])),
    ("sparse, coordinates", sparse([4, 4], [3], [3, 2])),
    ("sparse, no values", sparse([4, 4], [0], [0])),
    ("training", with_training),
    ("zero output channels", no_channels),
    ("function of another overload", another_overload),
    ("function named as an operator in a domain of its own", lambda m: rename_function(m, "local", "Relu")),
    ("function of ONNX's domain with a name of its own", lambda m: rename_function(m, "", "Twice")),
    ("odd but printable names", lambda m: add_node(m, "Relu", ["r"], ["größe/1:0 ."])),
]  # fmt: skip


def make_cycle(m: ModelProto) -> None:
    node(m, "Relu").input[0] = "y"


def reverse(m: ModelProto) -> None:
    nodes = list(m.graph.node)[::-1]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


def weight_from_constant_node(m: ModelProto) -> None:
    node(m, "Conv").input[1] = "k5"
    constant = helper.make_node(
        "Constant", [], ["k5"], value=TensorProto(dims=[6, 2, 5, 5], data_type=1, raw_data=bytes(1200))
    )
    m.graph.node.insert(0, constant)


def drop_attribute(op: str, name: str) -> Edit:
    return lambda m: node(m, op).attribute.remove(attribute(m, op, name))


def name_that_is_not_text(m: ModelProto) -> None:
    add_node(m, "Relu", ["r"], ["QQQQ"])
    m.ParseFromString(m.SerializeToString().replace(b"QQQQ", b"\xff\xfe\x1b\x9b"))


def twice_defaulted(m: ModelProto) -> None:
    as_ir3(m)
    m.graph.initializer.append(tensor(m))


def training_reads_nothing(m: ModelProto) -> None:
    with_training(m)
    m.training_info[0].algorithm.node[0].input[0] = "q"


BROKEN: list[tuple[str, Edit, str]] = [
    # versions
    ("no IR version", lambda m: m.ClearField("ir_version"), "no IR version"),
    ("IR version 0", lambda m: setattr(m, "ir_version", 0), "no IR version"),
    ("negative IR version", lambda m: setattr(m, "ir_version", -3), "IR version -3"),
    ("future IR version", lambda m: setattr(m, "ir_version", 99), "update onnx"),
    ("huge IR version", lambda m: setattr(m, "ir_version", 2**62), "update onnx"),
    ("no opset", lambda m: m.ClearField("opset_import"), "no operator set"),
    ("opset 0", lambda m: setattr(m.opset_import[0], "version", 0), "version 0"),
    ("negative opset", lambda m: setattr(m.opset_import[0], "version", -1), "version -1"),
    ("future opset", lambda m: setattr(m.opset_import[0], "version", 999), "update onnx"),
    ("huge opset of a custom domain", lambda m: setattr(m.opset_import[2], "version", 2**40), "version"),
    ("two opsets", lambda m: m.opset_import.add(domain="ai.onnx", version=16), "two versions"),
    ("domain not imported", lambda m: m.opset_import.pop(), "not imported"),
    ("no graph", lambda m: m.ClearField("graph"), "no graph"),
    ("IR 1, whose attributes have no types", as_ir1, "no known type"),
    # names
    ("output made by nothing", lambda m: setattr(m.graph.output[0], "name", "q"), "made by nothing"),
    ("output without name", lambda m: setattr(m.graph.output[0], "name", ""), "made by nothing"),
    ("input of a node defined nowhere", lambda m: node(m, "Relu").input.__setitem__(0, "q"), "defined nowhere"),
    ("cycle", make_cycle, "cycle"),
    ("node fed by itself", lambda m: node(m, "Relu").input.__setitem__(0, "r"), "cycle"),
    ("out of order", reverse, "out of order"),
    ("two nodes make one value", lambda m: add_node(m, "Relu", ["c"], ["r"]), "already defined"),
    ("one node makes a value twice", lambda m: add_node(m, "Dropout", ["c"], ["d", "d"]), "already defined"),
    ("a node makes an input", lambda m: add_node(m, "Relu", ["c"], ["x"]), "already defined"),
    ("a node makes an initializer", lambda m: add_node(m, "Relu", ["c"], ["w"]), "already defined"),
    ("two inputs of one name", lambda m: m.graph.input.append(m.graph.input[0]), "already defined"),
    ("two initializers of one name", lambda m: m.graph.initializer.append(tensor(m)), "already defined"),
    ("an input defaulted twice", twice_defaulted, "already defined"),
    ("input without name", lambda m: m.graph.input.add(), "no name"),
    ("initializer without name", lambda m: setattr(tensor(m), "name", ""), "no name"),
    ("name that is not UTF-8", name_that_is_not_text, "not text"),
    ("branch reads a later value", lambda m: branch(m).node[0].input.__setitem__(0, "z"), "defined nowhere"),
    ("branch output made by nothing", lambda m: setattr(branch(m).output[0], "name", "q"), "made by nothing"),
    ("branch remakes an outer value", lambda m: branch(m).node.append(helper.make_node("Neg", ["c"], ["r"])), "outer"),
    ("branch value used outside", lambda m: add_node(m, "Relu", ["o"], ["d"]), "defined nowhere"),
    # nodes
    ("no operator", lambda m: node(m, "Relu").ClearField("op_type"), "no readable operator"),
    ("unknown ONNX operator", lambda m: setattr(node(m, "Relu"), "op_type", "Nope"), "no such operator"),
    ("operator newer than the opset", lambda m: add_node(m, "Gelu", ["r"], ["d"]), "no such operator"),
    ("too few inputs", lambda m: node(m, "Conv").ClearField("input"), "takes 2 to 3"),
    ("too many inputs", lambda m: node(m, "Relu").input.append("x"), "takes 1"),
    ("no outputs", lambda m: add_node(m, "Relu", ["r"], []), "takes 1"),
    ("too many outputs", lambda m: add_node(m, "Relu", ["r"], ["d", "e"]), "takes 1"),
    ("needed input left out", lambda m: node(m, "Conv").input.__setitem__(1, ""), "leaves out input 1"),
    # attributes
    ("attribute twice", lambda m: node(m, "Conv").attribute.append(attribute(m, "Conv", "group")), "twice"),
    ("attribute without name", lambda m: setattr(attribute(m, "Conv", "group"), "name", ""), "no readable name"),
    ("attribute without type", lambda m: attribute(m, "Conv", "group").ClearField("type"), "no known type"),
    ("type and value differ", lambda m: setattr(attribute(m, "Conv", "group"), "type", AttributeProto.FLOAT), "holds INT"),
    ("two values", lambda m: attribute(m, "Conv", "group").ints.append(1), "holds"),
    ("graph without graph", lambda m: node(m, "If").attribute[0].ClearField("g"), "holds nothing"),
    ("tensor without tensor", lambda m: node(m, "Constant").attribute[0].ClearField("t"), "holds nothing"),
    ("required attribute missing", drop_attribute("MaxPool", "kernel_shape"), "lacks the attribute"),
    ("attribute of another type", lambda m: add_node(m, "Softmax", ["r"], ["d"], axis=1.5), "wrong type"),
    ("reference outside a function", lambda m: setattr(attribute(m, "Conv", "group"), "ref_attr_name", "q"), "is in no function"),
    ("reference with a value", lambda m: m.functions[0].node[0].attribute[0].__setattr__("f", 1.0), "value of its own"),
    ("tensor attribute with wrong bytes", lambda m: node(m, "Constant").attribute[0].t.dims.append(9), "needs 9"),
    # windows
    ("group 0", set_group(0), "group is 0"),
    ("negative group", set_group(-2), "group is -2"),
    ("huge group", set_group(2**62), "group is"),
    ("group does not divide", set_group(4), "does not divide"),
    ("stride 0", set_ints("Conv", "strides", [0, 1]), "strides holds 0"),
    ("negative stride", set_ints("Conv", "strides", [1, -1]), "strides holds -1"),
    ("huge stride", set_ints("Conv", "strides", [2**40, 1]), "strides holds"),
    ("dilation 0", set_ints("Conv", "dilations", [1, 0]), "dilations holds 0"),
    ("negative pad", set_ints("Conv", "pads", [1, 1, -1, 1]), "pads holds -1"),
    ("huge pad", set_ints("Conv", "pads", [1, 1, 2**62, 1]), "pads holds"),
    ("too few pads", set_ints("Conv", "pads", [1, 1]), "2 values"),
    ("too many strides", set_ints("Conv", "strides", [1, 1, 1]), "3 values"),
    ("another kernel than the weight's", set_ints("Conv", "kernel_shape", [5, 5]), "its weight has [3, 3]"),
    ("kernel of another rank", set_ints("Conv", "kernel_shape", [3]), "1 values"),
    ("kernel 0", set_ints("Conv", "kernel_shape", [0, 3]), "kernel_shape holds 0"),
    ("unknown auto_pad", auto_pad("SAME"), "auto_pad is 'SAME'"),
    ("weight of rank 2", lambda m: (set_dims(36, 3)(m)), "3 or more"),
    ("weight in a Constant node", weight_from_constant_node, "its weight has [5, 5]"),
    ("pool stride 0", set_ints("MaxPool", "strides", [0, 0]), "strides holds 0"),
    ("pool pads of another rank", set_ints("MaxPool", "pads", [0, 0]), "2 values"),
    ("pool kernel negative", set_ints("MaxPool", "kernel_shape", [-2, 2]), "kernel_shape holds -2"),
    # tensors
    ("no element type", lambda m: tensor(m).ClearField("data_type"), "no element type"),
    ("unknown element type", lambda m: setattr(tensor(m), "data_type", 99), "unknown element type 99"),
    ("negative element type", lambda m: setattr(tensor(m), "data_type", -1), "unknown element type -1"),
    ("negative dimension", set_dims(-6, 2, 3, 3), "negative dimension"),
    ("two negative dimensions", set_dims(-6, -2, 3, 3), "negative dimension"),
    ("overflowing dimensions", set_dims(2**32, 2**32, 3, 3), "passes 2**63"),
    ("overflow to zero", set_dims(2**62, 2**62, 2**62, 0), "passes 2**63"),
    ("overflowing bytes", set_dims(2**61, 1, 1, 3), "2**63"),
    ("more than the stored bytes", set_dims(7, 2, 3, 3), "needs 504 bytes, has 432"),
    ("fewer than the stored bytes", set_dims(5, 2, 3, 3), "needs 360 bytes, has 432"),
    ("no bytes", lambda m: tensor(m).ClearField("raw_data"), "needs 108 values, has 0"),
    ("65 dimensions", set_dims(*[1] * 65), "65 dimensions"),
    ("a million dimensions", lambda m: tensor(m).dims.extend([1] * 10**6), "dimensions"),
    ("bytes and numbers", lambda m: tensor(m).float_data.append(1.0), "twice"),
    ("too few numbers", lambda m: tensor(m, "bias").float_data.pop(), "needs 6 values, has 5"),
    ("numbers of another type", lambda m: setattr(tensor(m, "bias"), "data_type", TensorProto.DOUBLE), "in float_data"),
    ("segment", lambda m: tensor(m).segment.SetInParent(), "segments"),
    ("raw strings", extra("t", TensorProto.STRING, 3, "raw_data", 3), "strings as raw bytes"),
    ("too few strings", extra("t", TensorProto.STRING, 3, "string_data", 2), "needs 3 values"),
    ("int4 one byte short", extra("t", TensorProto.INT4, 5, "raw_data", 2), "needs 3 bytes"),
    ("int4 unpacked", extra("t", TensorProto.INT4, 6, "int32_data", 6), "needs 3 values"),
    ("half a complex", extra("t", TensorProto.COMPLEX64, 3, "float_data", 3), "needs 6 values"),
    ("sparse of two-dimensional values", sparse([4, 4], [3, 1], [3]), "must be a vector"),
    ("sparse with int32 indices", sparse([4, 4], [3], [3], TensorProto.INT32), "INT64"),
    ("sparse with too few indices", sparse([4, 4], [3], [2]), "indices of shape"),
    ("sparse with coordinates of another rank", sparse([4, 4], [3], [3, 3]), "indices of shape"),
    ("sparse with more values than room", sparse([2], [3], [3]), "do not fit"),
    ("sparse with negative dimensions", sparse([-4, -4], [3], [3]), "negative"),
    ("sparse that overflows", sparse([2**40, 2**40], [3], [3]), "passes 2**63"),
    # functions
    ("function named as an operator", lambda m: rename_function(m, "", "Relu"), "runtimes disagree"),
    ("function named as an operator, other spelling", lambda m: rename_function(m, "ai.onnx", "Relu"), "runtimes disagree"),
    ("function twice", lambda m: m.functions.append(m.functions[0]), "defined twice"),
    ("function without name", lambda m: m.functions[0].ClearField("name"), "no name"),
    ("function reads the outer graph", lambda m: m.functions[0].node[1].input.__setitem__(1, "w"), "defined nowhere"),
    ("function output made by nothing", lambda m: m.functions[0].output.__setitem__(0, "q"), "made by nothing"),
    ("function input twice", lambda m: m.functions[0].input.append("a"), "already defined"),
    ("function attribute twice", lambda m: m.functions[0].attribute.append("by"), "two attributes"),
    ("function calls itself", lambda m: m.functions[0].node.append(helper.make_node("twice", ["a"], ["q"], domain="local")), "calls itself"),
    ("call with too many inputs", lambda m: branch(m, 1).node[0].input.append("c"), "its function 1"),
    ("future opset in a function", lambda m: setattr(m.functions[0].opset_import[0], "version", 99), "update onnx"),
    # training
    ("training graph reads nothing", training_reads_nothing, "defined nowhere"),
]  # fmt: skip
