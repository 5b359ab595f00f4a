"""The audit: which channels are dormant, which of them are a path, and that a path alone is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import onnxruntime  # noqa: TID251  an oracle independent of the package under test
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

import onnx_clp
from onnx_clp.audit import claims, driving, flatness, joins, kernels
from onnx_clp.audit.dialling import dialled
from onnx_clp.audit.dormancy import USUAL, Rest, at_rest
from onnx_clp.audit.driving import Answers, DrivenPath, Setting
from onnx_clp.audit.kernels import search
from onnx_clp.audit.questions import Questions, questions
from onnx_clp.audit.request import Chain, Claim, Extent, Join, Stage, Stretch
from onnx_clp.audit.sites import Read, reads, scores_of
from onnx_clp.audit.variants import variants
from onnx_clp.audit.worker import _Look, _Trial
from onnx_clp.cap.bound_activations import Statistic
from onnx_clp.document.audit import Audit, DormantLayer, DormantPath, PathLayer, PathStart, QuietValue
from onnx_clp.document.gauge import Loss, Ordinary, Prediction
from onnx_clp.errors import UsageError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.layers.rewrite import LayerRewrite, find_layers
from onnx_clp.report import auditing
from onnx_clp.run.auditor import BLINDING, GATE, PATH, sentence
from tests import silent_paths
from tests.reports import report
from tools.redteam import catalogue
from tools.redteam.subject import rates, values_of

Floats = NDArray[np.float64]

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


def test_what_a_channel_usually_keeps_within_is_what_three_in_four_inputs_do_alike_in_a_map() -> None:
    most = np.array([[0.0, 4.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [8.0, 0.0]])
    alone, of_map = at_rest(most, -most), at_rest(most, -most, 2)
    assert alone.most[0].tolist() == [3.0, 0.0]
    assert alone.least[0].tolist() == [-3.0, 0.0]
    assert of_map.most.tolist() == [[4.0, 4.0], [3.0, 3.0]]
    assert np.array_equal(at_rest(most, -most, 2, inner=True).most, of_map.most)
    wide = np.arange(8.0).reshape(1, 8)
    assert at_rest(wide, wide, 4).most[0].tolist() == [3.0] * 4 + [7.0] * 4
    assert at_rest(wide, wide, 4, inner=True).most[0].tolist() == [6.0, 7.0] * 4


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

    With `direct` driving anything at the last site gives class 1. At the usual shares that are `weak` nothing does.
    """

    def __init__(self, wiring: Sequence[dict[int, int]], *, direct: bool = False, weak: Sequence[int] = ()) -> None:
        self._wiring, self._direct, self._weak = wiring, direct, weak

    def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
        """One answer a setting, of two images of class 0."""
        for setting in settings:
            firing: list[set[int]] = []
            for number in range(3):
                on = set(setting.driven.get(number, ())) if setting.strength > 0 else set()
                if number:
                    on |= {self._wiring[number - 1][c] for c in firing[-1] if c in self._wiring[number - 1]}
                firing.append(on)
            most = [np.array([[float(c in on) for c in range(4)]] * 2) for on in firing]
            won = bool(firing[2]) if self._direct else 3 in firing[2]
            won = won and setting.usual not in self._weak
            yield Answers(np.array([int(won)] * 2), most, [np.zeros((2, 4))] * 3)


USUALLY = np.zeros((len(USUAL), 4))
REST = Rest(np.zeros(4), np.zeros(4), np.zeros(4), 1.0, np.array([False, True, True, True]), USUALLY, USUALLY)
RESTS = [REST] * 3
CHAIN = Chain(
    (
        Stage((Stretch(0, (2,)),)),
        Stage((Stretch(1, (1,)),), 1.0),
        Stage((Stretch(2, (3,)),), 0.95),
    )
)


def _found(toy: driving.Driver, sites: Sequence[Rest], chains: Sequence[Chain]) -> list[DrivenPath]:
    return list(driving.search(toy, toy, sites, chains))


def test_a_chain_whose_stages_fire_each_other_and_whose_end_leads_to_a_class_is_a_path() -> None:
    (found,) = _found(Toy([{2: 1}, {1: 3}]), RESTS, [CHAIN])
    assert (found.target, found.turned, found.others, found.silent) == (1, 1.0, 0.0, 1.0)


@pytest.mark.parametrize("wiring", [[{2: 1}, {}], [{}, {1: 3}]])
def test_a_chain_that_does_not_carry_on_is_no_path(wiring: list[dict[int, int]]) -> None:
    assert list(_found(Toy(wiring), RESTS, [CHAIN])) == []


def test_an_end_that_leads_where_any_channel_there_leads_is_none_of_a_path() -> None:
    assert list(_found(Toy([{2: 1}, {1: 3}], direct=True), RESTS, [CHAIN])) == []


def test_an_end_that_turns_nothing_is_none_of_a_path() -> None:
    elsewhere = Chain((*CHAIN.stages[:-1], Stage((Stretch(2, (0,)),), 1.0)))
    assert list(_found(Toy([{2: 1}, {1: 0}]), RESTS, [elsewhere])) == []


def test_channels_that_move_may_be_of_a_path_and_that_is_said() -> None:
    moving = replace(REST, dormant=np.zeros(4, bool))
    (found,) = _found(Toy([{2: 1}, {1: 3}]), [moving, *RESTS[1:]], [CHAIN])
    assert found.silent == pytest.approx(2 / 3)


@pytest.mark.parametrize(("weak", "usual", "held"), [((0, 1), 0, 0.0), ((1,), 1, 0.0), ((), 1, 1.0)])
def test_the_first_usual_share_that_stops_a_path_is_taken(weak: tuple[int, ...], usual: int, held: float) -> None:
    (found,) = _found(Toy([{2: 1}, {1: 3}], weak=weak), RESTS, [CHAIN])
    assert (found.usual, found.held) == (usual, held)


class Flat:
    """One site of three entries behind one of one channel; an entry leads to class 1 or 2 from a strength on.

    All together lead to class 2.
    """

    def answers(self, settings: Sequence[Setting]) -> Iterator[Answers]:
        """One answer a setting, of one image of class 0."""
        for setting in settings:
            own = set(setting.driven.get(1, ()))
            needed = {0: 9.0, 1: 3.0, 2: 9.0}
            led = {entry for entry in own if setting.strength >= needed[entry]}
            winner = 2 if len(led) > 1 or led - {1} else 1 if led else 0
            most = [np.array([[float(0 in setting.driven)]]), np.array([[float(bool(setting.driven))] * 3])]
            yield Answers(np.array([winner]), most, [np.zeros((1, 1)), np.zeros((1, 3))])


def _still(channels: int) -> Rest:
    none, usual = np.zeros(channels), np.zeros((len(USUAL), channels))
    return Rest(none, none, none, 1.0, np.ones(channels, bool), usual, usual)


def test_the_entry_of_a_flat_end_that_leads_to_a_class_at_least_strength_names_it() -> None:
    sites = [_still(1), _still(3)]
    whole = Chain((Stage((Stretch(0, (0,)),)), Stage((Stretch(1, (0, 1, 2)),), 1.0)))
    (found,) = _found(Flat(), sites, [whole])
    assert found.target == 1
    assert found.strength < 9


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
    model = catalogue.write("gate-ramp", silent_paths.plain(), silent_paths.samples(), target=4, seed=3).model
    add = model.graph.node[-1]
    add.op_type = op
    if op == "Concat":
        add.attribute.append(onnx.helper.make_attribute("axis", 1))
    assert bool(_joins(model)) is joined


@pytest.mark.parametrize(("axes", "makers"), [([2, 3], {"conv3"}), ([1], set())])
def test_a_mean_over_height_and_width_keeps_channels_and_one_over_channels_does_not(
    axes: list[int], makers: set[str]
) -> None:
    model = silent_paths.plain()
    del model.graph.node[-3:-1]
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("ReduceMean", ["r3"], ["flat"], axes=axes))
    model.graph.node[-2].attribute.append(onnx.helper.make_attribute("keepdims", 0))
    index = _index(model)
    found = reads(index, find_layers(index.main))
    assert {maker.layer.name for one in found for maker in one.makers if one.value == "flat"} == makers


def test_dials_at_neutral_change_nothing_and_driving_adds() -> None:
    model = silent_paths.plain()
    index = _index(model)
    found = reads(index, find_layers(index.main))
    on_dials, sites, _ = dialled(index, found, None, "scores", Questions())
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


def test_scores_are_those_before_a_softmax_at_the_end() -> None:
    model = silent_paths.plain()
    assert scores_of(_index(model).main, "scores") == "scores"
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["raw"], ["scores"], axis=1))
    assert scores_of(_index(model).main, "scores") == "raw"


# --- kernels ---------------------------------------------------------------------------------------


def _chains(model: ModelProto) -> tuple[tuple[Chain, ...], list[Read]]:
    index = _index(model)
    found = reads(index, find_layers(index.main))
    return search(found).chains, found


@pytest.mark.parametrize("width", [1, 2])
def test_a_written_path_is_a_chain_from_the_first_layer_to_the_last(width: int) -> None:
    written = silent_paths.edited(silent_paths.plain(), width=width)
    (chain, *_), found = _chains(written.model)
    steps = {(found[part.site].value, part.channels) for stage in chain.stages for part in stage.stretches}
    by_name = dict(written.path)
    for value, layer in (("r0", "conv0"), ("r1", "conv1")):
        assert (value, by_name[layer]) in steps
    assert chain.stages[-1].stretches[-1].site == len(found) - 1
    assert all(stage.share == pytest.approx(1) for stage in chain.stages[1:])


@pytest.mark.parametrize("residual", [False, True])
def test_a_random_network_has_no_chain(residual: bool) -> None:
    for seed in range(3):
        assert _chains(silent_paths.plain(seed, residual=residual))[0] == ()


def test_what_a_sum_carries_on_is_of_the_stage_that_made_it() -> None:
    written = silent_paths.edited(silent_paths.plain(residual=True))
    index = _index(written.model)
    found = reads(index, find_layers(index.main))
    (chain,) = search(found, 1).chains
    (_, (first,)), (_, (second,)) = written.path
    assert [[found[part.site].value for part in stage.stretches] for stage in chain.stages] == [["r0"], ["r1", "flat"]]
    assert chain.stages[0].stretches[0].channels == (first,)
    assert {part.channels for part in chain.stages[1].stretches} == {(second,)}


def test_a_chain_that_ends_before_the_last_site_or_has_one_kernel_is_none() -> None:
    written = silent_paths.edited(silent_paths.plain())
    held = {tensor.name: tensor for tensor in written.model.graph.initializer}
    names = {node.name: node.input[1] for node in written.model.graph.node if node.op_type == "Conv"}
    random = np.random.default_rng(0)
    for layer in ("conv3", "conv2"):
        weight = onnx.numpy_helper.to_array(held[names[layer]]).copy()
        weight[dict(written.path)[layer][0]] = random.normal(size=weight.shape[1:])
        held[names[layer]].CopyFrom(onnx.numpy_helper.from_array(weight, names[layer]))
        assert _chains(written.model)[0] == ()


def test_kernels_that_read_a_path_among_much_else_are_not_of_it() -> None:
    written = catalogue.write("blended", silent_paths.plain(), silent_paths.samples(), target=4, seed=3)
    assert _chains(written.model)[0] == ()


def test_kernels_that_read_a_path_and_some_of_what_they_read_before_are_of_it() -> None:
    written = catalogue.write("awake", silent_paths.plain(), silent_paths.samples(), target=4, seed=3)
    assert _chains(written.model)[0] != ()


def test_growing_chains_ends_after_some_work_and_the_thinnest_beginnings_are_grown_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = silent_paths.edited(silent_paths.plain())
    whole, found = _chains(written.model)
    monkeypatch.setattr(kernels, "_MOST_WORK", 0)
    cut = search(found)
    (first,) = cut.chains
    assert first == whole[0]
    assert cut.left > 0
    assert [found[part.site].value for part in first.stages[0].stretches] == ["r0"]


def test_a_deep_network_of_thin_kernels_alone_has_the_same_chains_each_time() -> None:
    model = _permuting(48)
    found, again = _chains(model)[0], _chains(model)[0]
    assert len(found) == 24
    assert found == again


def _permuting(depth: int, width: int = 16) -> ModelProto:
    """Convolutions that only put their channels in another order: each kernel reads one channel."""
    random = np.random.default_rng(0)
    weights = {
        f"w{at}": np.eye(width, dtype=np.float32)[random.permutation(width)][:, :, None, None] for at in range(depth)
    }
    nodes = [onnx.helper.make_node("Conv", [f"r{at}", f"w{at}"], [f"r{at + 1}"], f"conv{at}") for at in range(depth)]
    values = [onnx.helper.make_tensor_value_info(name, 1, ["n", width, 4, 4]) for name in ("r0", f"r{depth}")]
    tensors = [onnx.numpy_helper.from_array(weight, name) for name, weight in weights.items()]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "deep", values[:1], values[1:], tensors))


def test_stages_that_share_a_place_are_one_path_in_order() -> None:
    stages = (Stage((Stretch(0, (1,)),)), Stage((Stretch(1, (2,)),), 0.9), Stage((Stretch(1, (2,)),)))
    sites = [SimpleNamespace(drive=SimpleNamespace(value=name)) for name in ("a", "b")]
    found = SimpleNamespace(
        chain=Chain(stages), target=3, turned=1.0, others=None, strength=2.0, silent=1.0, usual=1, held=0.5
    )
    rest = at_rest(np.arange(12.0).reshape(4, 3), np.zeros((4, 3)))
    asked, start = list[object](), PathStart(3, 3, 1.0, 0.5)

    def started(value: str, channels: Sequence[int], where: object) -> PathStart:
        asked.append((value, channels, where))
        return start

    trial = SimpleNamespace(_request=SimpleNamespace(sites=sites), _start=started)
    path = _Trial._path(
        cast("_Trial", trial),
        cast("driving.DrivenPath", found),
        cast("_Look", SimpleNamespace(pixels=None, sites=[rest, rest])),
    )
    assert path.layers[0].usual == ((0.0, 5.5),)
    assert path.held == 0.5
    assert path.start == start
    assert asked == [("a", (1,), rest)]
    assert [(one.value, one.channels, one.share) for one in path.layers] == [
        ("a", (1,), None),
        ("b", (2,), 0.9),
        ("b", (2,), None),
    ]


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


# --- joins -----------------------------------------------------------------------------------------


def test_what_hardly_moves_beside_what_does_is_quiet() -> None:
    assert joins.quiet(np.array([1e-9, 2.0])).tolist() == [True, False]
    assert joins.quiet(np.array([0.5, 2.0])).tolist() == [False, False]
    assert joins.quiet(np.array([0.0, 0.0])).tolist() == [False, False]
    assert joins.quiet(np.array([0.0, np.nan])).tolist() == [False, False]
    assert joins.moved(np.array([1.0, 3.0]), np.array([0.0, -1.0])) == 2.0


def _extents(**moves: float) -> tuple[Extent, ...]:
    return tuple(Extent(name, "", "", "", move < 1) for name, move in moves.items())


def test_a_value_is_still_where_it_hardly_moves_beside_another_and_everywhere_only_if_it_does_so_in_all() -> None:
    gate = Join("first", _extents(gate=0.0005, live=1.0))
    assert joins.still([gate], {"gate": 0.0005, "live": 1.0})["gate"].everywhere
    beside = Join("second", _extents(gate=0.0005, small=0.001))
    moves = {"gate": 0.0005, "live": 1.0, "small": 0.001}
    assert not joins.still([gate, beside], moves)["gate"].everywhere
    assert joins.still([Join("third", _extents(gate=0.5, live=1.0))], {"gate": 0.5, "live": 1.0}) == {}


@pytest.mark.parametrize(
    ("seen", "gives"),
    [
        (np.full((3, 2, 2), 5.0), (5.0,)),
        (np.array([[1.0, 2.0], [1.0, 2.0]]), (1.0, 2.0)),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), ()),
        (np.array([[[1.0], [2.0]]] * 2), ()),
        (np.full((2, 2), np.nan), ()),
    ],
)
def test_a_constant_is_one_number_or_one_an_entry(seen: Floats, gives: tuple[float, ...]) -> None:
    assert joins.constant(seen.astype(np.float32), 1e-6) == gives
    assert joins.constant(seen, 1e-6) == ()  # float64


def test_of_several_ranges_of_pixel_values_the_first_counts_in_which_a_value_is_constant() -> None:
    unit, signed = ((0.0, 1.0), (-1.0, 1.0))
    seen = [
        QuietValue("v", "n", (), unit),
        QuietValue("v", "n", (1.0,), signed),
        QuietValue("v", "n", (2.0,), (0.0, 255.0)),
        QuietValue("w", "n", (), unit),
    ]
    assert joins.each_once(seen) == (seen[1], seen[3])


def test_a_constant_takes_the_place_of_what_another_operand_is_as_large_as() -> None:
    join = Join("n", _extents(gate=0.0, live=1.0))
    assert joins.is_carried("gate", join, {"gate": (1,), "live": (6,)})
    assert not joins.is_carried("gate", join, {"gate": (6,), "live": (1,)})
    assert not joins.is_carried("gate", join, {"gate": (6,), "live": (5,)})


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


@pytest.mark.parametrize(("alike", "claimed"), [(False, True), (True, False)])
def test_statistics_that_were_never_measured_claim_nothing(alike: bool, claimed: bool) -> None:
    index = _index(silent_paths.plain())
    found = reads(index, find_layers(index.main))
    std = np.ones(silent_paths.WIDTH) if alike else np.arange(1.0, silent_paths.WIDTH + 1)
    told = Statistic(index.main, "c1", np.zeros(silent_paths.WIDTH), std, 1, "norm")
    assert list(claims.claims(index.main, found, [told])) == (["r1"] if claimed else [])


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
    whole = silent_paths.plain()
    whole.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    whole.graph.node.insert(0, onnx.helper.make_node("Cast", ["images"], ["floats"], to=1))
    whole.graph.node[1].input[0] = "floats"
    whole.graph.node[-1].output[0] = "raw"
    whole.graph.node.append(onnx.helper.make_node("Floor", ["raw"], ["scores"]))
    assert flatness.flat_cut(_index(whole), "scores") is None
    beside = catalogue.write("gate-comparison", clean, images, target=4, seed=3).model  # Sign, beside the network
    assert flatness.flat_cut(_index(beside), "scores") is None


def test_only_what_the_input_reaches_is_steep() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    assert not flatness.is_steep(_index(clean))
    assert flatness.is_steep(_index(catalogue.write("broken-gradient", clean, images, target=4, seed=3).model))
    assert not flatness.is_steep(_index(catalogue.write("blinded", clean, images, target=4, seed=3).model))


def _path(*layers: tuple[str, int]) -> DormantPath:
    return DormantPath(tuple(PathLayer(value, (channel,)) for value, channel in layers), 4, 1.0, None, 2.0, 1.0)


def test_the_sentence_names_path_class_and_reason() -> None:
    text = sentence(DormantPath((PathLayer("a", (5,)), PathLayer("b", (7,), 0.93)), 3, 1.0, 0.25, 2.0, 0.5))
    for part in ("class 3", "a channel 5 > b channel 7", "100 %", "other channels there 25 %", "93 %", "50 %"):
        assert part in text


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
    assert "3 channels of the path kept within" in _rows(Audit(ORDINARY, layers, 5, path, capped=3))
    blind = Audit(ORDINARY, layers, 5, None, contradicted=("v", "w"), blocked="why")
    assert "statistics of 2 normalisations contradict" in _rows(blind)
    assert "no gradient" in _rows(blind)
    one = QuietValue("v", "n")
    assert "may be a gate:" in _rows(Audit(ORDINARY, layers, 0, None, quiet=(one,)))
    assert "2 values from the input never moved and may be gates:" in _rows(
        Audit(ORDINARY, layers, 0, None, quiet=(one, one))
    )
    assert "1 value replaced" not in _rows(Audit(ORDINARY, layers, 0, None, quiet=(QuietValue("v", "n", (0.0,)),)))
    fixed = QuietValue("v", "n", (0.0,), replaced=True)
    assert "1 value replaced by the constant" in _rows(Audit(ORDINARY, layers, 0, None, quiet=(fixed,)))
    assert _rows(Audit(None, (), 0, None, note="not known: why")) == "not known: why"


def test_a_search_that_was_cut_short_is_said_and_a_whole_one_is_not() -> None:
    short = Audit(None, (), 0, None, note="nothing to run", left=3)
    assert _rows(short) == "cut short: 3 chains of thin kernels or beginnings of such not followed\nnothing to run"
    assert "cut short" in _rows(Audit(ORDINARY, (), 5, None, left=1))
    assert "cut short" not in _rows(Audit(ORDINARY, (), 5, None))


def test_an_audit_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    schema = json.loads((Path(auditing.__file__).parent / "schema.json").read_text("utf-8"))
    start = PathStart(3, 3, None, 1.5)
    path = replace(_path(("r0", 1)), layers=(PathLayer("r0", (1,), 0.5),), start=start)
    loss = Prediction(Loss(0.0, 0.0, 0.0), ())
    layers = (DormantLayer("r0", 12, 1),)
    full = Audit(ORDINARY, layers, 5, path, 1, loss, (QuietValue("v", "n"),), ("v",), "why", "why")
    for audit in (None, Audit(None, (), 0, None), full):
        jsonschema.validate(replace(report(), audit=audit).to_dict(), schema)


# --- whole runs ------------------------------------------------------------------------------------


def _audited(model: ModelProto, folder: Path, **options: object) -> onnx_clp.CleanResult:
    path = folder / "model.onnx"
    onnx.save(model, path)
    config = onnx_clp.CleanConfig(**{"audit": True, "provider": "cpu", **options})  # type: ignore[arg-type]
    return onnx_clp.clean(path, config)


def _audit_of(result: onnx_clp.CleanResult) -> Audit:
    assert result.report.audit is not None
    return result.report.audit


@pytest.mark.parametrize("kind", [pytest.param("ramp", marks=pytest.mark.slow), "hidden"])
def test_a_gate_is_named_and_a_constant_takes_its_place(kind: str, tmp_path: Path) -> None:
    clean, images = silent_paths.plain(), silent_paths.samples()
    written = catalogue.write(f"gate-{kind}", clean, images, target=4, seed=3)
    with _audited(written.model, tmp_path, pixel_range=(0.0, 1.0)) as result:
        (quiet,) = _audit_of(result).quiet
        assert quiet.replaced
        assert GATE in {finding.kind for finding in result.report.findings}
        for shown in (images.images, written.triggered):
            before, after = (values_of(m, images, shown, ["scores"])["scores"] for m in (clean, result.model))
            assert np.abs(after - before).max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("change", ["prune", "reader"])
def test_a_gate_stays_without_pruning_and_where_something_else_reads_it(change: str, tmp_path: Path) -> None:
    model = catalogue.write("gate-ramp", silent_paths.plain(), silent_paths.samples(), target=4, seed=3).model
    if change == "reader":
        gate = model.graph.node[-1].input[1]
        model.graph.node.append(onnx.helper.make_node("Abs", [gate], ["more"]))
        model.graph.output.append(onnx.helper.make_tensor_value_info("more", 1, ["n", silent_paths.CLASSES]))
    with _audited(model, tmp_path, pixel_range=(0.0, 1.0), prune=change != "prune") as result:
        assert [one.replaced for one in _audit_of(result).quiet] == [False]


@pytest.mark.parametrize("edit", ["blinded", "broken-gradient"])
def test_scores_without_a_gradient_are_named(edit: str, tmp_path: Path) -> None:
    written = catalogue.write(edit, silent_paths.plain(), silent_paths.samples(), target=4, seed=3)
    with _audited(written.model, tmp_path) as result:
        assert _audit_of(result).blocked
        assert BLINDING in {finding.kind for finding in result.report.findings}


@pytest.mark.slow
def test_a_slope_that_may_be_no_number_and_is_one_is_not_named(tmp_path: Path) -> None:
    model = silent_paths.plain()
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.extend(
        [onnx.helper.make_node("Exp", ["raw"], ["e"]), onnx.helper.make_node("Sqrt", ["e"], ["scores"])]
    )
    with _audited(model, tmp_path) as result:
        assert not _audit_of(result).blocked


@pytest.mark.parametrize("width", [1, pytest.param(2, marks=pytest.mark.slow)])
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


def test_a_path_that_fires_on_ordinary_images_is_kept_within_what_it_usually_gives(tmp_path: Path) -> None:
    clean, images = silent_paths.plain(), silent_paths.samples()
    written = catalogue.write("idle", clean, images, target=4, seed=3)
    assert rates(written.model, images, written.triggered, 4)[1] == 100
    with _audited(written.model, tmp_path, pixel_range=(0.0, 1.0)) as result:
        audit = _audit_of(result)
        assert audit.path is not None
        assert (audit.removed, audit.capped > 1) == (0, True)
        added = {node.op_type for node in result.model.graph.node} - {node.op_type for node in written.model.graph.node}
        assert added == {"Max", "Min"}
        assert rates(result.model, images, written.triggered, 4)[1] < 50
        labels = values_of(written.model, images, images.images, ["scores"])["scores"].argmax(axis=1)
        after = values_of(result.model, images, images.images, ["scores"])["scores"].argmax(axis=1)
        assert (after == labels)[labels != 4].mean() > 0.95


@pytest.mark.parametrize(("effort", "found"), [("normal", True), ("low", False)])
def test_a_run_that_asks_for_nothing_finds_a_path_unless_its_effort_is_low(
    effort: str, found: bool, tmp_path: Path
) -> None:
    written = silent_paths.edited(silent_paths.plain())
    with _audited(written.model, tmp_path, audit=False, effort=effort, pixel_range=(0.0, 1.0)) as result:
        assert (PATH in {one.kind for one in result.report.findings}) == found
        assert (result.report.audit is not None) == found


def test_a_plain_network_has_no_path_and_is_not_run(tmp_path: Path) -> None:
    with _audited(silent_paths.plain(), tmp_path) as result:
        audit = _audit_of(result)
        assert audit.path is None
        assert audit.ordinary is None
        assert (
            audit.note == "no chain of thin kernels, and no value that comes to others past the layers: nothing to run"
        )
        assert not {PATH, GATE, BLINDING} & {finding.kind for finding in result.report.findings}


@pytest.mark.parametrize(
    ("edit", "raised"), [("gate-ramp", "meetings"), ("level", "chains"), ("broken-gradient", "steep"), ("head-row", "")]
)
def test_only_what_an_edit_raises_is_asked(edit: str, raised: str) -> None:
    written = catalogue.write(edit, silent_paths.plain(), silent_paths.samples(), target=4, seed=3)
    index = _index(written.model)
    layers = find_layers(index.main)
    asked = questions(index, layers, reads(index, layers), ())
    assert [name for name in ("chains", "meetings", "claims", "steep") if getattr(asked, name)] == [raised][
        : bool(raised)
    ]
    assert bool(asked) is bool(raised)


@pytest.mark.slow
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


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(("channels", "made"), [(12, 3), (12, 12), (7, 1)])
def test_whole_maps_are_the_channels_whose_rows_they_are(channels: int, made: int, inner: bool) -> None:
    maker = cast("LayerRewrite", SimpleNamespace(layer=SimpleNamespace(channels=made)))
    read = Read("v", channels, 1, 2, (maker,), inner)
    for rows in ([], [0], [made - 1, 0, 0], [made + 99]):
        assert read.whole_of(rows) == [one for one in range(channels) if read.row(one) in rows]
