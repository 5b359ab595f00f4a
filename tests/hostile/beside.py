"""Models with a data file beside them: sound, unsound and leading astray, in every place a tensor can stand."""

# ruff: noqa: E501 - a case of the tables is one line
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper

from tests.hostile.case import Case, Outcome, saved
from tests.hostile.outside import ENTRIES, PLACES, hard, out

FLOATS = np.arange(6, dtype=np.float32)
Place = Callable[[ModelProto, TensorProto], object]


def entry(location: str | None, **entries: str) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        if value is not None:
            made.external_data.add(key=key, value=value)
    return made


def reader() -> ModelProto:
    """y = x · 2, room for a tensor w somewhere."""
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y) { y = Add (x, x) }
    """)


def initializer(model: ModelProto, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)
    model.graph.node[0].input[1] = "w"


def constant(model: ModelProto, tensor: TensorProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    model.graph.node[1].input[1] = "w"


def in_branch(model: ModelProto, tensor: TensorProto) -> None:
    body = onnx.parser.parse_graph("t () => (float[2,3] o) { o = Identity (w) }")
    body.initializer.append(tensor)
    other = onnx.parser.parse_graph("e () => (float[2,3] o2) { o2 = Identity (x) }")
    model.graph.initializer.append(helper.make_tensor("b", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("If", ["b"], ["z"], then_branch=body, else_branch=other))


def in_function(model: ModelProto, tensor: TensorProto) -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor),
        helper.make_node("Add", ["a", "w"], ["s"]),
    ]
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("local", "f", ["a"], ["s"], nodes, imports))
    model.graph.node.append(helper.make_node("f", ["x"], ["z"], domain="local"))


def in_unused_function(model: ModelProto, tensor: TensorProto) -> None:
    in_function(model, tensor)
    model.graph.node.pop()


def in_sparse(model: ModelProto, tensor: TensorProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[10])
    sparse.values.CopyFrom(tensor)
    sparse.values.dims[:] = [6]
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [6], range(6)))


def in_default(model: ModelProto, tensor: TensorProto) -> None:
    in_function(model, entry("exact.data"))
    attribute = model.functions[0].attribute_proto.add(name="k", type=AttributeProto.TENSOR)
    attribute.t.CopyFrom(tensor)


def in_list(model: ModelProto, tensor: TensorProto) -> None:
    attribute = AttributeProto(name="odd", type=AttributeProto.TENSORS, tensors=[tensor])
    model.opset_import.add(domain="odd", version=1)
    node = helper.make_node("Odd", ["x"], ["z"], domain="odd")
    node.attribute.append(attribute)
    model.graph.node.append(node)


def in_training(model: ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().initialization.initializer.append(tensor)


SPOTS: dict[str, Place] = {
    "an initializer": initializer,
    "a Constant": constant,
    "a branch": in_branch,
    "a function": in_function,
    "an unused function": in_unused_function,
    "a sparse initializer": in_sparse,
    "a function's default": in_default,
    "a list attribute": in_list,
    "a training graph": in_training,
}


def built(
    tensor: TensorProto, place: Place = initializer, make: Callable[[Path], object] | None = None
) -> Callable[[Path], Path]:
    """Return a builder of a model with `tensor`, its data files, and what `make` adds to the folder."""

    def build(folder: Path) -> Path:
        (folder / "sub").mkdir()
        (folder / "m.data").write_bytes(b"\xff" * 8 + FLOATS.tobytes())
        (folder / "exact.data").write_bytes(FLOATS.tobytes())
        (folder / "sub" / "deep.data").write_bytes(FLOATS.tobytes())
        (folder.parent / "secret").write_bytes(b"s" * 64)
        (folder.parent / "modelling").mkdir()
        (folder.parent / "modelling" / "secret").write_bytes(b"s" * 64)
        if make is not None:
            make(folder)
        model = reader()
        place(model, tensor)
        return saved(model)(folder)

    return build


def in_cache(target: str) -> Callable[[Path], Path]:
    """Return a builder of a model in a Hugging Face cache whose data file is a link to `target`."""

    def build(folder: Path) -> Path:
        snapshot = folder / "models--a--b" / "snapshots" / "0123"
        blobs = folder / "models--a--b" / "blobs"
        other = folder / "models--c--d" / "blobs"
        for made in (snapshot, blobs, other):
            made.mkdir(parents=True)
        model = reader()
        initializer(model, entry("exact.data"))
        (blobs / "aa").write_bytes(model.SerializeToString())
        (blobs / "bb").write_bytes(FLOATS.tobytes())
        (other / "cc").write_bytes(FLOATS.tobytes())
        (snapshot / "m.onnx").symlink_to("../../blobs/aa")
        (snapshot / "exact.data").symlink_to(target)
        return snapshot / "m.onnx"

    return build


def twice(key: str) -> TensorProto:
    made = entry("m.data", offset="8", length="24")
    made.external_data.add(key=key, value="8")
    return made


def of_kind(kind: int, dims: list[int]) -> TensorProto:
    made = entry("exact.data")
    made.data_type = kind
    made.dims[:] = dims
    return made


def reported(folder: Path) -> Path:
    """A model whose data file could be taken for a report."""
    path = built(entry("w.json"))(folder)
    (folder / "exact.data").rename(folder / "w.json")
    return path


def _unsound() -> list[Case]:
    cases = [
        Case(f"entry {location!r:.40} {entries}"[:90], built(entry(location, **entries)), Outcome.REJECT)
        for location, entries, _ in ENTRIES
    ]
    places = [
        Case(f"place {number}: {words}", built(entry("x"), make=make), Outcome.REJECT)
        for number, (make, words) in enumerate(PLACES)
    ]
    keys = [
        Case(f"{key} twice", built(twice(key)), Outcome.REJECT, "twice") for key in ("location", "offset", "length")
    ]
    return [*cases, *places, *keys]


def _astray() -> list[Case]:
    """In every spot a tensor can stand: a climb, a link out and a hard link are refused."""
    return [
        case
        for spot, place in SPOTS.items()
        for case in (
            Case(f"a climb from {spot}", built(entry("../secret"), place), Outcome.REJECT, "climbs"),
            Case(f"a link out from {spot}", built(entry("x"), place, out), Outcome.REJECT, "link out"),
            Case(f"a hard link from {spot}", built(entry("x"), place, hard), Outcome.REJECT, "hard links"),
        )
    ]


def _sound() -> list[Case]:
    """In every spot: a sound entry is processed."""
    linked = built(entry("l"), make=lambda f: (f / "l").symlink_to("exact.data"))
    return [
        *(Case(f"data of {spot}", built(entry("exact.data"), place), Outcome.SAME_FUNCTION) for spot, place in SPOTS.items()),
        Case("data at an offset", built(entry("m.data", offset="8")), Outcome.SAME_FUNCTION),
        Case("data in a folder below", built(entry("sub/deep.data")), Outcome.SAME_FUNCTION),
        Case("data behind a link inside", linked, Outcome.SAME_FUNCTION),
        Case("an unknown key", built(entry("exact.data", note="x")), Outcome.SAME_FUNCTION),
        Case("a wrong checksum", built(entry("exact.data", checksum="x")), Outcome.SAME_FUNCTION),
        Case("data in its cache", in_cache("../../blobs/bb"), Outcome.SAME_FUNCTION, output="models--a--b/snapshots/0123/o"),
        Case("data from another cache", in_cache("../../../models--c--d/blobs/cc"), Outcome.REJECT, "link out"),
        Case("data moved in", built(entry("exact.data")), Outcome.SAME_FUNCTION, options=("--no-validate", "--external-data", "never")),
        Case("strings as data", built(of_kind(8, [24])), Outcome.REJECT, "strings"),
        Case("data of unknown type", built(of_kind(77, [24])), Outcome.REJECT, "element type"),
        Case("data with an overflow", built(of_kind(1, [2**40, 2**40])), Outcome.REJECT, "2**63"),
        Case("data over --max-size", built(entry("big", length="24"), make=lambda f: (f / "big").write_bytes(bytes(5000))), Outcome.REJECT, "--max-size", ("--no-validate", "--max-size", "4K")),
        Case("the output is the data file", built(entry("exact.data")), Outcome.REJECT, "", ("--no-validate", "--overwrite"), "exact.data"),
        Case("a report over the data file", reported, Outcome.REJECT, "", ("--no-validate", "--report", "{folder}/w.json")),
    ]  # fmt: skip


def stale(folder: Path) -> Path:
    """A model whose data file is named as those of an output called out.onnx are."""
    path = built(entry("out.onnx.0123abcd.data"))(folder)
    (folder / "exact.data").rename(folder / "out.onnx.0123abcd.data")
    return path


CASES = [
    *_unsound(),
    *_astray(),
    *_sound(),
    Case("data named as the output's own would be", stale, Outcome.SAME_FUNCTION),
]
