"""Undoing a trigger where no statistics tell how real images are distributed: what caps are fitted on, and how low."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnx_clp.cap.bound_directions import Site
from onnx_clp.document.gauge import Loss
from onnx_clp.gauge.request import Landmark
from onnx_clp.inversion import values
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.ladder import around_block
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.repair import Gauged, RepairBench
from onnx_clp.inversion.request import SearchRequest
from onnx_clp.inversion.stock import MOST, stock
from onnx_clp.inversion.subject import read_subject
from onnx_clp.inversion.thorough import QUANTILES, thorough, unguided, wide_bench
from onnx_clp.validation.provider import Engine, choose
from tests import planted
from tests.test_direction_repair import Square, looked_at

UNIT = Range(0.0, 1.0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("cpu")


def dense(scale: float = 1.0, *, gate: bool = False) -> ModelProto:
    """The planted model with its normalisation folded and a fully connected layer, an identity, before its head.

    It takes pixels up to `scale`. With `gate` that layer scales what the head reads.
    """
    model = planted.classifier(planted=True)
    graph = model.graph
    held = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    del graph.node[1], graph.initializer[:]
    held["kernel"] = held["kernel"] / np.float32(scale)
    held["shift"], held["inner"] = held["beta"], np.eye(48, dtype=np.float32)
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in held.items() if k in _KEPT)
    graph.node[0].input.append("shift")
    graph.node[1].input[0] = "raw"
    ending = [helper.make_node("Relu", ["dense"], ["read"], "relu2")]
    if gate:
        sides = ["gates", "flat"]
        ending = [helper.make_node("Sigmoid", ["dense"], ["gates"]), helper.make_node("Mul", sides, ["read"])]
    for node in (helper.make_node("Gemm", ["flat", "inner"], ["dense"], "fc", transB=1), *ending):
        graph.node.insert(len(graph.node) - 1, node)
    graph.node[-1].input[0] = "read"
    onnx.checker.check_model(model)
    return model


_KEPT = ("kernel", "shift", "inner", "head", "bias")


def stored(folder: Path, model: ModelProto) -> Path:
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def trigger() -> Square:
    mask, pixels = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), np.float32)
    mask[0, 2:5, 2:5], pixels[0, 3, 3] = True, 1.0
    return Square(planted.TARGET, mask, pixels)


# --- where ------------------------------------------------------------------------------------------------


def test_what_a_fully_connected_layer_gives_takes_caps(tmp_path: Path) -> None:
    found = looked_at(stored(tmp_path, dense()))
    assert found == {"dense": Site("dense", 48, 2, 1, "fc", dense=True), "read": Site("read", 48, 2, 1, "head")}


def test_a_gate_and_a_layer_that_is_excluded_take_none(tmp_path: Path) -> None:
    path = stored(tmp_path, dense())
    assert "dense" not in looked_at(path, exclude=("fc",))
    assert "dense" not in looked_at(stored(tmp_path, dense(gate=True)))


def test_only_images_without_statistics_and_such_a_layer_are_unguided() -> None:
    within, without = ((Site("a", 4, 2, 1, "fc", dense),) for dense in (True, False))
    asked = [SearchRequest(original=Path("m.onnx"), sites=sites) for sites in (within, without)]
    assert [unguided(request, "classes") for request in asked] == [True, False]
    assert not unguided(asked[0], "statistics")
    assert not unguided(asked[0], "data")


# --- on what ----------------------------------------------------------------------------------------------


def test_caps_are_fitted_on_other_pictures_than_their_loss_is_predicted_on() -> None:
    made = np.ones((20, 3, 32, 32), np.float32) * np.linspace(0, 0.95, 20, dtype=np.float32)[:, None, None, None]
    made = np.asarray(made, np.float32)
    found = stock(made, np.arange(20) % 5 == 0, UNIT, 0)
    assert found.fitted.shape == (MOST, 3, 32, 32)
    shown, held = found.held
    assert (held == made[10:]).all()
    fitted = {image.tobytes() for image in found.fitted}
    assert not fitted & {image.tobytes() for image in (*shown, *held)}
    # Of the made ones the first half is mixed, but for those of the target.
    assert found.fitted[: MOST // 3].max() <= made[9].max()
    assert found.fitted[: MOST // 3].min() >= made[1].min() - 1e-6


def test_pictures_are_few_where_they_are_large_and_of_their_range() -> None:
    large = np.zeros((4, 3, 512, 512), np.float32)
    assert 3 <= len(stock(large, np.zeros(4, bool), UNIT, 0).fitted) < 30
    found = stock(np.full((8, 1, 28, 28), 9.0, np.float32), np.zeros(8, bool), Range(0.0, 255.0), 0, 60)
    assert len(found.fitted) == 60
    assert found.fitted.max() > 200
    again = stock(np.full((8, 1, 28, 28), 9.0, np.float32), np.zeros(8, bool), Range(0.0, 255.0), 0, 60)
    assert (again.fitted == found.fitted).all()


def test_images_of_two_channels_are_mixed_among_themselves_alone() -> None:
    found = stock(np.ones((8, 2, 16, 16), np.float32), np.ones(8, bool), UNIT, 0, 30)
    assert (len(found.fitted), len(found.held)) == (10, 1)


# --- how far ----------------------------------------------------------------------------------------------


class Scripted:
    """A bench whose flip, upper end of the loss and margin are told by the rung's first mark and the quantile."""

    enough = 0.015

    def __init__(self, gauges: dict[tuple[str, float], tuple[float, float, float]], taken: float) -> None:
        self._gauges, self.taken, self.tried = gauges, taken, list[tuple[str, float]]()

    def fit(self, forms: Any, quantile: float) -> dict[Any, Any]:
        self.tried.append((forms[0], quantile))
        return {Site("a", 1, 2, 1, "fc"): []}

    def gauge(self, caps: dict[Any, Any], _forms: Any) -> Gauged:
        if not caps:
            return Gauged(0.9, 1.0)
        flip, high, margin = self._gauges.get(self.tried[-1], (0.9, 1.0, 9.0))
        return Gauged(flip, 1.0, Loss(high / 4, 0.0, high), margin)


def undone(gauges: dict[tuple[str, float], tuple[float, float, float]]) -> tuple[float | None, list[tuple[str, float]]]:
    """The quantile taken within a budget of 0.06, and what was tried on rungs a and b."""
    bench: Any = Scripted(gauges, 0.89)
    marks: Any = [["a"], ["b"]]
    found, _ = thorough(bench, marks, 0.06, lambda *_: None)
    return (None if found is None else found.report.quantile), bench.tried


def test_the_rung_and_the_quantile_that_leave_least_within_the_budget_are_taken() -> None:
    first, second, third, *_ = QUANTILES
    told = {("a", first): (0.4, 0.01, 1.0), ("a", second): (0.3, 0.05, 1.0), ("a", third): (0.0, 0.07, 1.0)}
    half = (second + third) / 2
    quantile, tried = undone(told)
    assert (quantile, tried[:4]) == (second, [("a", first), ("a", second), ("a", third), ("a", half)])
    assert tried[4:] == [("b", first), ("b", (1 + first) / 2)]
    assert undone({**told, ("a", half): (0.2, 0.055, 1.0)})[0] == half
    assert undone({**told, ("b", first): (0.1, 0.06, 1.0)})[0] == first
    assert undone({("a", first): (0.0, 0.07, 1.0)})[0] is None


def test_what_turns_nothing_any_more_is_pushed_on_as_far_as_the_budget_goes() -> None:
    first, second, third, *_ = QUANTILES
    told = {("a", first): (0.01, 0.001, -1.0), ("a", second): (0.0, 0.06, -2.0), ("a", third): (0.0, 0.07, -3.0)}
    quantile, tried = undone(told)
    assert quantile == second
    assert tried[:3] == [("a", first), ("a", second), ("a", third)]
    assert undone({**told, ("b", first): (0.01, 0.05, -2.5)})[0] == first
    assert undone({**told, ("b", first): (0.1, 0.05, -2.5)})[0] == second


def test_of_what_is_about_as_far_the_cheapest_is_taken() -> None:
    first, second, third, *_ = QUANTILES
    told = {("a", second): (0.0, 0.03, -1.9), ("a", third): (0.0, 0.05, -2.0)}
    assert undone({("a", first): (0.01, 0.01, -1.89), **told})[0] == second
    assert undone({("a", first): (0.01, 0.01, -1.91), **told})[0] == first
    assert undone({("a", first): (0.02, 0.01, -1.91), **told})[0] == second  # still turns some


def test_nothing_is_undone_where_photographs_are_all_of_the_target() -> None:
    """What is foreign to the model is of that class; photographs then show no loss of another."""
    bench: Any = Scripted({("a", QUANTILES[0]): (0.0, 0.0, -1.0)}, 0.9)
    marks: Any = [["a"]]
    found, why = thorough(bench, marks, 0.06, lambda *_: None)
    assert (found, bench.tried) == (None, [])
    assert why.startswith("90% of the photographs")


def test_the_share_of_ordinary_images_that_are_of_the_target_is_known(tmp_path: Path, engine: Engine) -> None:
    subject = read_subject(stored(tmp_path, dense()), {}, None)
    images, marked = planted.pictures(20), trigger().put_on(planted.pictures(20))
    for ordinary, share in (((images, marked), 1.0), ((), 0.0)):
        assert RepairBench(subject, engine, (), images, planted.TARGET, 0, ordinary).taken == share


def test_caps_are_not_fitted_beside_images_of_the_target(tmp_path: Path, engine: Engine) -> None:
    """The trigger may have brought them there, and caps would let through what they show."""
    subject = read_subject(stored(tmp_path, dense()), {}, None)
    images, marked = planted.pictures(20), trigger().put_on(planted.pictures(20))
    site = Site("dense", 48, 2, 1, "fc", dense=True)

    def fitted(beside: Any) -> float:
        bench = RepairBench(subject, engine, [site], images, planted.TARGET, 0, beside=beside)
        return bench.fit([trigger()], 0.99)[site][0].direction.offset

    alone, with_marked, with_others = fitted(None), fitted(marked), fitted(np.concatenate([images[:3] * 0.5, marked]))
    assert with_marked == alone
    assert with_others != alone


def test_a_block_and_the_patch_that_began_there_are_undone_each_and_together() -> None:
    change = np.zeros((1, 32, 32), np.float32)
    change[0, 3, 3] = 1.0
    patch = Patch(2, change, 0.95, 1.0, UNIT)
    block = patch.of(2 * change)
    assert (block.target, block.area) == (2, 2.0)
    first, second, third, fourth = around_block(patch, block)
    assert (first, second, third) == ([patch], [block], [patch, block])
    assert [one.area for one in fourth if isinstance(one, Patch)] == [2.0] * 5


def test_a_planted_trigger_is_stopped_within_the_budget_and_nothing_else_changes(
    tmp_path: Path, engine: Engine
) -> None:
    subject = read_subject(stored(tmp_path, dense()), {}, None)
    sites = (Site("dense", 48, 2, 1, "fc", dense=True), Site("read", 48, 2, 1, "head"))
    request = SearchRequest(original=tmp_path / "m.onnx", sites=sites)
    bench = wide_bench(subject, engine, request, planted.pictures(60), planted.TARGET, UNIT, 300)
    assert [site.value for site in bench.sites] == ["dense"]
    found, why = thorough(bench, [[trigger()]], 0.06, lambda *_: None)
    assert found is not None, why
    assert found.report.flip_before == 1.0
    assert found.report.flip < 0.1
    assert found.report.loss.high <= 0.06
    assert list(found.caps) == ["dense"]


# --- in which pixel values --------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "expected"), [(1.0, (0.0, 1.0)), (255.0, (0.0, 255.0))])
def test_without_statistics_the_class_scores_tell_the_scale(
    scale: float, expected: tuple[float, float], tmp_path: Path, engine: Engine
) -> None:
    subject = read_subject(stored(tmp_path, dense(scale)), {}, None)
    attack = Attack(subject, engine)
    told = SearchRequest(original=tmp_path / "m.onnx", landmark=Landmark("raw", (), ()))
    found = values.in_its_values(told, subject, attack, engine)
    assert (found.low, found.high) == expected
    assert found.landmark is None


def test_statistics_tell_the_range_and_what_was_asked_for_stays(tmp_path: Path, engine: Engine) -> None:
    path = stored(tmp_path, dense())
    subject = read_subject(path, {}, None)
    attack = Attack(subject, engine)
    asked = SearchRequest(original=path, low=-3.0, high=7.0)
    assert values.in_its_values(asked, subject, attack, engine) is asked
    raw = {(low, high): _moments(subject, engine, low, high) for low, high in ((0.0, 255.0), (0.0, 1.0))}
    for ends, (mean, std) in raw.items():
        told = SearchRequest(original=path, landmark=Landmark("raw", mean, std))
        found = values.in_its_values(told, subject, attack, engine)
        assert (found.low, found.high) == ends


@pytest.mark.parametrize(("images", "expected"), [("scaled", (0.0, 1.0)), ("bytes", (0.0, 255.0))])
def test_scaled_images_of_the_users_say_their_range_and_bytes_do_not(
    images: str, expected: tuple[float, float], tmp_path: Path, engine: Engine
) -> None:
    subject = read_subject(stored(tmp_path, dense(255.0)), {}, None)
    shown = planted.pictures(20)
    np.savez(tmp_path / "i.npz", images=shown if images == "scaled" else (255 * shown).astype(np.uint8))
    told = SearchRequest(original=tmp_path / "m.onnx", images=tmp_path / "i.npz", landmark=Landmark("raw", (), ()))
    found = values.in_its_values(told, subject, Attack(subject, engine), engine)
    assert (found.low, found.high) == expected
    assert found.landmark is None


def _moments(subject: Any, engine: Engine, low: float, high: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the first convolution on photographs in low..high, by channel."""
    from onnx_clp.inversion.capped import Look
    from onnx_clp.inversion.ordinary import photographs

    shown = photographs((1, 8, 8), Range(low, high), 1)
    assert shown is not None
    seen = Look(subject, "raw", engine).all(shown).astype(np.float64)
    return tuple(seen.mean(axis=(0, 2, 3)).tolist()), tuple(seen.std(axis=(0, 2, 3)).tolist())
