"""Models at and beyond the limits of size, depth and expansion."""

from __future__ import annotations

from onnx import AttributeProto, ModelProto, helper


def chain(length: int) -> ModelProto:
    made = ModelProto(ir_version=8)
    made.opset_import.add(version=17)
    made.graph.input.add(name="v0")
    made.graph.output.add(name=f"v{length}")
    for number in range(length):
        made.graph.node.add(op_type="Relu", input=[f"v{number}"], output=[f"v{number + 1}"])
    return made


def nested(depth: int) -> ModelProto:
    """An If within an If, `depth` graphs below the main one."""
    made = ModelProto(ir_version=8)
    made.opset_import.add(version=17)
    made.graph.input.add(name="b")
    made.graph.output.add(name="v0")
    graph = made.graph
    for level in range(depth):
        outer = graph.node.add(op_type="If", input=["b"], output=[f"v{level}"])
        other = outer.attribute.add(name="else_branch", type=AttributeProto.GRAPH)
        other.g.node.add(op_type="Identity", input=["b"], output=[f"e{level}"])
        other.g.output.add(name=f"e{level}")
        graph = outer.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g
        graph.output.add(name=f"v{level + 1}")
    graph.node.add(op_type="Identity", input=["b"], output=[f"v{depth}"])
    return made


def doubling(levels: int, calls: int = 2) -> ModelProto:
    """`levels` functions, each calling the next `calls` times."""
    made = chain(1)
    made.opset_import.add(domain="local", version=1)
    made.graph.node.append(helper.make_node("f0", ["v0"], ["q"], domain="local"))
    for level in range(levels):
        function = made.functions.add(domain="local", name=f"f{level}", input=["v0"], output=[f"v{calls}"])
        for call in range(calls):
            last = level == levels - 1
            op, domain = ("Relu", "") if last else (f"f{level + 1}", "local")
            function.node.append(helper.make_node(op, [f"v{call}"], [f"v{call + 1}"], domain=domain))
    return made
