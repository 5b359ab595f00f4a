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
from onnx_clp.audit import claims, driving, flatness, joins, judgement
from onnx_clp.audit.dormancy import Rest, at_rest
from onnx_clp.audit.driving import Answers, Setting
from onnx_clp.audit.kernels import thin_ways
from onnx_clp.audit.request import Claim
from onnx_clp.audit.rig import differing
from onnx_clp.audit.sites import dialled, reads
from onnx_clp.audit.variants import variants
from onnx_clp.document.audit import Audit, DormantLayer, DormantPath, PathLayer, QuietValue
from onnx_clp.document.gauge import Loss, Ordinary, Prediction
from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import find_layers
from onnx_clp.report import auditing
from onnx_clp.run.auditor import BLINDING, GATE, PATH, sentence
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


def test_channels_on_thin_ways_are_watched_though_they_move() -> None:
    most = np.array([[1.0, 0.0, 3.0], [2.0, 0.0, 5.0]])
    assert at_rest(most, np.zeros((2, 3))).watched.tolist() == [False, True, False]
    assert at_rest(most, np.zeros((2, 3)), [2]).watched.tolist() == [False, True, True]


def test_what_goes_beyond_everything_ordinary_on_every_input_has_fired() -> None:
    rest = at_rest(np.array([[1.0, 4.0]]), np.array([[0.0, 0.0]]))
    assert rest.beyond(np.array([[3.0, 4.0], [2.0, 9.0]]), np.zeros((2, 2))) == pytest.approx([1 / rest.scale, 0.0])


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
            yield Answers(np.array([[0.5, float(won)]] * 2), most, [np.zeros((2, 4))] * 3)


SILENT = np.array([False, True, True, True])
RESTS = [Rest(np.zeros(4), np.zeros(4), np.zeros(4), 1.0, SILENT, SILENT)] * 3
NONE: list[list[int]] = [[]] * 3
CHAIN = [{2: 1}, {1: 3}]


def test_a_chain_of_dormant_channels_is_found_from_where_it_is_driven() -> None:
    tried = driving.starts(RESTS, NONE, 100)
    found = driving.ordered(driving.search(Toy(CHAIN), RESTS, [False] * 3, tried))
    assert found[0].start == {0: [2]}
    assert found[0].needed == {1: [1], 2: [3]}
    assert (found[0].target, found[0].turned, found[0].held, found[0].others) == (1, 1.0, 0.0, 0.0)
    assert found[0].counted == 2


def test_channels_that_act_through_those_in_use_are_no_path() -> None:
    tried = driving.starts(RESTS, NONE, 100)
    assert driving.search(Toy(CHAIN, direct=True), RESTS, [False] * 3, tried) == []


def test_a_broken_chain_is_no_path() -> None:
    assert driving.search(Toy([{2: 1}, {}]), RESTS, [False] * 3, driving.starts(RESTS, NONE, 100)) == []


def test_sites_whose_channels_come_one_by_one_do_not_count() -> None:
    found = driving.ordered(driving.search(Toy(CHAIN), RESTS, [False, True, False], driving.starts(RESTS, NONE, 100)))
    assert found[0].counted == 1


def test_starts_are_of_the_first_half_all_of_a_site_and_one_by_one() -> None:
    assert driving.starts(RESTS, NONE, 4) == [{0: [1, 2, 3]}, {0: [1]}, {0: [2]}, {0: [3]}]
    assert {site for start in driving.starts(RESTS, NONE, 100) for site in start} == {0, 1}


def test_channels_on_thin_ways_are_driven_first_and_once() -> None:
    tried = driving.starts(RESTS, [[3], [0], []], 100)
    assert tried[:2] == [{0: [3]}, {1: [0]}]
    assert tried.count({0: [3]}) == 1


def test_a_path_is_as_narrow_as_takes_the_class_away() -> None:
    class Wide(Toy):
        """Driving anything fires channel 1 of the last site as well."""

        def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
            """One answer a setting."""
            for setting, seen in zip(settings, super().answers(settings), strict=True):
                if setting.driven and 1 not in setting.held.get(2, ()):
                    seen.most[2][:, 1] = 0.5
                yield seen

    found = driving.ordered(driving.search(Wide(CHAIN), RESTS, [False] * 3, [{0: [2]}]))
    assert found[0].needed == {1: [1], 2: [3]}


def test_what_a_score_lost_counts_where_the_class_stays() -> None:
    plain, driven = (Answers(np.array([scores]), [], []) for scores in ([1.0, 0.0], [1.0, 10.0]))
    one = driving._Driven({0: [0]}, 1, 1.0, driven.margins(1), {})
    assert driving._kept(one, plain, Answers(np.array([[1.0, 2.5]]), [], [])) == pytest.approx(0.25)
    assert driving._kept(one, plain, driven) == 1
    assert driving._kept(one, plain, Answers(np.array([[1.0, 0.5]]), [], [])) == 0


def test_probabilities_count_by_their_logarithms() -> None:
    assert differing(np.array([0.25, 0.75])) == pytest.approx(np.log([0.25, 0.75]))
    assert differing(np.array([2.0, -1.0])).tolist() == [2.0, -1.0]
    assert np.isfinite(differing(np.array([np.nan, np.inf, 0.0]))).all()


# --- sites -----------------------------------------------------------------------------------------


def _index(model: ModelProto) -> ModelIndex:
    return ModelIndex(model, TensorStore())


def test_sites_are_what_later_layers_read_with_the_layers_that_make_them() -> None:
    index = _index(silent_paths.plain(residual=True))
    found = reads(index, find_layers(index.main))
    assert [one.value for one in found] == ["r0", "r1", "r2", "flat"]
    assert [[m.layer.name for m in one.makers] for one in found[:3]] == [["conv0"], ["conv1"], ["conv2"]]
    assert {maker.layer.name for maker in found[3].makers} == {"conv1", "conv3"}


def test_a_sum_is_made_by_both_of_its_layers() -> None:
    model = silent_paths.plain(residual=True)
    model.graph.node.append(onnx.helper.make_node("Conv", ["r3", "w1", "b1"], ["more"], "more", pads=[1] * 4))
    index = _index(model)
    found = reads(index, find_layers(index.main))
    made = next(one for one in found if one.value == "r3")
    assert {maker.layer.name for maker in made.makers} == {"conv1", "conv3"}


def test_dials_at_neutral_change_nothing_and_driving_adds() -> None:
    model = silent_paths.plain()
    index = _index(model)
    found = reads(index, find_layers(index.main))
    on_dials, sites, _ = dialled(index, find_layers(index.main), found, None)
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


def test_a_path_is_one_if_kernels_of_several_layers_read_it_and_little_else() -> None:
    written = silent_paths.edited(silent_paths.plain())
    index = _index(written.model)
    found = reads(index, find_layers(index.main))
    (_, (first,)), (_, (second,)), (_, (third,)), _ = written.path
    whole = _path(("r0", first), ("r1", second), ("r2", third))
    assert judgement.chosen([whole], found) is not None
    assert judgement.chosen([_path(("r0", first), ("r1", second))], found) is None  # one kernel is no path
    many = tuple(range(10))
    wide = replace(whole, layers=(PathLayer("r0", many), *whole.layers[1:]))
    assert judgement.chosen([wide], found) is None
    other = next(channel for channel in range(silent_paths.WIDTH) if channel != second)
    assert judgement.chosen([_path(("r0", first), ("r1", other), ("r2", third))], found) is None
    both = replace(whole, layers=(whole.layers[0], PathLayer("r1", (second, other)), whole.layers[2]))
    chosen = judgement.chosen([both], found)
    assert chosen is not None
    assert chosen.layers[1].channels == (second,)  # what does not read the path is not of it


def test_thin_ways_are_what_was_written_and_nothing_of_a_random_network() -> None:
    written = silent_paths.edited(silent_paths.plain())
    index, plain = _index(written.model), _index(silent_paths.plain())
    ways = thin_ways(reads(index, find_layers(index.main)))
    for value, (_, (channel,)) in zip(("r0", "r1", "r2"), written.path, strict=False):
        assert ways[value] == (channel,)
    assert thin_ways(reads(plain, find_layers(plain.main))) == {}


def test_entries_of_a_flat_value_belong_to_the_channels_of_its_map() -> None:
    model = silent_paths.plain()
    model.graph.node[-2].input[0] = "r3"  # Flatten without the pooling before it
    del model.graph.node[-3]
    places = silent_paths.SIDE**2
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    wide = np.zeros((silent_paths.CLASSES, silent_paths.WIDTH * places), np.float32)
    held["w"].CopyFrom(onnx.numpy_helper.from_array(wide, "w"))
    index = _index(model)
    flat = reads(index, find_layers(index.main))[-1]
    assert [maker.layer.name for maker in flat.makers] == ["conv3"]
    assert flat.places == places
    assert flat.row(places) == 1
    assert flat.whole_of([1]) == list(range(places, 2 * places))


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
    (one,) = _joins(gated)
    assert one.node.output[0] == "scores"
    assert one.values[0] == "gate_scores"
    assert one.direct == set(one.values[1:])


@pytest.mark.parametrize("residual", [False, True])
def test_where_branches_of_the_network_meet_nothing_comes_past_it(residual: bool) -> None:
    assert _joins(silent_paths.plain(residual=residual)) == []


def _joins(model: ModelProto) -> list[joins.Meeting]:
    index = _index(model)
    return joins.joins(index, find_layers(index.main))


# --- blinding --------------------------------------------------------------------------------------


def _rests(high: float) -> list[Rest]:
    most = np.tile(high + np.arange(8) / 100, (3, 1))
    return [at_rest(most, np.zeros_like(most))] * 2


CLAIM = Claim((0.0,) * 8, (1.0,) * 8)


def test_statistics_that_ordinary_inputs_do_not_come_near_are_contradicted_in_two_layers_at_least() -> None:
    low, high = _rests(0.1), _rests(3.0)
    assert list(claims.contradicted([low], [CLAIM, CLAIM])) == [0, 1]
    assert list(claims.contradicted([low], [CLAIM, None])) == []
    assert list(claims.contradicted([high], [CLAIM, CLAIM])) == []
    assert list(claims.contradicted([low, high], [CLAIM, CLAIM])) == []  # on one kind of inputs they hold
    assert list(claims.contradicted([], [CLAIM, CLAIM])) == []


def test_channels_at_their_ceiling_say_nothing_of_their_spread() -> None:
    capped = at_rest(np.full((3, 8), 6.0), np.zeros((3, 8)))
    assert claims.reached(capped, Claim((0.0,) * 8, (100.0,) * 8)) is None


def test_a_flat_operator_on_every_way_is_found_and_one_beside_another_way_is_not() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    blinded = _index(catalogue.write("blinded", clean, images, target=4, seed=3).model)
    cut = flatness.flat_cut(blinded, "scores")
    assert cut is not None
    assert cut.op_type == "Floor"
    assert flatness.flat_cut(_index(clean), "scores") is None
    beside = catalogue.write("gate-comparison", clean, images, target=4, seed=3).model  # Sign, beside the network
    assert flatness.flat_cut(_index(beside), "scores") is None


def test_only_what_the_input_reaches_is_steep() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    assert not flatness.is_steep(_index(clean))
    assert flatness.is_steep(_index(catalogue.write("broken-gradient", clean, images, target=4, seed=3).model))
    assert not flatness.is_steep(_index(catalogue.write("blinded", clean, images, target=4, seed=3).model))


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
    blind = Audit(ORDINARY, layers, 5, None, contradicted=("v", "w"), blocked="why")
    assert "statistics of 2 normalisations contradict" in _rows(blind)
    assert "no gradient" in _rows(blind)
    assert "may be gates" in _rows(Audit(ORDINARY, layers, 0, None, quiet=(QuietValue("v", "n"),)))
    assert _rows(Audit(None, (), 0, None, note="not known: why")) == "not known: why"


def test_an_audit_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    schema = json.loads((Path(auditing.__file__).parent / "schema.json").read_text("utf-8"))
    path = replace(_path(("r0", 1)), layers=(PathLayer("r0", (1,), 0.5),))
    loss = Prediction(Loss(0.0, 0.0, 0.0), ())
    layers = (DormantLayer("r0", 12, 1),)
    full = Audit(ORDINARY, layers, 5, path, 1, loss, (QuietValue("v", "n"),), ("v",), "why", "why")
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


@pytest.mark.parametrize("edit", ["blinded", "broken-gradient"])
def test_scores_without_a_gradient_are_named(edit: str, tmp_path: Path) -> None:
    written = catalogue.write(edit, silent_paths.plain(), silent_paths.samples(), target=4, seed=3)
    with _audited(written.model, tmp_path) as result:
        assert _audit_of(result).blocked
        assert BLINDING in {finding.kind for finding in result.report.findings}


def test_a_slope_that_may_be_no_number_and_is_one_is_not_named(tmp_path: Path) -> None:
    model = silent_paths.plain()
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.extend(
        [onnx.helper.make_node("Exp", ["raw"], ["e"]), onnx.helper.make_node("Sqrt", ["e"], ["scores"])]
    )
    with _audited(model, tmp_path) as result:
        assert not _audit_of(result).blocked


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
        assert not {PATH, GATE, BLINDING} & {finding.kind for finding in result.report.findings}


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
