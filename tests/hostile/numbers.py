"""Numbers that lie: weights and statistics that are no numbers, too large, equal, or of the wrong kind."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.hostile.case import Case, Outcome, edited
from tests.hostile.networks import BN_NAMES, Edit, at, change, network, node, put, tensor

NAN, INF, HUGE = float("nan"), float("inf"), 3e38


def epsilon(value: float) -> Edit:
    def edit(model: ModelProto) -> None:
        next(a for a in node(model, "bn").attribute if a.name == "epsilon").f = value

    return edit


def statistics(length: int) -> Edit:
    """Return an edit that gives the normalisation parameters of another length."""

    def edit(model: ModelProto) -> None:
        for name in BN_NAMES:
            put(name, np.ones(length, np.float32))(model)

    return edit


def training_mode(model: ModelProto) -> None:
    node(model, "bn").attribute.append(helper.make_attribute("training_mode", 1))
    node(model, "bn").output.extend(["running_mean", "running_var"])


def typed_weight(model: ModelProto) -> None:
    """Write the weight as numbers instead of bytes."""
    weight = tensor(model, "w")
    values = numpy_helper.to_array(weight).ravel().tolist()
    weight.ClearField("raw_data")
    weight.float_data.extend(values)


def out_of_range(model: ModelProto) -> None:
    """Add an INT8 tensor whose numbers do not fit into eight bits."""
    model.graph.initializer.add(name="odd", data_type=TensorProto.INT8, dims=[2], int32_data=[300, -300])
    model.graph.node.append(helper.make_node("Cast", ["odd"], ["odd_float"], to=TensorProto.FLOAT))


def as_kind(kind: int) -> Edit:
    """Return an edit that declares the first weight to be of another kind of the same width."""
    return lambda model: setattr(tensor(model, "w"), "data_type", kind)


def strings(model: ModelProto) -> None:
    weight = tensor(model, "w")
    weight.CopyFrom(TensorProto(name="w", data_type=8, dims=[16, 3, 3, 3], string_data=[b"a"] * 432))


def sparse_weight(*indices: int) -> Edit:
    """Return an edit that stores the last weight sparsely, with values at these indices."""

    def edit(model: ModelProto) -> None:
        model.graph.initializer.remove(tensor(model, "w2"))
        sparse = model.graph.sparse_initializer.add(dims=[4, 16, 1, 1])
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(len(indices), np.float32), "w2"))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices, np.int64), "at"))

    return edit


def outlier(model: ModelProto) -> None:
    change("w", at(3, 50.0))(model)


_EITHER: dict[str, Edit] = {
    "one weight is NaN": change("w", at((3, 0, 0, 0), NAN)),
    "all weights are NaN": change("w", lambda w: w * NAN),
    "one weight is infinite": change("w", at((3, 0, 0, 0), INF)),
    "one weight is minus infinite": change("w", at((3, 0, 0, 0), -INF)),
    "the norm of a channel overflows float32": change("w", at(3, 2e19)),
    "all norms overflow float32": change("w", lambda w: np.full_like(w, 2e19)),
    "denormal weights": change("w", lambda w: w * np.float32(1e-42)),
    "weights of zero": change("w", np.zeros_like),
    "one channel of zeros": change("w", at(3, 0.0)),
    "all channels are equal": change("w", np.ones_like),
    "one outlier": outlier,
    "a variance below minus epsilon": change("var", at(3, -1.0)),
    "a variance of minus epsilon": change("var", at(3, -1e-5)),
    "all variances are negative": change("var", lambda v: -v),
    "a variance that is NaN": change("var", at(3, NAN)),
    "an infinite variance": change("var", at(3, INF)),
    "a variance and an epsilon of 0": lambda m: (change("var", at(3, 0.0))(m), epsilon(0.0)(m)),
    "an infinite scale": change("scale", at(3, INF)),
    "a scale that is NaN": change("scale", at(3, NAN)),
    "a scale of 0": change("scale", at(3, 0.0)),
    "a huge scale": change("scale", at(3, HUGE)),
    "an infinite mean": change("mean", at(3, INF)),
    "a shift that is NaN": change("shift", at(3, NAN)),
    "a huge mean": change("mean", at(3, HUGE)),
    "a negative epsilon": epsilon(-1.0),
    "an epsilon that is NaN": epsilon(NAN),
    "an infinite epsilon": epsilon(INF),
    "a huge epsilon": epsilon(1e30),
    "statistics of length 5 for 16 channels": statistics(5),
    "statistics of length 1 for 16 channels": statistics(1),
    "statistics without entries": statistics(0),
    "scalar statistics": put("var", np.ones((), np.float32)),
    "statistics of rank 4": change("var", lambda v: v.reshape(1, 16, 1, 1)),
    "statistics in float64": change("var", lambda v: v.astype(np.float64)),
    "int32 weights": as_kind(TensorProto.INT32),
    "uint32 weights": as_kind(TensorProto.UINT32),
    "int64 weights": change("w", lambda w: w.astype(np.int64)),
    "bool weights": change("w", lambda w: w > 0),
    "complex weights": change("w", lambda w: w.astype(np.complex64)),
    "string weights": strings,
    "numbers that do not fit their type": out_of_range,
    "training mode": training_mode,
    "a last weight without channels": change("w2", lambda w: w[:0]),
    "an input channel count that does not fit": change("w", lambda w: w[:, :2]),
    "a sparse weight": sparse_weight(0, 5, 63),
    "a sparse weight with an index too large": sparse_weight(0, 5, 64),
    "a sparse weight with a huge index": sparse_weight(0, 5, 2**62),
    "a sparse weight with a negative index": sparse_weight(-1, 5, 6),
    "a sparse weight out of order": sparse_weight(6, 5, 4),
    "a sparse weight with an index twice": sparse_weight(5, 5, 6),
    "a weight of rank 5": change("w", lambda w: w[..., None]),
}


def _networks() -> list[Case]:
    same = {
        "one channel": lambda: network(1),
        "two channels": lambda: network(2),
        "ten channels": lambda: network(10),
        "eleven channels": lambda: network(11),
        "float64": lambda: network(16, np.float64),
    }
    cases = [Case(name, edited(make, ModelProto.ByteSize), Outcome.SAME_FUNCTION) for name, make in same.items()]
    half = edited(lambda: network(16, np.float16), ModelProto.ByteSize)
    overflow = edited(lambda: network(16, np.float16), change("scale", at(3, 60000.0)))
    return [
        *cases,
        Case("weights written as numbers", edited(network, typed_weight), Outcome.SAME_FUNCTION),
        Case("float16", half, Outcome.SAME_FUNCTION),
        Case("float16 that would overflow once folded", overflow, Outcome.EITHER),
        Case("no channels", edited(lambda: network(0), ModelProto.ByteSize), Outcome.EITHER),
    ]


CASES = [*(Case(name, edited(network, edit), Outcome.EITHER) for name, edit in _EITHER.items()), *_networks()]
