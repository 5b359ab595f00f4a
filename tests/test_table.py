"""The table of operators against ONNX: what a row claims holds, and what it does not claim has a counterexample."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper

from onnx_clp.compaction import extent_rules, rules
from onnx_clp.gradient.rules import FLAT, GRADIENTS
from onnx_clp.operators import compute, table
from onnx_clp.operators.table import TABLE
from onnx_clp.operators.traits import Kind, Operator, Trait
from tests.operators.examples import EXAMPLES, UNSHOWN, UNTRIED, Key
from tests.operators.trying import CLAIMS, Node, asked
from tools.operators import PAGE, page


@cache
def nodes(key: Key) -> tuple[Node, ...]:
    return tuple(Node(key, example) for example in EXAMPLES[key])


def unclaimed(key: Key) -> list[Trait]:
    """What must not hold in all examples of a row."""
    row = TABLE[key]
    return [trait for trait in asked(row) if trait not in row.traits and (key, trait) not in UNSHOWN]


def name(one: object) -> str:
    return str(one.name) if isinstance(one, Trait) else ".".join(filter(None, one)) if isinstance(one, tuple) else ""


def test_every_row_has_an_example() -> None:
    assert TABLE.keys() - EXAMPLES.keys() == UNTRIED
    assert EXAMPLES.keys() <= TABLE.keys()


@pytest.mark.parametrize("key", EXAMPLES, ids=name)
def test_what_a_row_claims_holds(key: Key) -> None:
    claimed = [trait for trait in CLAIMS if trait in TABLE[key].traits]
    assert [trait for trait in claimed if not all(CLAIMS[trait](node) for node in nodes(key))] == []


@pytest.mark.parametrize("key", [key for key, some in EXAMPLES.items() if some[0].inputs], ids=name)
def test_what_a_row_does_not_claim_has_a_counterexample(key: Key) -> None:
    held = [trait for trait in unclaimed(key) if all(CLAIMS[trait](node) for node in nodes(key))]
    assert held == [], "it holds: claim it"


@pytest.mark.parametrize(("key", "trait"), sorted(UNSHOWN, key=str), ids=name)
def test_an_exception_is_needed(key: Key, trait: Trait) -> None:
    assert trait not in TABLE[key].traits
    assert all(CLAIMS[trait](node) for node in nodes(key))


STANDARD = [key for key, some in EXAMPLES.items() if not key[0] and some[0].inputs and key[1] != "Upsample"]


@pytest.mark.parametrize("key", STANDARD, ids=name)
def test_types_and_ranks_are_those_of_shape_inference(key: Key) -> None:
    for node in nodes(key):
        data_type, rank = node.inferred  # 0 and -1 where ONNX infers none
        if data_type and Trait.TYPE in TABLE[key].traits:
            assert data_type == helper.np_dtype_to_tensor_dtype(node.first.dtype)
        if rank >= 0 and Trait.RANK in TABLE[key].traits:
            assert rank == node.first.ndim


@pytest.mark.parametrize("key", [k for k in STANDARD if Trait.TYPE in TABLE[k].traits], ids=name)
def test_a_type_that_stays_does_so_in_half_precision(key: Key) -> None:
    for node in nodes(key):
        model = onnx.ModelProto()
        model.CopyFrom(node.model)
        floats = [v for v in model.graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT]
        for value in floats:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        made = onnx.shape_inference.infer_shapes(model)
        found = made.graph.output[0].type.tensor_type.elem_type
        assert found in (0, model.graph.input[0].type.tensor_type.elem_type)


@pytest.mark.parametrize("key", [k for k, row in TABLE.items() if row.kind is Kind.SEARCH], ids=name)
def test_the_size_of_what_is_found_depends_on_the_content(key: Key) -> None:
    for node in nodes(key):
        assert node.of(np.zeros_like(node.first)).shape != node.plain.shape


@pytest.mark.parametrize("row", [row for row in TABLE.values() if not row.domain], ids=lambda row: row.name)
def test_every_standard_operator_is_one(row: Operator) -> None:
    schema = defs.get_schema(row.name, 9) if row.name == "Upsample" else defs.get_schema(row.name)
    if row.kind is Kind.LINEAR and row.name != "Einsum":
        assert schema.inputs[row.weight].name.lower() in ("w", "b")
    assert row.every_output is (row.name == "Split")


# --- asking -------------------------------------------------------------------------------------------------


def test_a_node_is_asked_by_domain_and_name() -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    assert table.keeps(relu, Trait.TYPE | Trait.SHAPE)
    assert not table.keeps(relu, Trait.TYPE | Trait.EVEN)
    assert table.is_a(relu, Kind.POOL, Kind.POINTWISE)
    assert table.keeps(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx"), Trait.TYPE)
    other = helper.make_node("Relu", ["x"], ["y"], domain="com.acme")
    assert table.row(other) is None
    assert not table.keeps(other, Trait.TYPE)
    assert not table.is_a(other, Kind.POINTWISE)


def test_what_is_said_is_of_the_first_output() -> None:
    quantise = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    assert table.keeps(quantise, Trait.SHAPE, "y")
    assert not table.keeps(quantise, Trait.SHAPE, "scale")
    assert table.keeps(helper.make_node("Split", ["x"], ["a", "b"]), Trait.RANK, "b")


def test_names_are_those_of_kinds_and_of_a_domain() -> None:
    assert table.names(Kind.COMPARE) == ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    assert "FusedConv" in table.names(Kind.LINEAR, domain="com.microsoft")
    assert "FusedConv" not in table.names(Kind.LINEAR)


# --- every pass ---------------------------------------------------------------------------------------------

# They read shapes or nothing, and no pass asks what they keep.
BESIDE = {"ConstantOfShape", "OneHot"}


def test_what_a_pass_has_a_rule_for_is_in_the_table() -> None:
    ruled = {*compute.EVALUATORS, *GRADIENTS, *FLAT, *extent_rules.EXTENTS}
    assert {("", op) for op in ruled - BESIDE} <= TABLE.keys()
    assert rules.FOLLOWED.keys() <= TABLE.keys()
    assert not {("", op) for op in BESIDE} & TABLE.keys()


@pytest.mark.skipif(not PAGE.parent.exists(), reason="the documents are not there")
def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tools.operators"


def test_the_page_has_a_line_for_every_row() -> None:
    lines = [line for line in page().splitlines() if line.startswith("| ")]
    for key, row in TABLE.items():
        name = f"{row.name} ({key[0]})" if key[0] else row.name
        assert sum(line.startswith(f"| {name} |") for line in lines) == 1
