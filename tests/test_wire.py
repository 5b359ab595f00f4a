"""Lifting payloads out of serialised models and putting them back: byte for byte, and WireError for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto, helper

from onnx_clp.file import wire
from onnx_clp.file.wire import LIFT_ABOVE, WireError, is_token, lift, make_token, splice, token_number

ROOT = Path(__file__).parent.parent
SIZES = st.sampled_from([0, 4, wire.TOKEN_BYTES, 100, 127, 128, LIFT_ABOVE, LIFT_ABOVE + 4, 3000, 20_000])


def lifted(data: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """The skeleton and the ranges that were taken out."""
    ranges: list[tuple[int, int]] = []

    def stash(start: int, end: int) -> bytes:
        ranges.append((start, end))
        return make_token(len(ranges) - 1)

    return lift(memoryview(data), stash), ranges


def put_back(skeleton: bytes, data: bytes, ranges: list[tuple[int, int]]) -> bytes:
    def payload(token: bytes) -> bytes:
        start, end = ranges[token_number(token)]
        return data[start:end]

    rope = splice(skeleton, payload)
    whole = b"".join(bytes(piece) for piece in rope.pieces if isinstance(piece, (bytes, memoryview)))
    assert len(whole) == rope.size
    return whole


# --- models of every shape that can hold a tensor -----------------------------------------------------


@st.composite
def tensors(draw: st.DrawFn) -> TensorProto:
    count = draw(SIZES)
    raw = np.random.default_rng(draw(st.integers(0, 9))).bytes(count)
    tensor = TensorProto(name=draw(st.text(max_size=3)), data_type=TensorProto.UINT8, dims=[count])
    if draw(st.booleans()):
        tensor.raw_data = raw
    else:
        tensor.int32_data.extend(raw)
    return tensor


@st.composite
def sparse_tensors(draw: st.DrawFn) -> SparseTensorProto:
    return SparseTensorProto(values=draw(tensors()), indices=draw(tensors()), dims=[3])


def attributes(graphs: st.SearchStrategy[GraphProto]) -> st.SearchStrategy[AttributeProto]:
    return st.one_of(
        st.builds(lambda t: AttributeProto(name="t", type=AttributeProto.TENSOR, t=t), tensors()),
        st.builds(
            lambda t: AttributeProto(name="ts", type=AttributeProto.TENSORS, tensors=t),
            st.lists(tensors(), max_size=2),
        ),
        st.builds(
            lambda s: AttributeProto(name="s", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=s),
            sparse_tensors(),
        ),
        st.builds(
            lambda s: AttributeProto(name="ss", type=AttributeProto.SPARSE_TENSORS, sparse_tensors=s),
            st.lists(sparse_tensors(), max_size=2),
        ),
        st.builds(lambda g: AttributeProto(name="g", type=AttributeProto.GRAPH, g=g), graphs),
        st.builds(
            lambda g: AttributeProto(name="gs", type=AttributeProto.GRAPHS, graphs=g),
            st.lists(graphs, max_size=2),
        ),
        st.builds(lambda s: AttributeProto(name="x", type=AttributeProto.STRING, s=s), st.binary(max_size=700)),
    )


def graph(initializers: list[TensorProto], sparse: list[SparseTensorProto], held: list[AttributeProto]) -> GraphProto:
    made = GraphProto(name="g", initializer=initializers, sparse_initializer=sparse, doc_string="d" * 600)
    made.node.add(op_type="Op", output=["o"]).attribute.extend(held)
    return made


GRAPHS: st.SearchStrategy[GraphProto] = st.recursive(
    st.builds(graph, st.lists(tensors(), max_size=2), st.lists(sparse_tensors(), max_size=1), st.just([])),
    lambda inner: st.builds(
        graph, st.lists(tensors(), max_size=1), st.just([]), st.lists(attributes(inner), max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def models(draw: st.DrawFn) -> ModelProto:
    model = ModelProto(ir_version=10, graph=draw(GRAPHS), producer_name=draw(st.text(max_size=5)))
    if draw(st.booleans()):
        function = model.functions.add(name="f", domain="d")
        function.node.add(op_type="Op").attribute.extend(draw(st.lists(attributes(GRAPHS), max_size=2)))
        function.attribute_proto.extend(draw(st.lists(attributes(GRAPHS), max_size=1)))
    if draw(st.booleans()):
        info = model.training_info.add()
        info.initialization.CopyFrom(draw(GRAPHS))
        info.algorithm.CopyFrom(draw(GRAPHS))
    return model


def all_tensors(message: object) -> list[TensorProto]:
    """Every TensorProto in a message, found by walking the protobuf itself."""
    found: list[TensorProto] = []
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.message_type is None:
            continue
        for item in [value] if hasattr(value, "ListFields") else value:
            found += [item] if isinstance(item, TensorProto) else all_tensors(item)
    return found


@settings(max_examples=40, deadline=None)
@given(models())
def test_lifting_and_splicing_gives_the_same_bytes(model: ModelProto) -> None:
    data = model.SerializeToString(deterministic=True)
    skeleton, ranges = lifted(data)
    assert put_back(skeleton, data, ranges) == data
    parsed = ModelProto.FromString(skeleton)
    assert put_back(parsed.SerializeToString(deterministic=True), data, ranges) == data


@settings(max_examples=40, deadline=None)
@given(models())
def test_every_large_payload_is_lifted_and_nothing_else(model: ModelProto) -> None:
    data = model.SerializeToString(deterministic=True)
    skeleton, ranges = lifted(data)
    parsed = ModelProto.FromString(skeleton)
    pairs = list(zip(all_tensors(model), all_tensors(parsed), strict=True))
    large = [whole for whole, _ in pairs if len(whole.raw_data) > LIFT_ABOVE]
    assert sorted(data[s:e] for s, e in ranges) == sorted(t.raw_data for t in large)
    for whole, lean in pairs:
        if len(whole.raw_data) > LIFT_ABOVE:
            assert is_token(lean.raw_data)
            start, end = ranges[token_number(lean.raw_data)]
            assert data[start:end] == whole.raw_data
            lean.raw_data = whole.raw_data
    assert parsed == model


@settings(max_examples=40, deadline=None)
@given(models(), st.data())
def test_a_model_cut_short_gives_a_wire_error_or_a_shorter_model(model: ModelProto, drawn: st.DataObject) -> None:
    data = model.SerializeToString()
    short = data[: drawn.draw(st.integers(0, len(data)))]
    try:
        skeleton, ranges = lifted(short)
    except WireError:
        return
    assert put_back(skeleton, short, ranges) == short


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_wire_error_or_come_back(data: bytes) -> None:
    try:
        skeleton, ranges = lifted(data)
    except WireError:
        return
    assert put_back(skeleton, data, ranges) == data


@settings(max_examples=40, deadline=None)
@given(models(), st.data())
def test_changed_bytes_give_a_wire_error_or_come_back(model: ModelProto, drawn: st.DataObject) -> None:
    data = bytearray(model.SerializeToString())
    for _ in range(drawn.draw(st.integers(1, 3))):
        data[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    try:
        skeleton, ranges = lifted(bytes(data))
    except WireError:
        return
    assert put_back(skeleton, bytes(data), ranges) == bytes(data)


GRAPH_TAG, NODE_TAG = b"\x3a", b"\x0a"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GRAPH_TAG + b"\x05abc", "past the end"),
        (GRAPH_TAG, "ends inside"),
        (b"\x08" + b"\xff" * 9 + b"\xff\x01", "longer than 64"),
        (b"\x08\x80", "ends inside"),
        (b"\x09\x00\x00", "ends inside"),
        (b"\x0d\x00", "ends inside"),
        (b"\x00\x00", "cannot be"),
        (b"\x0b", "cannot be"),  # a group begins
        (b"\x0c", "cannot be"),
        (b"\x0e", "cannot be"),
        (b"\x0f", "cannot be"),
    ],
)
def test_what_protobuf_cannot_be_is_refused(data: bytes, words: str) -> None:
    for bad in (data, _graph(data)):
        with pytest.raises(WireError, match=words):
            lifted(bad)


def _graph(inner: bytes) -> bytes:
    """A model whose graph is `inner` behind a doc string that makes it worth entering, as one with weights is."""
    body = b"\x52\x80\x08" + bytes(1024) + inner
    return _long(body)


def _long(body: bytes) -> bytes:
    size, out = len(body), bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return GRAPH_TAG + bytes(out) + body


def test_deep_nesting_is_refused_before_python_is() -> None:
    body = helper.make_tensor("t", TensorProto.UINT8, [1000], bytes(1000), raw=True).SerializeToString()
    data = b"\x2a" + _size(body) + body  # initializer
    for _ in range(300):
        attribute = b"\x32" + _size(data) + data  # attribute.g
        node = b"\x2a" + _size(attribute) + attribute  # node.attribute
        data = NODE_TAG + _size(node) + node  # graph.node
    with pytest.raises(WireError, match="deeper"):
        lifted(GRAPH_TAG + _size(data) + data)


def _size(body: bytes) -> bytes:
    return _long(body)[1 : len(_long(body)) - len(body)]


# --- tokens -------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
def test_a_token_keeps_its_number(number: int) -> None:
    token = make_token(number)
    assert len(token) == wire.TOKEN_BYTES
    assert is_token(token)
    assert token_number(token) == number
    assert not is_token(token[:-1])
    assert not is_token(token + b"\0")


@given(st.binary(min_size=wire.TOKEN_BYTES, max_size=wire.TOKEN_BYTES))
def test_no_bytes_of_a_file_are_a_token(raw: bytes) -> None:
    assert not is_token(raw)


def test_another_process_makes_other_tokens() -> None:
    code = "import sys; from onnx_clp.file.wire import make_token; sys.stdout.buffer.write(make_token(0))"
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert made[0] != made[1]
    assert not any(is_token(token) for token in made)


def test_a_token_outside_a_payload_stays_what_it_is() -> None:
    """Attribute values, string data and unknown fields may hold any bytes; only `raw_data` is a payload."""
    model = ModelProto(ir_version=8)
    node = model.graph.node.add(op_type="Op")
    node.attribute.append(AttributeProto(name="s", type=AttributeProto.STRING, s=make_token(0)))
    text = TensorProto(name="t", data_type=TensorProto.STRING, dims=[1], string_data=[make_token(0)])
    node.attribute.append(AttributeProto(name="t", type=AttributeProto.TENSOR, t=text))
    data = model.SerializeToString(deterministic=True)
    unknown = data + b"\xfa\x3f\x18" + make_token(0)
    for whole in (data, unknown):
        rope = splice(whole, lambda _: pytest.fail("taken for a payload"))
        assert b"".join(bytes(p) for p in rope.pieces) == whole  # type: ignore[arg-type]


def test_the_token_of_an_unlifted_tensor_is_put_back() -> None:
    """A new tensor may hold a token although nothing was lifted from the file."""
    model = ModelProto(ir_version=8)
    model.graph.initializer.add(name="w", raw_data=make_token(7))
    asked: list[int] = []

    def payload(token: bytes) -> bytes:
        asked.append(token_number(token))
        return b"x" * 70_000

    rope = splice(model.SerializeToString(), payload)
    whole = ModelProto.FromString(b"".join(bytes(p) for p in rope.pieces))  # type: ignore[arg-type]
    assert asked == [7]
    assert whole.graph.initializer[0].raw_data == b"x" * 70_000
    assert whole.graph.initializer[0].name == "w"


def test_a_payload_given_twice_ends_as_protobuf_ends_it() -> None:
    """The last of a repeated scalar field counts; both ranges are lifted and come back."""
    tensor = TensorProto(name="w", raw_data=b"a" * 600).SerializeToString()
    tensor += TensorProto(raw_data=b"b" * 700).SerializeToString()
    body = b"\x2a" + _size(tensor) + tensor
    data = GRAPH_TAG + _size(body) + body
    skeleton, ranges = lifted(data)
    assert put_back(skeleton, data, ranges) == data
    parsed = ModelProto.FromString(skeleton).graph.initializer[0]
    start, end = ranges[token_number(parsed.raw_data)]
    assert data[start:end] == b"b" * 700
    assert onnx.ModelProto.FromString(data).graph.initializer[0].raw_data == b"b" * 700
