"""Structure: sound models pass, each broken rule is named, nothing recurses and nothing else is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from onnx_clp.check import callgraph, names
from onnx_clp.check.structure import check
from onnx_clp.errors import ClpError, InvalidModelError, UnsupportedModelError
from tests.hostile.limits import chain, doubling, nested
from tests.hostile.structures import BROKEN, SOUND, Edit, model, node


def payload_size(tensor: TensorProto) -> int | None:
    return len(tensor.raw_data) if tensor.HasField("raw_data") else None


def refusal(broken: ModelProto) -> tuple[type[ClpError], str]:
    with pytest.raises(ClpError) as caught:
        check(broken, payload_size)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    return caught.type, text


@pytest.mark.parametrize("edit", [pytest.param(edit, id=name) for name, edit in SOUND])
def test_a_sound_model_passes(edit: Edit) -> None:
    changed = model()
    edit(changed)
    check(changed, payload_size)


def test_the_model_is_only_read() -> None:
    checked = model()
    check(checked, payload_size)
    assert checked == model()


@pytest.mark.parametrize(("edit", "words"), [pytest.param(e, w, id=n) for n, e, w in BROKEN])
def test_a_broken_model_is_refused_with_the_part_at_fault(edit: Edit, words: str) -> None:
    broken = model()
    edit(broken)
    _, text = refusal(broken)
    assert words in text


# --- size and depth -------------------------------------------------------------------------------------


def test_a_long_chain_passes() -> None:
    check(chain(20_000), payload_size)


def test_a_long_chain_in_the_wrong_order_is_refused() -> None:
    long = chain(20_000)
    long.graph.node[0].input[0] = "v20000"
    assert "cycle" in refusal(long)[1]


def test_nesting_passes_up_to_the_limit_and_no_further() -> None:
    check(nested(names.MAX_DEPTH), payload_size)
    kind, text = refusal(nested(names.MAX_DEPTH + 1))
    assert kind is UnsupportedModelError
    assert "nested deeper" in text


def test_a_depth_that_would_break_recursion_is_refused_in_one_line() -> None:
    assert "nested deeper" in refusal(nested(2000))[1]


def test_a_long_chain_of_functions_passes() -> None:
    check(doubling(5000, calls=1), payload_size)


def test_functions_that_double_are_refused_when_they_pass_the_limit() -> None:
    check(doubling(19), payload_size)
    kind, text = refusal(doubling(21))
    assert kind is UnsupportedModelError
    assert f"{callgraph.MAX_EXPANDED_NODES:,}" in text
    assert refusal(doubling(2000))[1] == text


@pytest.mark.parametrize("length", [1, 2, 3, 1000])
def test_functions_in_a_circle_are_refused(length: int) -> None:
    circle = doubling(length, calls=1)
    circle.functions[-1].node[0].op_type = "f0"
    circle.functions[-1].node[0].domain = "local"
    kind, text = refusal(circle)
    assert kind is InvalidModelError
    assert "calls itself" in text


def test_a_circle_through_a_nested_graph_is_found() -> None:
    circle = model()
    body = onnx.parser.parse_graph("t () => (float[1] o) { o = Neg (a) }")
    body.node[0].op_type, body.node[0].domain = "twice", "local"
    more = helper.make_node("If", ["a"], ["q"], then_branch=body, else_branch=body)
    circle.functions[0].node.append(more)
    assert "calls itself" in refusal(circle)[1]


def test_ten_megabyte_names_give_a_short_line() -> None:
    long = model()
    node(long, "Relu").input[0] = "q" * 10_000_000
    node(long, "Relu").name = "\x1b[31m" * 2_000_000
    assert len(refusal(long)[1]) < 400


# --- real models and random ones ------------------------------------------------------------------------

ONNX_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@pytest.mark.skipif(not ONNX_DATA.is_dir(), reason="this onnx comes without its test models")
def test_none_of_onnx_own_test_models_is_refused() -> None:
    paths = sorted(ONNX_DATA.rglob("*.onnx"))
    assert len(paths) > 50
    for path in paths:
        check(onnx.load(path), payload_size)


BYTES = model().SerializeToString()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_pass_or_are_refused(changes: list[tuple[int, int]]) -> None:
    changed = bytearray(BYTES)
    for at, byte in changes:
        changed[at] = byte
    try:
        parsed = ModelProto.FromString(bytes(changed))
    except Exception:
        return
    passes_or_is_refused(parsed)


def passes_or_is_refused(parsed: ModelProto) -> None:
    try:
        check(parsed, payload_size)
    except ClpError as error:
        line = str(error)
    else:
        line = ""
    assert line == "" or line.isprintable()


NUMBERS = st.one_of(st.integers(-3, 9), st.sampled_from([2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63)]))
TEXTS = st.one_of(
    st.sampled_from(["", "x", "w", "r", "c", "y", "Conv", "Relu", "twice", "local", "ai.onnx"]), st.text()
)


@st.composite
def mutations(draw: st.DrawFn) -> ModelProto:
    """Change random fields, anywhere in the tree of messages, of a sound model."""
    changed = model()
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, changed)
    return changed


def _mutate(draw: st.DrawFn, message: onnx.ModelProto) -> None:
    here = message
    while True:
        below: list[Any] = [f for f, v in here.ListFields() if f.message_type is not None and _some(v)]
        if not below or draw(st.integers(0, 4)) == 0:
            break
        value = getattr(here, draw(st.sampled_from(below)).name)
        here = value[draw(st.integers(0, len(value) - 1))] if hasattr(value, "add") else value
    field: Any = draw(st.sampled_from(list(here.DESCRIPTOR.fields)))
    if draw(st.booleans()):
        here.ClearField(field.name)
    elif field.message_type is not None:
        _repeat(draw, here, field.name)
    else:
        _set(draw, here, field.name, field.type)


def _some(value: object) -> bool:
    return not hasattr(value, "add") or len(value) > 0  # type: ignore[arg-type]


def _repeat(draw: st.DrawFn, here: onnx.ModelProto, name: str) -> None:
    value = getattr(here, name)
    if not hasattr(value, "add"):
        value.SetInParent()
    elif len(value) and draw(st.booleans()):
        value.add().CopyFrom(value[draw(st.integers(0, len(value) - 1))])
    else:
        value.add()


def _set(draw: st.DrawFn, here: onnx.ModelProto, name: str, kind: int) -> None:
    value = draw({9: TEXTS, 12: st.binary(max_size=8), 1: st.floats(), 2: st.floats(width=32)}.get(kind, NUMBERS))
    try:
        if hasattr(getattr(here, name), "append"):
            getattr(here, name).append(value)
        else:
            setattr(here, name, value)
    except (ValueError, OverflowError, UnicodeEncodeError):
        return


@settings(max_examples=300, deadline=None)
@given(mutations())
def test_changed_fields_pass_or_are_refused(changed: ModelProto) -> None:
    passes_or_is_refused(changed)
