"""The table of forms itself: every model is valid and runs, and the judge sees every kind of wrong fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_clp.config import CleanConfig
from tests.forms import TABLE
from tests.forms.build import Expect, Form, Oracle, bn, initializer, model
from tests.forms.judge import bypassed, check, computed_wrong, judge
from tests.forms.run import feeds, outputs

BY_ID = {form.id: form for form in TABLE}
ROWS = [pytest.param(form, id=form.id) for form in TABLE]


@dataclass(frozen=True)
class Layer:
    folded: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    name: str
    reason: str
    sentence: str


@dataclass(frozen=True)
class Report:
    layers: tuple[Layer, ...]
    affines_left: tuple[Left, ...]


@dataclass(frozen=True)
class Result:
    model: ModelProto
    report: Report


def test_ids_are_unique_and_the_table_is_large() -> None:
    assert max(Counter(form.id for form in TABLE).values()) == 1
    kinds = Counter(form.expect for form in TABLE)
    assert kinds[Expect.FOLDS] >= 168
    assert kinds[Expect.STAYS] >= 48
    assert kinds[Expect.MAY] >= 23


def test_no_two_rows_are_the_same_model() -> None:
    seen: dict[tuple[bytes, bool, bool], list[str]] = {}
    for form in TABLE:
        key = form.make().SerializeToString(deterministic=True), form.freeze, form.external
        seen.setdefault(key, []).append(form.id)
    assert [ids for ids in seen.values() if len(ids) > 1] == []


@pytest.mark.parametrize("form", ROWS)
def test_model_is_valid_and_runs(form: Form) -> None:
    proto = form.make()
    assert (check(proto) == "") is form.valid
    assert proto == form.make()
    if form.oracle is not Oracle.NONE:
        for feed in feeds(proto):
            assert outputs(proto, feed, form.oracle)


@pytest.mark.parametrize("form", ROWS)
def test_dropping_the_affine_is_seen(form: Form, tmp_path: Path) -> None:
    proto = form.make()
    without = bypassed(proto)
    if form.oracle is Oracle.NONE:
        return
    assert (without is not None and computed_wrong(form, proto, without, tmp_path) != []) is form.visible


@pytest.mark.parametrize("form", [pytest.param(f, id=f.id) for f in TABLE if f.expect is not Expect.STAYS])
def test_doing_nothing_does_not_pass_for_a_fold(form: Form, tmp_path: Path) -> None:
    wrong = judge(form, _nothing, tmp_path)
    assert (wrong == []) is (form.expect is Expect.MAY)


def _nothing(source: ModelProto | Path, config: CleanConfig) -> Result:
    del config
    proto = source if isinstance(source, ModelProto) else ModelProto()
    return Result(proto, Report((), ()))


# A plain, correct fold of Conv > BatchNormalization; each flaw below spoils one thing about it.


def _plain(source: ModelProto | Path, config: CleanConfig) -> Result:
    assert isinstance(source, ModelProto)
    del config
    proto = ModelProto()
    proto.CopyFrom(source)
    norm = next((n for n in proto.graph.node if n.op_type == "BatchNormalization"), None)
    if norm is None:
        return Result(proto, Report((), ()))
    _fold(proto, norm)
    return Result(proto, Report((Layer((norm.output[0],)),), ()))


def _fold(proto: ModelProto, norm: NodeProto) -> None:
    graph = proto.graph
    conv = next(n for n in graph.node if n.output[0] == norm.input[0])
    scale, shift, mean, var = (_take(proto, n) for n in norm.input[1:])
    factor = scale / np.sqrt(var + 1e-5)
    weight = initializer(proto, conv.input[1])
    folded = numpy_helper.to_array(weight) * factor[:, None, None, None]
    weight.CopyFrom(numpy_helper.from_array(folded.astype(np.float32), weight.name))
    graph.initializer.append(numpy_helper.from_array((shift - mean * factor).astype(np.float32), "fresh"))
    conv.input.append("fresh")
    dropped = conv.output[0]
    conv.output[0] = norm.output[0]
    graph.node.remove(norm)
    for info in [v for v in graph.value_info if v.name == dropped]:
        graph.value_info.remove(info)


def _take(proto: ModelProto, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    init = initializer(proto, name)
    array = numpy_helper.to_array(init).astype(np.float64)
    proto.graph.initializer.remove(init)
    return array


def _spoil_weight(
    change: Callable[[np.ndarray[tuple[int, ...], np.dtype[np.float32]]], object],
) -> Callable[[ModelProto], None]:
    def edit(proto: ModelProto) -> None:
        init = initializer(proto, "W")
        array = numpy_helper.to_array(init).copy()
        init.CopyFrom(numpy_helper.from_array(np.asarray(change(array), np.float32), "W"))

    return edit


def _no_shift(proto: ModelProto) -> None:
    init = initializer(proto, "fresh")
    init.CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), "fresh"))


def _rename_node(proto: ModelProto) -> None:
    proto.graph.node[0].name = "renamed"


def _lose_doc(proto: ModelProto) -> None:
    proto.doc_string = ""


def _stale_value_info(proto: ModelProto) -> None:
    proto.graph.value_info.append(helper.make_tensor_value_info("c", 1, [2, 4, 4, 4]))


def _wrong_type(proto: ModelProto) -> None:
    init = initializer(proto, "W")
    init.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(init).astype(np.float64), "W"))


def _spare_initializer(proto: ModelProto) -> None:
    proto.graph.initializer.append(helper.make_tensor("spare", 1, [1], [0.0]))


def _reorder(proto: ModelProto) -> None:
    first = proto.graph.node[0]
    proto.graph.node.append(first)
    del proto.graph.node[0]


FLAWS: dict[str, Callable[[ModelProto], None]] = {
    "one weight off by 1 %": _spoil_weight(lambda w: w * np.where(np.arange(w.size).reshape(w.shape) == 5, 1.01, 1)),
    "channels in another order": _spoil_weight(lambda w: w[::-1]),
    "one channel not scaled": _spoil_weight(lambda w: w * np.array([1, 1.5, 1, 1])[:, None, None, None]),
    "epsilon forgotten": _spoil_weight(lambda w: w * 1.0005),
    "shift forgotten": _no_shift,
    "node renamed": _rename_node,
    "document lost": _lose_doc,
    "value_info of a tensor that is gone": _stale_value_info,
    "another type": _wrong_type,
    "an initializer nobody reads": _spare_initializer,
}


def _documented(proto: ModelProto) -> None:
    proto.doc_string = "keep me"


PLAIN = replace(
    BY_ID["linear/Conv2d-plain-bn"],
    make=model("c = Conv(x, W) y = BatchNormalization(c, g, b, m, v) ", _documented, W=(4, 3, 3, 3), **bn(4)),
)


def test_a_right_fold_passes(tmp_path: Path) -> None:
    assert judge(PLAIN, _plain, tmp_path) == []


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_wrong_fold_is_seen(flaw: str, tmp_path: Path) -> None:
    def flawed(source: ModelProto | Path, config: CleanConfig) -> Result:
        result = _plain(source, config)
        if result.report.layers:
            FLAWS[flaw](result.model)
        return result

    assert judge(PLAIN, flawed, tmp_path) != []


def test_a_negative_quantisation_scale_is_seen(tmp_path: Path) -> None:
    def negating(source: ModelProto | Path, config: CleanConfig) -> Result:
        result = _nothing(source, config)
        proto = ModelProto()
        proto.CopyFrom(result.model)
        for name in ("q", "s"):  # the product is the same: only the sign of the scale can tell
            init = initializer(proto, name)
            init.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(init), name))
        return Result(proto, result.report)

    wrong = judge(BY_ID["quantised/channel-no-zero-point"], negating, tmp_path)
    assert "a quantisation scale is no longer positive" in wrong
    assert not any("computes something else" in words for words in wrong)


def test_changing_the_callers_model_is_seen(tmp_path: Path) -> None:
    def in_place(source: ModelProto | Path, config: CleanConfig) -> Result:
        result = _plain(source, config)
        assert isinstance(source, ModelProto)
        source.CopyFrom(result.model)
        return result

    assert "the caller's model was changed" in judge(PLAIN, in_place, tmp_path)


@pytest.mark.parametrize(
    "id",
    [
        "batchnorm/training-three-outputs",
        "guards/readers-bn-and-relu",
        "guards/conv-is-output-before-bn",
        "constants/overridable-W",
        "constants/overridable-g",
    ],
)
def test_a_fold_that_ignores_the_guards_is_seen(id: str, tmp_path: Path) -> None:
    assert judge(BY_ID[id], _plain, tmp_path) != []


def test_a_shared_weight_changed_in_place_is_seen(tmp_path: Path) -> None:
    wrong = judge(BY_ID["constants/shared-weight-other-conv-plain"], _plain, tmp_path)
    assert any("computes something else" in words for words in wrong)


@pytest.mark.parametrize(
    ("reason", "sentence"), [("", "It is read twice."), ("Two Readers", "It is read twice."), ("twice", "")]
)
def test_a_reason_without_words_is_seen(reason: str, sentence: str, tmp_path: Path) -> None:
    def wordless(source: ModelProto | Path, config: CleanConfig) -> Result:
        result = _nothing(source, config)
        return Result(result.model, Report((), (Left("y", reason, sentence),)))

    form = BY_ID["guards/readers-bn-and-relu"]
    assert judge(form, wordless, tmp_path) != []


def test_a_listed_affine_satisfies_a_row_that_stays(tmp_path: Path) -> None:
    def careful(source: ModelProto | Path, config: CleanConfig) -> Result:
        result = _nothing(source, config)
        return Result(result.model, Report((), (Left("y", "several_consumers", "Its input is read twice."),)))

    assert judge(BY_ID["guards/readers-bn-and-relu"], careful, tmp_path) == []


def test_a_fold_left_unsaid_and_one_that_repeats_are_seen(tmp_path: Path) -> None:
    def silent(source: ModelProto | Path, config: CleanConfig) -> Result:
        return Result(_plain(source, config).model, Report((), ()))

    def endless(source: ModelProto | Path, config: CleanConfig) -> Result:
        return Result(_plain(source, config).model, Report((Layer(("y",)),), ()))

    assert "the report names no folded affine" in judge(PLAIN, silent, tmp_path)
    assert "a second run folds again" in judge(PLAIN, endless, tmp_path)
