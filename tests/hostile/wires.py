"""Bytes that protobuf reads in ways a model's author does not think of, or cannot read at all."""

from __future__ import annotations

import random

from onnx import ModelProto, TensorProto

from tests.hostile.case import Case, Outcome, saved
from tests.hostile.networks import network


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def chunk(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def parts() -> dict[str, bytes]:
    """Return the base network's fields, serialised one by one."""
    model = network()
    return {
        "version": b"\x08\x08",
        "graph": chunk(7, model.graph.SerializeToString()),
        "opset": chunk(8, model.opset_import[0].SerializeToString()),
    }


def whole() -> bytes:
    return b"".join(parts().values())


def nested_graphs(depth: int) -> bytes:
    """Return a model of If nodes within If nodes, written inside out."""
    graph = b""
    for _ in range(depth):
        attribute = chunk(1, b"then_branch") + chunk(6, graph) + b"\xa0\x01\x05"
        graph = chunk(1, chunk(1, b"b") + chunk(4, b"If") + chunk(5, attribute))
    return b"\x08\x08" + chunk(7, graph) + parts()["opset"]


def nested_types(depth: int) -> bytes:
    """Return a model whose input is a sequence of sequences of sequences."""
    kind = b""
    for _ in range(depth):
        kind = chunk(4, chunk(1, kind))
    value = chunk(1, b"x") + chunk(2, kind)
    return b"\x08\x08" + chunk(7, chunk(11, value)) + parts()["opset"]


def two_payloads(first: int, second: int) -> bytes:
    """Return the network with a weight whose raw bytes are written twice; the last ones count."""
    model = network()
    weight = next(t for t in model.graph.initializer if t.name == "w")
    size = len(weight.raw_data)
    rest = TensorProto(name="w", data_type=1, dims=weight.dims).SerializeToString()
    model.graph.initializer.remove(weight)
    twice = rest + chunk(9, b"\1" * (size + first)) + chunk(9, bytes(size + second))
    graph = model.graph.SerializeToString() + chunk(5, twice)
    return b"\x08\x08" + chunk(7, graph) + parts()["opset"]


def split_graph() -> bytes:
    """Return the network with its graph in two pieces, which protobuf merges."""
    model = network()
    first, second = ModelProto(), ModelProto()
    first.graph.node.extend(model.graph.node[:2])
    second.graph.CopyFrom(model.graph)
    del second.graph.node[:2]
    pieces = [chunk(7, each.graph.SerializeToString()) for each in (first, second)]
    return b"\x08\x08" + b"".join(pieces) + parts()["opset"]


def packed_dims() -> bytes:
    """Return the network with the dimensions of a weight packed, as proto3 writes them."""
    model = network()
    weight = next(t for t in model.graph.initializer if t.name == "w")
    bare = TensorProto()
    bare.CopyFrom(weight)
    bare.ClearField("dims")
    packed = chunk(1, b"".join(varint(size) for size in weight.dims)) + bare.SerializeToString()
    model.graph.initializer.remove(weight)
    return b"\x08\x08" + chunk(7, model.graph.SerializeToString() + chunk(5, packed)) + parts()["opset"]


def _cases() -> list[Case]:
    good, piece = whole(), parts()
    noise = random.Random(0)
    reject = {
        "empty": b"",
        "one byte": b"\x08",
        "one newline": b"\n",
        "a short noise": noise.randbytes(64),
        "a long noise": b"\xff" + noise.randbytes(1 << 16),
        "all ones": b"\xff" * 64,
        "a version and nothing else": b"\x08\x08",
        "a graph and nothing else": piece["graph"],
        "no opset": piece["version"] + piece["graph"],
        "twice over": good + good,
        "garbage after the end": good + b"\xff\xff\xff",
        "zeros after the end": good + b"\0" * 16,
        "text after the end": good + b"\nhello there\n",
        "a group after the end": good + b"\x0b",
        "wire type 6": good + b"\x0e",
        "field number 0": good + b"\x02\x00",
        "a varint without end": good + b"\x08" + b"\xff" * 11,
        "a length beyond 64 bits": good + b"\x12" + b"\xff" * 9 + b"\x01",
        "a length beyond the file": good + b"\x12\x05a",
        "a graph as a number": b"\x08\x08\x38\x01" + piece["opset"],
        "an IR version as text": chunk(1, b"8") + piece["graph"] + piece["opset"],
        "an empty graph field and noise": b"\x08\x08" + chunk(7, b"\xff\xff") + piece["opset"],
        "a large weight of the wrong length, twice": two_payloads(0, 4),
        "100 nested graphs": nested_graphs(100),
        "2,000 nested graphs": nested_graphs(2000),
        "2,000 nested types": nested_types(2000),
        "zeros in the middle": good[:4] + b"\0" * 16 + good[20:],
    }
    same = {
        "fields in another order": piece["opset"] + piece["graph"] + piece["version"],
        "an unknown field": good + chunk(1000, b"unknown") + varint(1001 << 3) + b"\x05",
        "a version in ten bytes": b"\x08\x88" + b"\x80" * 8 + b"\x00" + piece["graph"] + piece["opset"],
        "a version given twice": b"\x08\x63" + good,
        "text that is not UTF-8 in a doc string": good + chunk(6, b"\xff\xfe"),
        "a producer called TFL3": b"\x08\x08" + chunk(2, b"TFL3") + piece["graph"] + piece["opset"],
        "a producer called ORTM": b"\x08\x08" + chunk(2, b"ORTM") + piece["graph"] + piece["opset"],
        "a doc string like a tar": chunk(6, b"x" * 254 + b"ustar\0") + good,
    }
    function = {
        "a graph in two pieces": split_graph(),
        "packed dimensions": packed_dims(),
        "a large weight written twice": two_payloads(0, 0),
        "a large weight written twice, the first too long": two_payloads(8, 0),
    }
    large = network(1000)
    damaged = large.SerializeToString() + b"\xff\xff\xff"
    cuts = [1, 2, 3, 4, 10, 100, 400, 1000, len(good) // 2, len(good) - 1, len(good) - 3, len(good) - 7]
    return [
        *(Case(name, saved(data), Outcome.REJECT) for name, data in reject.items()),
        Case("garbage after a large model", saved(damaged), Outcome.REJECT, "damaged"),
        *(Case(f"cut after {cut} bytes", saved(good[:cut]), Outcome.REJECT) for cut in cuts),
        *(Case(name, saved(data), Outcome.SAME_FUNCTION) for name, data in {**same, **function}.items()),
    ]


CASES = _cases()
