"""The audit: which channels are dormant, which of them are a path, and that a path alone is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
import pytest
from onnx import ModelProto

import onnx_clp
from onnx_clp.audit import driving, joins, judgement
from onnx_clp.audit.dormancy import Rest, at_rest, in_any
from onnx_clp.audit.driving import Answers, Setting
from onnx_clp.audit.sites import dialled, reads
from onnx_clp.audit.variants import variants
from onnx_clp.document.audit import Audit, DormantLayer, DormantPath, PathLayer, QuietValue
from onnx_clp.document.gauge import Loss, Ordinary, Prediction
from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import find_layers
from onnx_clp.report import auditing
from onnx_clp.run.auditor import GATE, PATH, sentence
from tests import silent_paths
from tests.reports import report
from tools.redteam import catalogue
from tools.redteam.subject import rates

# --- at rest ---------------------------------------------------------------------------------------


def test_a_channel_that_hardly_moves_is_dormant_and_one_that_moves_is_not() -> None:
    most = np.array([[1.0, 0.05, 3.0], [2.0, 0.0, 5.0]])
    found = at_rest(most, np.zeros((2, 3)))
    assert found.dormant.tolist() == [False, True, False]
    assert found.scale == pytest.approx(1.5)


def test_a_constant_channel_rests_at_its_constant() -> None:
    most = np.array([[1.0, -1.0], [2.0, -1.0]])
    found = at_rest(most, np.array([[0.0, -1.0], [0.0, -1.0]]))
    assert found.dormant.tolist() == [False, True]
    assert found.rest[1] == -1.0


def test_values_that_are_not_finite_make_nothing_dormant() -> None:
    found = at_rest(np.array([[1.0, np.inf]]), np.zeros((1, 2)))
    assert not found.dormant.any()


def test_dormant_on_one_kind_of_input_is_dormant() -> None:
    awake = at_rest(np.array([[2.0, 2.0], [3.0, 3.0]]), np.zeros((2, 2)))
    asleep = at_rest(np.array([[2.0, 0.0], [3.0, 0.0]]), np.zeros((2, 2)))
    assert in_any([awake, asleep]).dormant.tolist() == [False, True]
    assert in_any([awake, awake]).dormant.tolist() == [False, False]


def test_variants_are_images_in_range_and_more_than_were_given() -> None:
    shown = np.random.default_rng(0).random((16, 3, 9, 9)).astype(np.float32)
    found = variants(shown)
    assert found.shape == (24, 3, 9, 9)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.array_equal(found[:16], shown)


# --- driving ---------------------------------------------------------------------------------------


class Toy:
    """Three sites of four channels; `wiring` says which channel fires which of the next site; class 1 if the end fires.

    With `direct` driving anything gives class 1 by way of channels in use.
    """

    def __init__(self, wiring: Sequence[dict[int, int]], *, direct: bool = False) -> None:
        self._wiring, self._direct = wiring, direct

    def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
        """One answer a setting, of two images of class 0."""
        for setting in settings:
            firing: list[set[int]] = []
            for number in range(3):
                on = set(setting.driven.get(number, ())) if setting.strength else set()
                if number:
                    on |= {self._wiring[number - 1][c] for c in firing[-1] if c in self._wiring[number - 1]}
                firing.append(on - set(setting.held.get(number, ())))
            most = [np.array([[float(c in on) for c in range(4)]] * 2) for on in firing]
            won = 3 in firing[2] or (self._direct and any(firing))
            yield Answers(np.array([int(won)] * 2), most, [np.zeros((2, 4))] * 3)


RESTS = [Rest(np.zeros(4), 1.0, np.array([False, True, True, True]))] * 3
CHAIN = [{2: 1}, {1: 3}]


def test_a_chain_of_dormant_channels_is_found_from_where_it_is_driven() -> None:
    tried = driving.starts(RESTS, 100)
    found = driving.search(Toy(CHAIN), RESTS, [False] * 3, tried)
    assert found[0].start == {0: [2]}
    assert found[0].needed == {1: [1], 2: [3]}
    assert (found[0].target, found[0].turned, found[0].held, found[0].others) == (1, 1.0, 0.0, 0.0)
    assert found[0].counted == 2


def test_channels_that_act_through_those_in_use_are_no_path() -> None:
    tried = driving.starts(RESTS, 100)
    assert driving.search(Toy(CHAIN, direct=True), RESTS, [False] * 3, tried) == []


def test_a_broken_chain_is_no_path() -> None:
    assert driving.search(Toy([{2: 1}, {}]), RESTS, [False] * 3, driving.starts(RESTS, 100)) == []


def test_sites_whose_channels_come_one_by_one_do_not_count() -> None:
    found = driving.search(Toy(CHAIN), RESTS, [False, True, False], driving.starts(RESTS, 100))
    assert found[0].counted == 1


def test_starts_are_of_the_first_half_all_of_a_site_and_one_by_one() -> None:
    assert driving.starts(RESTS, 4) == [{0: [1, 2, 3]}, {0: [1]}, {0: [2]}, {0: [3]}]
    assert {site for start in driving.starts(RESTS, 100) for site in start} == {0, 1}


# --- sites -----------------------------------------------------------------------------------------


def _index(model: ModelProto) -> ModelIndex:
    return ModelIndex(model, TensorStore())


def test_sites_are_what_later_layers_read_with_the_layers_that_make_them() -> None:
    index = _index(silent_paths.plain(residual=True))
    found = reads(index, find_layers(index.main))
    assert [one.value for one in found] == ["r0", "r1", "r2", "flat"]
    assert [[maker.layer.name for maker in one.makers] for one in found] == [["conv0"], ["conv1"], ["conv2"], []]


def test_a_sum_is_made_by_both_of_its_layers() -> None:
    model = silent_paths.plain(residual=True)
    model.graph.node.append(onnx.helper.make_node("Conv", ["r3", "w1", "b1"], ["more"], "more", pads=[1] * 4))
    index = _index(model)
    found = reads(index, find_layers(index.main))
    made = next(one for one in found if one.value == "r3")
    assert {maker.layer.name for maker in made.makers} == {"conv1", "conv3"}


@pytest.mark.parametrize(
    ("op", "makers"), [("Asinh", {"conv1"}), ("GlobalLpPool", {"conv1"}), ("Softmax", set()), ("Hardmax", set())]
)
def test_a_layer_is_seen_through_what_keeps_channels_apart(op: str, makers: set[str]) -> None:
    model = silent_paths.plain()
    relu = next(node for node in model.graph.node if node.output[0] == "r1")
    relu.op_type = op
    index = _index(model)
    (found,) = (one for one in reads(index, find_layers(index.main)) if one.value == "r1")
    assert {maker.layer.name for maker in found.makers} == makers


@pytest.mark.parametrize(("op", "joined"), [("Mean", True), ("Mod", True), ("Concat", True), ("MatMul", False)])
def test_what_joins_two_values_is_watched(op: str, joined: bool) -> None:
    model = silent_paths.plain(residual=True)
    add = next(node for node in model.graph.node if node.name == "add")
    add.op_type = op
    if op == "Concat":
        add.attribute.append(onnx.helper.make_attribute("axis", 2))
    assert bool(joins.joins(_index(model))) is joined


def test_dials_at_neutral_change_nothing_and_driving_adds() -> None:
    model = silent_paths.plain()
    index = _index(model)
    found = reads(index, find_layers(index.main))
    on_dials, sites, _ = dialled(index, found, None)
    images = silent_paths.samples(2)
    feed = {"images": images.fed(images.images)}
    for site in sites:
        shape = (2, site.drive.channels, *[1] * (site.drive.axis_from_end - 1))
        feed |= {site.drive.keep: np.ones(shape, np.float32), site.drive.add: np.zeros(shape, np.float32)}
    before = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    after = onnxruntime.InferenceSession(on_dials.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(after.run(["scores"], feed)[0], before.run(["scores"], {"images": feed["images"]})[0])
    feed[sites[1].drive.keep][0, 3], feed[sites[1].drive.add][0, 3] = 0, 7
    most, least = after.run([sites[1].drive.most, sites[1].drive.least], feed)
    assert most[0, 3] == least[0, 3] == 7
    assert most[1, 3] != 7


# --- judging ---------------------------------------------------------------------------------------


def _path(*layers: tuple[str, int]) -> DormantPath:
    return DormantPath(tuple(PathLayer(value, (channel,)) for value, channel in layers), 4, 1.0, 0.0, None, 2.0)


def test_a_long_path_is_one_and_a_short_one_only_if_its_kernels_read_it_alone() -> None:
    written = silent_paths.edited(silent_paths.plain())
    index = _index(written.model)
    found = reads(index, find_layers(index.main))
    (_, (first,)), (_, (second,)), (_, (third,)), _ = written.path
    assert judgement.is_long(_path(("r0", first), ("r1", second), ("r2", third)), found)
    assert not judgement.is_long(_path(("r0", first), ("r1", second)), found)
    assert judgement.chosen([_path(("r0", first), ("r1", second))], found) is not None
    wide = replace(
        _path(("r0", 0), ("r1", second)), layers=(PathLayer("r0", tuple(range(10))), PathLayer("r1", (second,)))
    )
    assert judgement.chosen([wide], found) is None
    other = next(channel for channel in range(silent_paths.WIDTH) if channel != second)
    assert judgement.chosen([_path(("r0", first), ("r1", other))], found) is None


def test_the_sentence_names_path_class_and_reason() -> None:
    text = sentence(DormantPath((PathLayer("a", (5,)), PathLayer("b", (7,), 0.93)), 3, 1.0, 0.0, 0.25, 2.0))
    for part in ("class 3", "a channel 5 > b channel 7", "100 %", "other silent channels there 25 %", "93 %"):
        assert part in text


# --- joins -----------------------------------------------------------------------------------------


def test_what_hardly_moves_beside_what_does_is_quiet() -> None:
    assert joins.quiet(np.array([1e-9, 2.0])).tolist() == [True, False]
    assert joins.quiet(np.array([0.5, 2.0])).tolist() == [False, False]
    assert joins.quiet(np.array([0.0, 0.0])).tolist() == [False, False]
    assert joins.quiet(np.array([0.0, np.nan])).tolist() == [False, False]
    assert joins.moved(np.array([1.0, 3.0]), np.array([0.0, -1.0])) == 2.0


def test_joins_are_where_two_values_from_the_input_meet() -> None:
    images = silent_paths.samples()
    gated = catalogue.write("gate-ramp", silent_paths.plain(), images, target=4, seed=3).model
    assert joins.joins(_index(silent_paths.plain())) == []
    assert [names for _, names in joins.joins(_index(silent_paths.plain(residual=True)))] == [("c3", "r1")]
    ((node, names),) = joins.joins(_index(gated))
    assert node.output[0] == "scores"
    assert names[0] == "gate_scores"


# --- reports ---------------------------------------------------------------------------------------

ORDINARY = Ordinary("photographs", 144, "0..1", "statistics")


def _rows(audit: Audit | None) -> str:
    return "\n".join(auditing.rows(replace(report(), audit=audit)))


def test_the_report_says_what_was_found_and_what_became_of_it() -> None:
    path = _path(("r0", 1), ("r1", 2))
    layers = (DormantLayer("r0", 12, 1), DormantLayer("r1", 12, 2))
    assert _rows(None) == ""
    assert "3 of 24 channels fire on none of 144 crops" in _rows(Audit(ORDINARY, layers, 5, None))
    assert "that is no proof" in _rows(Audit(ORDINARY, layers, 5, None))
    assert "leads to class 4" in _rows(Audit(ORDINARY, layers, 5, path))
    assert "nothing of the path was taken out" in _rows(Audit(ORDINARY, layers, 5, path))
    assert "2 kernels of the path zeroed" in _rows(Audit(ORDINARY, layers, 5, path, removed=2))
    assert "may be gates" in _rows(Audit(ORDINARY, layers, 0, None, quiet=(QuietValue("v", "n"),)))
    assert _rows(Audit(None, (), 0, None, note="not known: why")) == "not known: why"


def test_an_audit_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    schema = json.loads((Path(auditing.__file__).parent / "schema.json").read_text("utf-8"))
    path = replace(_path(("r0", 1)), layers=(PathLayer("r0", (1,), 0.5),))
    loss = Prediction(Loss(0.0, 0.0, 0.0), ())
    full = Audit(ORDINARY, (DormantLayer("r0", 12, 1),), 5, path, 1, loss, (QuietValue("v", "n"),), "why")
    for audit in (None, Audit(None, (), 0, None), full):
        jsonschema.validate(replace(report(), audit=audit).to_dict(), schema)


# --- whole runs ------------------------------------------------------------------------------------


def _audited(model: ModelProto, folder: Path, **options: object) -> onnx_clp.CleanResult:
    path = folder / "model.onnx"
    onnx.save(model, path)
    config = onnx_clp.CleanConfig(audit=True, provider="cpu", **options)  # type: ignore[arg-type]
    return onnx_clp.clean(path, config)


def _audit_of(result: onnx_clp.CleanResult) -> Audit:
    assert result.report.audit is not None
    return result.report.audit


@pytest.mark.parametrize("kind", ["ramp", "hidden"])
def test_a_gate_is_named(kind: str, tmp_path: Path) -> None:
    written = catalogue.write(f"gate-{kind}", silent_paths.plain(), silent_paths.samples(), target=4, seed=3)
    with _audited(written.model, tmp_path) as result:
        assert [one.node for one in _audit_of(result).quiet]
        assert GATE in {finding.kind for finding in result.report.findings}


@pytest.mark.parametrize("width", [1, 2])
def test_a_written_path_is_found_and_taken_out(width: int, tmp_path: Path) -> None:
    clean, images = silent_paths.plain(), silent_paths.samples()
    written = silent_paths.edited(clean, width=width)
    triggered = written.patch.put_on(images, images.images)
    plain = rates(clean, images, triggered, 4)[1]
    assert plain < 50
    assert rates(written.model, images, triggered, 4)[1] == 100
    with _audited(written.model, tmp_path, pixel_range=(0.0, 1.0)) as result:
        audit = _audit_of(result)
        assert audit.path is not None
        assert audit.path.target == 4
        assert [finding.kind for finding in result.report.findings].count(PATH) == 1
        assert audit.removed >= 2
        assert abs(rates(result.model, images, triggered, 4)[1] - plain) < 5  # the patch is a picture as well


def test_a_plain_network_has_no_path(tmp_path: Path) -> None:
    with _audited(silent_paths.plain(), tmp_path) as result:
        audit = _audit_of(result)
        assert audit.path is None
        assert audit.ordinary is not None
        assert len(audit.layers) == silent_paths.DEPTH
        assert not {PATH, GATE} & {finding.kind for finding in result.report.findings}


def test_without_pruning_a_path_is_only_told(tmp_path: Path) -> None:
    with _audited(silent_paths.edited(silent_paths.plain()).model, tmp_path, prune=False) as result:
        audit = _audit_of(result)
        assert audit.path is not None
        assert (audit.removed, audit.removal) == (0, None)


def test_what_cannot_be_audited_is_said(tmp_path: Path) -> None:
    model = silent_paths.plain()
    del model.graph.node[1:]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("c0", 1, ["n", silent_paths.WIDTH, 16, 16]))
    with _audited(model, tmp_path) as result:
        audit = _audit_of(result)
        assert audit.ordinary is None
        assert audit.note.startswith("not known")


def test_nothing_is_audited_without_validation_or_unasked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--audit"):
        onnx_clp.CleanConfig(audit=True, validate=False)
    path = tmp_path / "model.onnx"
    onnx.save(silent_paths.plain(), path)
    with onnx_clp.clean(path, onnx_clp.CleanConfig(validate=False)) as result:
        assert result.report.audit is None
