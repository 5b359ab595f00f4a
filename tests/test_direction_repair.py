"""Repair by caps on directions: on planted and real models, at the right sites, in one run with the other passes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnx_clp.cap.bound_directions import Site
from onnx_clp.cli.main import main
from onnx_clp.config import CleanConfig
from onnx_clp.document.gauge import Loss
from onnx_clp.document.run import CapLeft, Inversion, Picture, RepairedLayer, RepairReport, Report, SearchImages
from onnx_clp.errors import NotValidated
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.inversion.capped import Look, capped
from onnx_clp.inversion.ladder import joined
from onnx_clp.inversion.pace import Deadline, TimeUp
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.precision import in_single
from onnx_clp.inversion.program import OutOfMemory
from onnx_clp.inversion.repair import QUANTILES, Gauged, RepairBench, repair
from onnx_clp.inversion.request import Found, Images, Repair, SearchRequest
from onnx_clp.inversion.rounds import ROUNDS, Rounds
from onnx_clp.inversion.search import search
from onnx_clp.inversion.subject import Subject, read_subject
from onnx_clp.inversion.trigger import Trigger
from onnx_clp.inversion.walk import Trail, Walk
from onnx_clp.judge import head_check
from onnx_clp.layers.rewrite import LayerRewrite
from onnx_clp.modelfile import reader
from onnx_clp.numerics.directions import Direction
from onnx_clp.report import html, inverting, wording
from onnx_clp.report.advice import steps
from onnx_clp.run.analysis import analyse
from onnx_clp.run.candidates import candidates
from onnx_clp.run.effort import NO_SEARCH, Searched
from onnx_clp.run.folding import Place
from onnx_clp.run.searcher import suspects
from onnx_clp.validation.provider import Engine, choose
from tests import planted, reports

MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


@dataclass(frozen=True)
class Square:
    """A patch of given pixels: a form that was not searched for."""

    target: int
    mask: NDArray[np.bool_]
    values: NDArray[np.float32]
    flip: float = 1.0

    def put_on(self, images: Images) -> Images:
        """The images with the pixels set."""
        return np.where(self.mask, self.values, images).astype(np.float32)


def looked_at(path: Path, **options: Any) -> dict[str, Site | CapLeft]:
    """The candidates of a file by their values, as a run would find them."""
    found: dict[str, Site | CapLeft] = {}

    def looking(
        edit: GraphEdit, _folded: onnx.ModelProto | None, places: list[Place], _heads: object, _told: object
    ) -> Searched:
        found.update(candidates(edit.index, places))
        return NO_SEARCH

    with reader.read(path, 1 << 30) as file:
        analyse(file, CleanConfig(prune=False, validate=False, **options), lambda *_: None, search=looking)
    return found


def sites(path: Path, **options: Any) -> list[Site]:
    return [one for one in looked_at(path, **options).values() if isinstance(one, Site)]


def names(found: dict[str, Site | CapLeft]) -> set[str]:
    """The layers whose values were looked at."""
    return {one.layer if isinstance(one, Site) else one.name for one in found.values()}


# --- which values -------------------------------------------------------------------------------------


def test_every_convolution_but_the_first_and_what_the_head_reads() -> None:
    found = looked_at(MODELS / "resnet18_badnets.folded.onnx")
    convolutions = [n for n in onnx.load(MODELS / "resnet18_badnets.folded.onnx").graph.node if n.op_type == "Conv"]
    *others, last = found
    assert others == [n.output[0] for n in convolutions[1:]]
    head = found[last]
    assert isinstance(head, Site)
    assert (head.value, head.rank, head.channels) == (last, 2, 128)
    named = looked_at(MODELS / "resnet18_badnets.folded.onnx", exclude=("*layer4*", "*fc*"))
    assert names(found) - names(named) == {name for name in names(found) if "layer4" in name or "fc" in name}


def test_the_rows_of_the_head_are_looked_at_once_and_the_search_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    judged, given = list[head_check.Head](), list[head_check.Head]()

    def examine(rewrite: LayerRewrite) -> head_check.Head:
        judged.append(proper(rewrite))
        return judged[-1]

    def looking(
        _edit: object, _folded: object, _places: object, heads: Sequence[head_check.Head], _told: object
    ) -> Searched:
        given.extend(heads)
        return NO_SEARCH

    proper = head_check.examine
    monkeypatch.setattr(head_check, "examine", examine)
    with reader.read(MODELS / "resnet18_badnets.onnx", 1 << 30) as file:
        analyse(file, CleanConfig(validate=False), lambda *_: None, search=looking)
    assert len(judged) == 1
    assert [one.layer for one in given] == [judged[0].layer]
    assert suspects(given) == (0,)


@pytest.mark.parametrize("name", ["resnet18_badnets.tensorflow", "resnet18_badnets.jax"])
def test_other_exports_have_their_channels_on_axis_1_too(name: str) -> None:
    plain = sites(MODELS / "resnet18_badnets.folded.onnx")
    other = sites(MODELS / f"{name}.onnx")
    assert [(s.channels, s.rank) for s in other] == [(s.channels, s.rank) for s in plain]


def test_a_quantised_layer_is_left_with_the_reason(tmp_path: Path) -> None:
    nodes = (
        "<ir_version: 8, opset_import: ['' : 17]> q (float[n,3,9,9] x) => (float[n,5] y) "
        "<float[3,3,1,1] V = {1,0,0,0,1,0,0,0,1}, int8[3,3,1,1] Q = {1,0,0,0,1,0,0,0,1}, float s = {0.5}, "
        "float[3,5] H = {1,2,3,4,5,1,2,3,4,5,1,2,3,4,5}> "
        "{ a = Conv(x, V) r = Relu(a) W = DequantizeLinear(Q, s) b = Conv(r, W) t = Relu(b) "
        "g = GlobalAveragePool(t) f = Flatten(g) y = MatMul(f, H) }"
    ).replace("'", '"')
    onnx.save(onnx.parser.parse_model(nodes), tmp_path / "q.onnx")
    found = looked_at(tmp_path / "q.onnx")
    assert list(found) == ["b", "f"]
    assert isinstance(found["b"], CapLeft)
    assert "quantised" in found["b"].sentence
    assert isinstance(found["f"], Site)


# --- caps and gauges ----------------------------------------------------------------------------------


def real(count: int) -> tuple[Images, Square]:
    """Images of the zoo and its trigger, whose pixels are those that all triggered images share."""
    data = np.load(MODELS / "fashion-mnist_badnets_target0.npz")
    clean, marked = (data[name].astype(np.float32) for name in ("x_clean", "x_triggered"))
    if clean.max() > 1:
        clean, marked = clean / 255, marked / 255
    mask = (marked == marked[:1]).all(axis=0) & (clean.std(axis=0) > 0)
    return clean[:count], Square(0, mask, marked[0])


@pytest.mark.parametrize("name", ["resnet18_badnets.folded", "resnet18_badnets.tensorflow"])
def test_a_real_trigger_is_stopped_and_its_images_keep_their_classes(name: str, engine: Engine) -> None:
    path = MODELS / f"{name}.onnx"
    images, square = real(40)
    bench = RepairBench(read_subject(path, {}, None), engine, sites(path), images, 0, 0)
    before = bench.gauge({}, [square])
    caps = bench.fit([square], 0.95)
    after = bench.gauge(caps, [square])
    assert before.flip > 0.9
    assert before.agreement == 1.0
    assert after.flip < 0.1
    assert after.agreement > 0.85
    again = bench.fit([square], 0.95)
    assert [(f.direction.v == g.direction.v).all() for s in caps for f, g in zip(caps[s], again[s], strict=True)]
    assert all(f.beyond == pytest.approx(0.05, abs=0.01) for s in caps if s.rank == 4 for f in caps[s])


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model computing in float16 between two casts."""
    graph = model.graph
    for tensor in graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    graph.node[0].input[0], graph.node[-1].output[0] = "half", "narrow"
    graph.node.insert(0, onnx.helper.make_node("Cast", ["images"], ["half"], to=onnx.TensorProto.FLOAT16))
    graph.node.append(onnx.helper.make_node("Cast", ["narrow"], ["scores"], to=onnx.TensorProto.FLOAT))
    return model


def test_a_model_that_computes_in_float16_is_repaired_in_float32(tmp_path: Path, engine: Engine) -> None:
    onnx.save(in_half(planted.classifier(planted=True)), tmp_path / "m.onnx")
    found = [one for one in sites(tmp_path / "m.onnx") if one.value == "flat"]
    assert [(s.channels, s.rank, s.data_type) for s in found] == [(48, 2, onnx.TensorProto.FLOAT16)]
    mask, values = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], values[0, 3, 3] = True, 1.0
    square = Square(planted.TARGET, mask, values)
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    single = [in_single(site) for site in found]
    bench = RepairBench(subject, engine, single, planted.pictures(), planted.TARGET, 0)
    before = bench.gauge({}, [square]).flip
    caps = bench.fit([square], 0.99)
    after = bench.gauge(caps, [square])
    assert (before, len(caps)) == (1.0, 1)
    assert after.flip < 0.3
    assert after.agreement > 0.9
    model = bench.subject(caps).model
    assert {t.data_type for t in model.graph.initializer} == {onnx.TensorProto.FLOAT}
    onnx.checker.check_model(model, full_check=True)


def test_made_images_of_the_target_need_not_keep_their_class(tmp_path: Path, engine: Engine) -> None:
    """They may show the trigger itself, which is what goes; the user's own have to keep it."""
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    mask, values = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], values[0, 3, 3] = True, 1.0
    square = Square(planted.TARGET, mask, values)
    shown = np.concatenate([planted.pictures(), square.put_on(planted.pictures())[:4]])
    subject, agreement = read_subject(tmp_path / "m.onnx", {}, None), []
    for made in (True, False):
        bench = RepairBench(subject, engine, sites(tmp_path / "m.onnx"), shown, planted.TARGET, 0, (), made)
        agreement.append(bench.gauge(bench.fit([square], 0.85), [square]).agreement)
    assert agreement[0] == 1.0
    assert agreement[1] < 0.97


class Still:
    """A form that changes nothing."""

    target, flip = 0, 0.0

    def put_on(self, images: Images) -> Images:
        """The images as they are."""
        return images


def test_a_form_that_changes_nothing_gets_no_cap(tmp_path: Path, engine: Engine) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    bench = RepairBench(subject, engine, sites(tmp_path / "m.onnx"), planted.pictures(), planted.TARGET, 0)
    assert bench.fit([Still()], 0.9) == {}


@pytest.mark.parametrize("room", [40, 10, 0])
def test_where_memory_is_short_caps_are_fitted_on_fewer_images(
    room: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine
) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    found, subject = sites(tmp_path / "m.onnx"), read_subject(tmp_path / "m.onnx", {}, None)
    images, walked = planted.pictures(40), list[int]()
    mask, values = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], values[0, 3, 3] = True, 1.0
    bench = RepairBench(subject, engine, found, images, planted.TARGET, 0)

    def tight(trail: Trail, some: Images) -> Walk:
        walked.append(len(some))
        if len(some) > room:
            raise OutOfMemory("full")
        return Walk(trail, some)

    monkeypatch.setattr("onnx_clp.inversion.repair.Walk", tight)
    square = Square(planted.TARGET, mask, values)
    if room == 0:
        with pytest.raises(NotValidated, match="not enough memory for one image"):
            bench.fit([square], 0.95)
    else:
        assert bench.fit([square], 0.95)
    assert walked == {40: [40, 40], 10: [40, 20, 10, 10], 0: [40, 20, 10, 5, 2, 1]}[room]


def test_positions_are_few_and_the_same_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Engine) -> None:
    from onnx_clp.inversion import capped as module

    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    images = planted.pictures(60)
    look = Look(subject, "active", engine)
    everything = module.positions(look.parts(images), len(images), [0, 0])
    whole = look.all(images)
    assert everything.shape == (60 * 64, 12)
    assert (everything[:64] == whole[0].reshape(12, 64).T).all()
    monkeypatch.setattr(module, "_MOST_POSITIONS", 600)
    some = module.positions(look.parts(images), len(images), [0, 1])
    assert some.shape == (600, 12)
    assert (some == module.positions(look.parts(images), len(images), [0, 1])).all()
    assert (some != module.positions(look.parts(images), len(images), [0, 2])).any()
    rows = {row.tobytes() for row in everything[64 * 7 : 64 * 8]}
    assert {row.tobytes() for row in some[70:80]} <= rows


def test_a_look_computes_the_value_under_the_caps_before_it(tmp_path: Path, engine: Engine) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    images, site = planted.pictures(60), Site("normed", 12, 4, 1, "normed")
    plain = Look(subject, "normed", engine).all(images)
    limit = float(np.median(plain[:, 1]))
    one = Direction(np.eye(12)[1], np.eye(12)[1], -limit)
    cut = Look(capped(subject, {site: [one]}), "normed", engine).all(images)
    wanted = plain.copy()
    wanted[:, 1] = np.minimum(plain[:, 1], limit)
    assert np.abs(wanted - plain).max() > 0.01
    np.testing.assert_allclose(cut, wanted, atol=1e-5)
    assert (Look(subject, "normed", engine).all(images) == plain).all()
    scores = Look(capped(subject, {site: [one]}), subject.output, engine).all(images)
    assert np.abs(scores - Look(subject, subject.output, engine).all(images)).max() > 1e-3


# --- how far to go ------------------------------------------------------------------------------------


class Scripted:
    """A bench whose gauges are told by quantile; without caps the forms turn 0.9 of the images."""

    enough = 0.015

    def __init__(self, gauges: dict[float, tuple[float, float]]) -> None:
        self.sites, self.tried = [Site("a", 1, 4, 1, "a")], list[float]()
        self._gauges = gauges

    def fit(self, _forms: Any, quantile: float) -> dict[Any, Any]:
        self.tried.append(quantile)
        return {self.sites[0]: []}

    def gauge(self, caps: dict[Any, Any], _forms: Any) -> Gauged:
        return Gauged(*self._gauges[self.tried[-1]]) if caps else Gauged(0.9, 1.0)


def repaired(gauges: list[tuple[float, float]]) -> tuple[Repair | None, str, list[float], list[tuple[str, int, int]]]:
    """What a repair within a budget of 0.1 comes to, why there is none, the quantiles tried and the progress told."""
    later = gauges[-1:] * (len(QUANTILES) - len(gauges))
    bench: Any = Scripted(dict(zip(QUANTILES, gauges + later, strict=True)))
    ticks: list[tuple[str, int, int]] = []
    done, why = repair(bench, [[]], 0.1, lambda *tick: ticks.append(tick))
    return done, why, bench.tried, ticks


def chosen(gauges: list[tuple[float, float]]) -> tuple[float | None, list[float], str]:
    done, why, tried, _ = repaired(gauges)
    return None if done is None else done.report.quantile, tried, why


def test_the_mildest_quantile_that_stops_the_trigger_is_taken() -> None:
    first, second, *_ = QUANTILES
    assert chosen([(0.01, 0.99)]) == (first, [first], "")
    assert chosen([(0.3, 0.99), (0.01, 0.95), (0.0, 0.95)]) == (second, [first, second], "")


def test_a_repair_tells_its_gauges_and_its_progress() -> None:
    done, why, tried, ticks = repaired([(0.3, 0.99), (0.01, 0.95), (0.0, 0.95)])
    assert done is not None
    assert (done.report.flip_before, done.report.flip, done.report.agreement, why) == (0.9, 0.01, 0.95, "")
    assert [one.value for one in done.report.layers] == list(done.caps) == ["a"]
    assert ticks == [("repair", 1, 6), ("repair", 2, 6), ("repair", 1, 1)]
    assert len(tried) == 2


def test_where_none_stops_it_the_best_within_the_budget_is_taken_if_it_helps() -> None:
    third = QUANTILES[2]
    assert chosen([(0.9, 0.99), (0.6, 0.95), (0.4, 0.92), (0.0, 0.5)])[0] == third
    none, _, why = chosen([(0.9, 0.99), (0.6, 0.95), (0.6, 0.92), (0.0, 0.5)])
    assert none is None
    assert "still turns 60%" in why
    none, _, why = chosen([(0.0, 0.8)])
    assert none is None
    assert "kept 90%" in why
    assert "best kept 80%" in why


class Priced:
    """A bench on which caps cost so much a form, and stop everything."""

    enough = 0.015

    def __init__(self, each: float) -> None:
        self.sites, self.fits, self._each = [Site("a", 1, 4, 1, "a")], list[int](), each

    def subject(self, caps: dict[Any, Any]) -> Any:
        """The caps of the site."""
        return caps[self.sites[0]]

    def fit(self, forms: Any, _quantile: float, onto: Any = None) -> dict[Any, Any]:
        self.fits.append(len(forms))
        return {self.sites[0]: [*(onto or {}).get(self.sites[0], ()), *[1.0] * len(forms)]}

    def gauge(self, caps: dict[Any, Any], _forms: Any) -> Gauged:
        if not caps:
            return Gauged(0.9, 1.0)
        high = self._each * sum(caps[self.sites[0]])
        return Gauged(0.0, 1.0, Loss(high / 4, 0.0, high))


def undone(
    each: float, rungs: Any, counter: Any = None, left: Any = None, blind: bool = False
) -> tuple[float | None, list[int]]:
    """The upper end of the predicted loss, None where nothing is undone, and of every fit how many forms it had."""
    bench: Any = Priced(each)
    rounds = Rounds(bench, rungs[0], 0.08, left or Deadline(math.inf), counter, blind)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("onnx_clp.inversion.repair.told", lambda state, _before: state.gauged)
        done: Any = repair(bench, rungs, 0.08, lambda *_: None, None, rounds)[0]
    return None if done is None else done.loss.high, bench.fits


def test_what_is_too_dear_is_given_up() -> None:
    assert undone(0.05, [[1]]) == (0.05, [1])
    assert undone(0.1, [[1]]) == (None, [1])
    assert undone(0.02, [[1], [1] * 4]) == (0.08, [1, 4])
    assert undone(0.02, [[1], [1] * 5]) == (0.02, [1, 5])


def test_what_still_works_is_undone_in_rounds_behind_what_was_before() -> None:
    """Until nothing does, for so many rounds, or as far as the budget goes."""
    looks: list[int] = []

    def counter(caps: Any) -> list[int]:
        looks.append(len(caps))
        return [0] if looks[-1] < 3 else []

    assert undone(0.01, [[1]], counter) == (0.03, [1] * 3)
    assert looks == [1, 2, 3]
    assert undone(0.01, [[1], [1] * 2], lambda _: []) == (0.01, [1])
    assert undone(0.01, [[1], [1] * 2], lambda _: [], blind=True) == (0.02, [1, 2])
    assert undone(0.01, [[1], [1] * 2], lambda caps: [0] * (len(caps) < 2)) == (0.02, [1, 2])
    assert undone(0.001, [[1]], lambda _: [0])[1] == [1] * (1 + ROUNDS)
    assert undone(0.03, [[1]], lambda _: [0]) == (0.06, [1] * 3)
    assert undone(0.07, [[1]], lambda _: [0]) == (0.07, [1] * 2)


def test_rounds_end_where_time_does() -> None:
    def late(_caps: Any) -> list[int]:
        raise TimeUp

    assert undone(0.01, [[1]], late) == (0.01, [1])
    clock = iter([0.0, 1.0, 7.0, *[7.0] * 9])
    assert undone(0.001, [[1]], lambda _: [0], Deadline(10.0, lambda: next(clock)))[1] == [1] * 2


def test_caps_fitted_beside_photographs_leave_those_alone(tmp_path: Path, engine: Engine) -> None:
    """They reach further than the images, so that caps on the images alone cut them."""
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    mask, values = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], values[0, 3, 3] = True, 1.0
    square = Square(planted.TARGET, mask, values)
    shown = (3 * planted.pictures(40, 3)).astype(np.float32)
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    changed = []
    for beside in (None, shown):
        at = sites(tmp_path / "m.onnx")
        bench = RepairBench(subject, engine, at, planted.pictures(), planted.TARGET, 0, made=True, beside=beside)
        look = Look(bench.subject(bench.fit([square], 0.9)), subject.output, engine)
        changed.append(np.abs(look.all(shown) - Look(subject, subject.output, engine).all(shown)).mean())
    assert changed[1] < 0.8 * changed[0]


@dataclass(frozen=True)
class OnBright:
    """A form that works on bright images alone."""

    square: Square
    target: int = planted.TARGET
    flip: float = 1.0

    def put_on(self, images: Images) -> Images:
        """The images, with the square where their largest pixel is above 2."""
        bright = images.max(axis=(1, 2, 3), keepdims=True) > 2
        return np.where(bright, self.square.put_on(images), images)


def test_what_a_form_does_to_photographs_is_capped_as_well(tmp_path: Path, engine: Engine) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    mask, values = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], values[0, 3, 3] = True, 1.0
    form = OnBright(Square(planted.TARGET, mask, values))
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    dim = np.clip(planted.pictures(), None, 2).astype(np.float32)
    at = sites(tmp_path / "m.onnx")
    alone = RepairBench(subject, engine, at, dim, planted.TARGET, 0, made=True)
    assert alone.fit([form], 0.99) == {}
    shown = (3 + dim).astype(np.float32)
    beside = RepairBench(subject, engine, at, dim, planted.TARGET, 0, made=True, beside=shown)
    given = Look(subject, subject.output, engine).all(shown).argmax(axis=1)
    assert len(beside.beside) == np.count_nonzero(given != planted.TARGET)
    assert beside.fit([form], 0.99)


def test_caps_go_in_behind_those_there_are(tmp_path: Path, engine: Engine) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    mask, values = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], values[0, 3, 3] = True, 1.0
    square = Square(planted.TARGET, mask, values)
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    bench = RepairBench(subject, engine, sites(tmp_path / "m.onnx"), planted.pictures(), planted.TARGET, 0)
    first = bench.fit([square], 0.99)
    more = bench.fit([square], 0.9, first)
    assert all(more[site][: len(first[site])] == first[site] for site in first)
    assert sum(map(len, more.values())) > sum(map(len, first.values()))
    assert bench.fit([Still()], 0.9, first) == first


def test_one_image_that_still_turns_is_as_good_as_none(tmp_path: Path, engine: Engine) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    subject = read_subject(tmp_path / "m.onnx", {}, None)
    few = RepairBench(subject, engine, (), planted.pictures(30), planted.TARGET, 0)
    others = int((Look(subject, subject.output, engine).all(few.images).argmax(axis=1) != planted.TARGET).sum())
    assert few.enough == pytest.approx(1 / others)
    assert few.enough > 0.015


def test_a_patch_is_undone_together_with_the_form_that_stands_out_most() -> None:
    first, patch, moved_too = object(), object(), object()
    ladder: Any = joined(first, [[patch], [patch, moved_too]])  # type: ignore[arg-type,list-item]
    assert ladder == [[first], [first, patch], [first, patch, moved_too]]


def test_a_model_without_sites_says_so(tmp_path: Path, engine: Engine) -> None:
    onnx.save(planted.classifier(planted=True), tmp_path / "m.onnx")
    subject: Subject = read_subject(tmp_path / "m.onnx", {}, None)
    bench = RepairBench(subject, engine, (), planted.pictures(), planted.TARGET, 0)
    form = Trigger(planted.TARGET, np.ones((1, 8, 8), np.float32), 1.0, 1.0, Range(0, 1))
    found, why = repair(bench, [[form]], 0.1, lambda *_: None)
    assert found is None
    assert "no value that could take a cap" in why


# --- whole runs ---------------------------------------------------------------------------------------


def run(folder: Path, source: Path, target: str, *words: str) -> tuple[dict[str, Any], onnx.ModelProto]:
    np.savez(folder / "images.npz", images=planted.pictures(60))
    given = [str(source), str(folder / target), "--no-config", "--provider", "cpu", "--images"]
    given += [str(folder / "images.npz"), "--rule", "inverted", "--budget", "0.5", "--quiet"]
    assert main([*given, "--report", str(folder / "r.json"), *words]) == 0
    return json.loads((folder / "r.json").read_text()), onnx.load(folder / target)


def infected(folder: Path, *, planted_too: bool = True) -> Path:
    onnx.save(planted.classifier(planted=planted_too), folder / "m.onnx")
    return folder / "m.onnx"


def test_a_cleaned_model_runs_again_and_its_caps_stay(tmp_path: Path) -> None:
    report, model = run(tmp_path, infected(tmp_path), "one.onnx")
    caps = report["inversion"]["repair"]["directions"]
    assert caps >= 1
    assert (
        main([str(tmp_path / "one.onnx"), str(tmp_path / "plain.onnx"), "--no-config", "--layers", "all", "--quiet"])
        == 0
    )
    assert [n.op_type for n in onnx.load(tmp_path / "plain.onnx").graph.node] == [n.op_type for n in model.graph.node]
    again, twice = run(tmp_path, tmp_path / "one.onnx", "two.onnx")
    more = again["inversion"]["repair"]
    count = sum(n.op_type == "Sub" for n in twice.graph.node)
    assert count == caps + (0 if more is None else more["directions"])
    parts = [layer for layer in again["layers"] if "cap on a direction" in layer["reason"]]
    assert len(parts) == 2 * caps


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path, infected(tmp_path), "one.onnx")
    run(tmp_path, tmp_path / "m.onnx", "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_model_in_which_nothing_stands_out_is_written_as_it_came_but_folded(tmp_path: Path) -> None:
    report, model = run(tmp_path, infected(tmp_path, planted_too=False), "one.onnx")
    assert report["inversion"]["repair"] is None
    assert "nothing stands out" in report["inversion"]["repair_note"]
    assert [n.op_type for n in model.graph.node] == ["Conv", "Relu", "AveragePool", "Flatten", "Gemm"]


@pytest.mark.parametrize("limit", [0.0, 99.0], ids=["still-there", "undone"])
def test_channels_are_capped_too_where_the_trigger_is_still_there(
    tmp_path: Path, limit: float, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    def found(request: SearchRequest, tick: Any) -> Found:
        done = search(request, engine, tick)
        repair = done.inversion.repair
        assert repair is not None
        assert repair.z is not None
        return replace(done, inversion=replace(done.inversion, repair=replace(repair, stands_out=repair.z > limit)))

    monkeypatch.setattr("onnx_clp.inversion.launch.search", found)
    report, model = run(tmp_path, infected(tmp_path), "both.onnx", "--bound-activations", "3")
    kinds = [n.op_type for n in model.graph.node]
    on_channels = 1 if limit == 0 else 0
    assert report["caps"]["capped"] == on_channels
    said = [left["sentence"] for left in report["caps"]["left"]]
    assert len(said) == 1 - on_channels
    assert all("the search undid the trigger" in sentence for sentence in said)
    caps = report["inversion"]["repair"]["directions"]
    assert kinds.count("Sub") == caps
    assert kinds.count("Min") + kinds.count("Clip") == on_channels
    assert report["change"]["after"]["macs"] == report["change"]["before"]["macs"] + caps * 2 * 48


def test_channels_are_capped_where_no_class_stands_out(tmp_path: Path) -> None:
    onnx.save(planted.classifier(planted=False), tmp_path / "clean.onnx")
    report, model = run(tmp_path, tmp_path / "clean.onnx", "capped.onnx", "--bound-activations", "3")
    assert report["inversion"]["repair"] is None
    assert report["caps"]["capped"] == 1
    assert "Sub" not in {n.op_type for n in model.graph.node}


# --- the report ---------------------------------------------------------------------------------------


def told(report: RepairReport | None, note: str = "") -> Report:
    images = SearchImages("data", 4, 0, None, None, (Picture.of(np.zeros((1, 2, 2)), 0, 1),))
    return reports.report(inversion=Inversion("CPU", 4, images, (), 2, "class 2 is likely", report, note))


DONE = RepairReport(
    flip_before=0.95,
    flip=0.04,
    agreement=0.97,
    z=0.64,
    stands_out=False,
    loss=Loss(0.01, 0.002, 0.03),
    quantile=0.9,
    directions=3,
    layers=(RepairedLayer("c<1>", "v1", (0.1, 0.08), (2.5, -0.25)), RepairedLayer("fc", "v2", (0.1,), (7.0,))),
    left=(CapLeft("q", "its layer is quantised"),),
)


def test_words_and_page_tell_of_the_repair() -> None:
    text = " ".join(inverting.rows(told(DONE)))
    for part in (
        "3 directions capped at 2 places",
        "90.0 %",
        "95.0 %",
        " 4.0 %",
        "97.0 %",
        "such as q: its layer is",
        "once more, the class lies 0.6 standard deviations from the others and no longer stands out",
    ):
        assert part in text
    still = " ".join(inverting.rows(told(replace(DONE, z=5.1, stands_out=True))))
    assert "lies 5.1 standard deviations from the others: a trigger is still there" in still
    assert "no longer" not in still
    page = html.render(told(DONE))
    assert '<table id="directions">' in page
    for part in ("c&lt;1&gt;", "v2", "10.0 %, 8.0 %", "no cap: its layer is quantised"):
        assert part in page
    assert '<table id="directions">' not in html.render(told(None, "nothing stands out"))
    assert "no repair: nothing stands out" in " ".join(inverting.rows(told(None, "nothing stands out")))


def test_a_repaired_model_is_to_be_tested_next() -> None:
    repaired = replace(told(DONE), options={"prune": False, "repair": True})
    assert "test out.onnx on data of your own" in steps(repaired)[0].sentence
    assert steps(told(None))[0].sentence == "undo the trigger that was found"
    assert steps(replace(repaired, output=None))[0].sentence == "write the repaired model"


def test_the_headline_says_first_what_was_undone() -> None:
    repaired = replace(told(DONE), options={"prune": False, "repair": True})
    assert wording.headline(repaired).startswith(
        "suspicious: a trigger towards class 2 was found; trigger undone: it turned 95.0 % of the images, now 4.0 %"
    )
    still = replace(repaired, inversion=told(replace(DONE, stands_out=True)).inversion)
    assert "trigger capped and still there" in wording.headline(still)
    assert "undone" not in wording.headline(told(None))


def test_the_document_holds_every_site() -> None:
    text = json.loads(told(DONE).to_json())["inversion"]["repair"]
    assert text["layers"][0] == {"name": "c<1>", "value": "v1", "beyond": [0.1, 0.08], "shift": [2.5, -0.25]}
    assert text["left"] == [{"name": "q", "sentence": "its layer is quantised"}]
    assert (text["directions"], text["quantile"]) == (3, 0.9)
