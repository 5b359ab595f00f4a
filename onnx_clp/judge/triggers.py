"""Parts of a graph that pruning cannot touch and that can hold a backdoor.

A backdoor need not live in the weights. A graph can look at the input and choose: run another branch (If),
loop, select between two results (Where), or compare the input with constants and mix the outcome in. And an
operator of an unknown domain can do anything. None of it is a backdoor by itself, so these are findings, each
with what decides and where. What is found is what the graph says openly: a choice built from ordinary
arithmetic alone (a steep ramp, a product) looks like the network's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from onnx import NodeProto

from onnx_clp.graph.flow import Flow
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.operators.nodes import MICROSOFT, STANDARD_DOMAINS, identity, input_name, is_op, operator
from onnx_clp.operators.table import is_a
from onnx_clp.operators.traits import Kind
from onnx_clp.text import shown
from onnx_clp.verdicts import Finding

MOST_PER_KIND: Final = 10
_KNOWN_DOMAINS: Final = (
    *STANDARD_DOMAINS,
    "ai.onnx.ml",
    "ai.onnx.preview.training",
    MICROSOFT,
    "com.microsoft.nchwc",
)


def look(index: ModelIndex) -> tuple[Finding, ...]:
    """Every such part, by kind, at most `MOST_PER_KIND` of a kind and a word on how many more there are."""
    everywhere = Flow(index)
    # Behind a learned layer a value is a feature of the network, not the input.
    unlearned = Flow(index, stops=lambda node: is_a(node, Kind.LINEAR, Kind.RECURRENT))
    kinds: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _each(index, lambda scope, node: _branch(everywhere, scope, node)),
        lambda: _each(index, lambda scope, node: _loop(everywhere, scope, node)),
        lambda: _each(index, lambda scope, node: _selection(everywhere, scope, node)),
        lambda: _each(index, lambda scope, node: _comparison(unlearned, scope, node)),
        lambda: _each(index, lambda scope, node: _custom(everywhere, scope, node)),
    )
    return tuple(finding for kind in kinds for finding in _capped(kind()))


def _each(index: ModelIndex, examine: Callable[[GraphIndex, NodeProto], Finding | None]) -> Iterator[Finding]:
    for scope in index.scopes:
        for node in scope.nodes:
            found = examine(scope, node)
            if found is not None:
                yield found


def _capped(findings: Iterator[Finding]) -> Iterator[Finding]:
    count, kind = 0, ""
    for count, finding in enumerate(findings, start=1):
        kind = finding.kind
        if count <= MOST_PER_KIND:
            yield finding
    if count > MOST_PER_KIND:
        yield Finding(kind, "", f"{count - MOST_PER_KIND:,} more of this kind")


def _branch(flow: Flow, scope: GraphIndex, node: NodeProto) -> Finding | None:
    if not is_op(node, "If") or not flow.reaches(scope, input_name(node, 0)):
        return None
    decides = _named(flow, scope, input_name(node, 0))
    return _finding("data-dependent branch", scope, node, f"the content of input {decides} decides which branch runs")


def _loop(flow: Flow, scope: GraphIndex, node: NodeProto) -> Finding | None:
    if not is_op(node, "Loop"):
        return None
    sources = [(scope, input_name(node, 0)), (scope, input_name(node, 1))]
    sources += [(body, body.outputs[0]) for body in flow.body(node) if body.outputs]
    for at, name in sources:
        if flow.reaches(at, name):
            decides = _named(flow, at, name)
            return _finding(
                "data-dependent loop",
                scope,
                node,
                f"the content of input {decides} decides how often it runs",
            )
    return None


def _selection(flow: Flow, scope: GraphIndex, node: NodeProto) -> Finding | None:
    if not is_op(node, "Where") or not flow.reaches(scope, input_name(node, 0)):
        return None
    decides = _named(flow, scope, input_name(node, 0))
    return _finding(
        "data-dependent selection",
        scope,
        node,
        f"the content of input {decides} decides which value is taken",
    )


def _comparison(flow: Flow, scope: GraphIndex, node: NodeProto) -> Finding | None:
    if not is_a(node, Kind.COMPARE):
        return None
    for name, other in (
        (input_name(node, 0), input_name(node, 1)),
        (input_name(node, 1), input_name(node, 0)),
    ):
        if flow.reaches(scope, name) and scope.is_constant(other):
            sentence = f"input {_named(flow, scope, name)} is compared with a constant before any learned layer"
            return _finding("input compared with a constant", scope, node, sentence)
    return None


def _custom(flow: Flow, scope: GraphIndex, node: NodeProto) -> Finding | None:
    if node.domain in _KNOWN_DOMAINS or flow.function(node) is not None:
        return None
    sentence = f"operator {shown(operator(node))} is not ONNX's: what it does lies outside the file"
    return _finding("custom operator", scope, node, sentence)


def _named(flow: Flow, scope: GraphIndex, name: str) -> str:
    return f"'{shown(flow.origin(scope, name))}'"


def _finding(kind: str, scope: GraphIndex, node: NodeProto, sentence: str) -> Finding:
    where = shown(node.name or identity(node))
    return Finding(kind, f"{shown(scope.place)}/{where}" if scope.place else where, sentence)
