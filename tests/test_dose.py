"""How far a run goes, end to end: what is switched off within a budget, what stays, and what is said of it."""

from __future__ import annotations

import itertools
import json
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnx_clp
from onnx_clp import CleanConfig, CleanResult, NotValidated, UsageError, validation
from onnx_clp.cli.arguments import parse
from onnx_clp.cli.main import main
from onnx_clp.document.run import Gauge, Loss, Ordinary, OutputChange, PrunedChannel, ValidationReport
from onnx_clp.file.store import TensorStore
from onnx_clp.gauge import child, ordinary, outputs, photographs, running, worker
from onnx_clp.gauge.bench import Bench
from onnx_clp.gauge.crops import crops
from onnx_clp.gauge.request import DialSetting, Dosed, DoseRequest, Wish
from onnx_clp.graph.model import ModelIndex
from onnx_clp.numerics.clipped import clipped_moments
from onnx_clp.process.progress import Tick
from onnx_clp.report import gauging
from onnx_clp.run.dose import Dose, WayOut
from onnx_clp.run.dosing import BUDGET, SUSPICIOUS_BUDGET, Dosing
from onnx_clp.run.effort import NO_SEARCH, Searched
from tests.forms.build import bn, model, rand
from tests.judging import OUTLIER, weight
from tests.validation_models import MEMORY

Array = NDArray[Any]

CHANNELS = 24
SIDE = 16
CONV = "c = Conv<pads=[1,1,1,1]>(x, w, b) "
NORM = "n = BatchNormalization(c, g, b1, m, v) r = Relu(n) "
HEAD = "z = Conv(r, w2) p = GlobalAveragePool(z) y = Flatten(p)"
ALL = ((0, 24),)
"""As many photographs at any size."""


def weights(reads: float = 0.0, channels: int = CHANNELS, inputs: int = 3) -> dict[str, Any]:
    """Channel 5 lies far out; the head reads it with weights of up to ±`reads`."""
    norm = bn(channels)
    head = rand(10, channels, 1, 1, seed=4)
    head[:, OUTLIER] = reads * np.linspace(-1, 1, 10)[:, None, None]
    return {
        "w": weight(channels, inputs, 3, 3),
        "b": rand(channels, seed=3),
        "w2": head,
        "b1": norm.pop("b"),
        **norm,
        "g": np.abs(norm["g"]),
    }


def network(reads: float = 0.0, body: str = CONV + NORM + HEAD, **facts: Any) -> ModelProto:
    """A classifier of ten classes whose channel 5 stands out; it costs nothing to lose where `reads` is 0."""
    given: dict[str, Any] = {"x": f"float[n,3,{SIDE},{SIDE}] x", "y": "float[n,10] y", "opset": 20, "ir": 10}
    given |= {name: value for name, value in weights(reads).items() if f" {name}" in body}
    return model(body, **{**given, **facts})()


PLAIN = CONV + "r = Relu(c) " + HEAD


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> list[DoseRequest]:
    """The gauge runs in this process on two dozen crops, and validation passes; the gauge's requests.

    What a child process adds is tested further below.
    """
    asked: list[DoseRequest] = []

    def dose(request: DoseRequest, _: Tick) -> Dosed:
        asked.append(request)
        return worker.dose(request, MEMORY, lambda _line: None)

    passed = ValidationReport("validated", "cpu", "CPUExecutionProvider", "", 1e-4, 0.0, None)
    monkeypatch.setattr(validation, "validate", lambda _: validation.Outcome(passed, None, (), ()), raising=False)
    monkeypatch.setattr(child, "dose", dose)
    monkeypatch.setattr(running, "limit_memory", lambda _: None)
    monkeypatch.setattr(ordinary, "_COUNTS", ALL)
    monkeypatch.setattr(ordinary, "load", loaded)
    monkeypatch.setattr(worker, "_FOR_HEIGHTS", 0)
    return asked


@pytest.mark.usefixtures("inside")
def test_heights_of_caps_are_chosen_on_more_photographs_as_far_as_these_take_no_more_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_FOR_HEIGHTS", 40)
    proto = unsure()

    def count(**options: Any) -> int:
        shown = gauge_of(cleaned(proto, **options)).ordinary
        assert shown is not None
        return shown.count

    usual = count()
    assert usual == count(bound_activations=3.0) < 40 == count(bound_activations=0.0)
    monkeypatch.setattr("onnx_clp.validation.macs.count", lambda *_: None)
    assert count(bound_activations=0.0) == 40
    monkeypatch.setattr(worker, "_WORK", 1.0)
    assert count(bound_activations=0.0) == usual


@lru_cache(maxsize=1)
def loaded() -> list[Array]:
    return list(photographs.load())


def cleaned(proto: ModelProto, **options: Any) -> CleanResult:
    return onnx_clp.clean(proto, CleanConfig(**{"provider": "cpu", **options}))


def gauge_of(result: CleanResult) -> Gauge:
    assert result.report.gauge is not None
    return result.report.gauge


def stood_out(result: CleanResult) -> list[PrunedChannel]:
    return [one for layer in result.report.layers for judgement in layer.judgements for one in judgement.pruned]


def kernels(result: CleanResult, name: str = "w") -> Array:
    (stored,) = [t for t in result.model.graph.initializer if t.name == name]
    return numpy_helper.to_array(stored)


# --- within the budget --------------------------------------------------------------------------------


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("body", [CONV + NORM + HEAD, PLAIN], ids=["normalised", "plain"])
def test_what_costs_nothing_goes(body: str) -> None:
    result = cleaned(network(body=body))
    assert result.report.summary.channels_pruned == 1
    assert result.report.summary.channels_kept == 0
    (channel,) = stood_out(result)
    assert (channel.channel, channel.kept) == (OUTLIER, False)
    assert channel.fill is not None
    assert not kernels(result)[OUTLIER].any()
    assert kernels(result).any(axis=(1, 2, 3)).sum() == CHANNELS - 1
    gauge = gauge_of(result)
    assert gauge.prediction is not None
    assert gauge.prediction.loss.high == 0
    assert (gauge.budget, gauge.evidence, gauge.whole, gauge.caps_asked, gauge.unreached) == (0.01, "", None, None, 0)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("body", [CONV + NORM + HEAD, PLAIN], ids=["normalised", "plain"])
def test_what_costs_more_than_the_budget_stays_and_a_larger_one_lets_it_go(body: str) -> None:
    proto = network(0.3, body)
    kept = cleaned(proto, pixel_range=(0, 1))
    assert (kept.report.summary.channels_pruned, kept.report.summary.channels_kept) == (1, 1)
    (channel,) = stood_out(kept)
    assert (channel.channel, channel.kept, channel.fill) == (OUTLIER, True, None)
    assert kernels(kept)[OUTLIER].any()
    gauge = gauge_of(kept)
    assert gauge.prediction is not None
    assert gauge.whole is not None
    assert gauge.prediction.loss.high <= gauge.budget < gauge.whole.loss.high < 1
    room = gauge.whole.loss.high
    gone = cleaned(proto, budget=room, pixel_range=(0, 1))
    assert gone.report.summary.channels_kept == 0
    assert not kernels(gone)[OUTLIER].any()
    assert gauge_of(gone).prediction == gauge.whole
    assert gauge_of(gone).budget == room
    assert cleaned(proto, budget=room * 0.999, pixel_range=(0, 1)).report.summary.channels_kept == 1


def several() -> ModelProto:
    """Four channels stand out, of which the head reads each more than the one before."""
    body, given = CONV + "r = Relu(c) " + HEAD, weights(channels=40)
    for place, at in enumerate((3, 9, 20, 31)):
        given["w"][at] *= 25
        given["w2"][:, at] = (0.002 * 5**place) * np.linspace(-1, 1, 10)[:, None, None]
    given["w"][OUTLIER] = given["w"][0]
    given = {name: given[name] for name in ("w", "b", "w2")}
    return model(body, x=f"float[n,3,{SIDE},{SIDE}] x", y="float[n,10] y", opset=20, ir=10, **given)()


@pytest.mark.usefixtures("inside")
def test_of_several_as_many_go_as_the_budget_allows() -> None:
    gone = {}
    for budget in (1e-6, 1e-3, 3e-3, 0.9):
        result = cleaned(several(), u=2.0, budget=budget)
        gone[budget] = {one.channel for one in stood_out(result) if not one.kept}
        gauge = gauge_of(result)
        assert gauge.prediction is not None
        assert gauge.prediction.loss.high <= budget
        assert {one.channel for one in stood_out(result)} == {3, 9, 20, 31}
        zero = {int(at) for at in np.flatnonzero(~kernels(result).any(axis=(1, 2, 3)))}
        assert zero == gone[budget]
    sets = list(gone.values())
    assert all(low <= high for low, high in itertools.pairwise(sets))
    assert sets[0] == set()
    assert sets[-1] >= {3, 9, 20}
    assert len({frozenset(one) for one in sets}) >= 2


@pytest.mark.usefixtures("inside")
def test_a_budget_of_1_measures_nothing_and_switches_everything_off(inside: list[DoseRequest]) -> None:
    result = cleaned(network(1.0), budget=1.0)
    assert inside == []
    assert result.report.summary.channels_kept == 0
    assert not kernels(result)[OUTLIER].any()
    gauge = gauge_of(result)
    assert (gauge.ordinary, gauge.prediction, gauge.budget) == (None, None, 1.0)


def test_where_nothing_stands_out_nothing_is_measured(inside: list[DoseRequest]) -> None:
    calm = network(w=rand(CHANNELS, 3, 3, 3))
    assert cleaned(calm).report.gauge is None
    assert cleaned(network(), prune=False).report.gauge is None
    assert inside == []


@pytest.mark.usefixtures("inside")
def test_the_same_run_gives_the_same_bytes() -> None:
    one, two = (cleaned(several(), u=2.0, budget=0.05) for _ in range(2))
    assert one.model.SerializeToString() == two.model.SerializeToString()
    assert one.report.gauge == two.report.gauge


# --- fills --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inside")
def test_a_channel_gives_what_its_normalisation_says_of_it() -> None:
    result = cleaned(network())
    (channel,) = stood_out(result)
    beta, gamma = (weights()[name].astype(np.float64) for name in ("b1", "g"))
    mean, _ = clipped_moments(beta, gamma, 0.0, np.inf)
    assert channel.fill == pytest.approx(mean[OUTLIER])
    bias = numpy_helper.to_array(next(t for t in result.model.graph.initializer if t.name == "b"))
    assert bias[OUTLIER] == pytest.approx(mean[OUTLIER], rel=1e-6)
    (zero,) = stood_out(cleaned(network(), fill="zero"))
    assert zero.fill == 0.0


@pytest.mark.usefixtures("inside")
def test_what_no_normalisation_tells_is_measured_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value before a dial, of all dials at once, and every image once."""
    asked: list[tuple[int, tuple[str, ...]]] = []
    plain = Bench.answers

    def answers(self: Bench, images: Any, dials: Any, wanted: Any = ()) -> Any:
        asked.append((len(images), tuple(wanted)))
        return plain(self, images, dials, wanted)

    monkeypatch.setattr(Bench, "answers", answers)
    body = CONV + "r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, w3, b) s = Relu(d) " + HEAD.replace("(r,", "(s,")
    given = {"w3": weight(CHANNELS, CHANNELS, 3, 3)}
    result = cleaned(network(1.0, body, **given))
    assert result.report.summary.channels_pruned == 2
    passes = [(count, names) for count, names in asked if len(names) == 2]
    assert sum(count for count, _ in passes) == 24
    assert len({names for _, names in passes}) == 1


@pytest.mark.usefixtures("inside")
def test_without_one_it_gives_what_it_gave_ordinary_images_behind_its_activation() -> None:
    proto = network(body=PLAIN)
    (channel,) = stood_out(cleaned(proto, pixel_range=(0, 0.5)))
    images = crops(loaded(), 24, SIDE, SIDE, 0) * np.float32(0.5)
    given = weights()
    wide = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
    values = np.einsum("nchwij,cij->nhw", seen, given["w"][OUTLIER], dtype=np.float64) + given["b"][OUTLIER]
    assert channel.fill == pytest.approx(np.maximum(values, 0).mean(), rel=1e-3)
    assert channel.fill != pytest.approx(values.mean(), rel=0.05)


# --- nothing runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "body", "fill"), [({}, PLAIN, 0.0), ({"fill": "zero"}, CONV + NORM + HEAD, 0.0)])
def test_without_validation_everything_goes_and_the_loss_is_not_known(
    options: dict[str, Any], body: str, fill: float, inside: list[DoseRequest]
) -> None:
    result = cleaned(network(1.0, body), validate=False, **options)
    assert inside == []
    (channel,) = stood_out(result)
    assert (channel.kept, channel.fill) == (False, fill)
    gauge = gauge_of(result)
    assert (gauge.ordinary, gauge.prediction, gauge.whole) == (None, None, None)


def test_without_validation_known_statistics_fill_all_the_same() -> None:
    (channel,) = stood_out(cleaned(network(1.0), validate=False))
    assert channel.fill is not None
    assert channel.fill > 0.1


@pytest.mark.parametrize("body", [CONV + NORM + HEAD, PLAIN], ids=["normalised", "plain"])
def test_the_paper_is_zeros_for_all_that_stands_out(body: str, tmp_path: Path, inside: list[DoseRequest]) -> None:
    proto = network(1.0, body)
    (tmp_path / "in.onnx").write_bytes(proto.SerializeToString())
    assert main([str(tmp_path / "in.onnx"), str(tmp_path / "paper.onnx"), "--paper", "--quiet"]) == 0
    assert inside == []
    wanted = cleaned(proto, validate=False, fill="zero", u=3.0, rule="paper").model
    assert onnx.load(tmp_path / "paper.onnx") == wanted
    bias = next(t for t in wanted.graph.initializer if t.name == "b")
    assert numpy_helper.to_array(bias)[OUTLIER] == 0


def test_paper_is_short_for_four_options() -> None:
    found = parse(["m.onnx", "--paper"]).config
    assert found == parse(["m.onnx", "--rule", "paper", "-u", "3", "--fill", "zero", "--budget", "1"]).config
    assert (found.rule, found.u, found.fill, found.budget) == ("paper", 3.0, "zero", 1.0)
    plain = parse(["m.onnx"]).config
    assert (plain.fill, plain.budget) == ("mean", None)
    assert parse(["m.onnx", "--paper", "--fill", "zero", "--budget", "1"]).config == found


@pytest.mark.parametrize("options", ["-u 2", "--rule mad", "--rule exact", "--budget 0.5"])
def test_what_contradicts_the_paper_is_refused(options: str) -> None:
    with pytest.raises(UsageError, match="--paper means"):
        parse(["m.onnx", "--paper", *options.split()])


@pytest.mark.parametrize("budget", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(UsageError, match="budget"):
        CleanConfig(budget=budget)


@pytest.mark.parametrize(("text", "caps"), [("auto", 0.0), ("2.5", 2.5)])
def test_caps_are_a_number_or_auto(text: str, caps: float) -> None:
    assert parse(["m.onnx", "--bound-activations", text]).config.bound_activations == caps


@pytest.mark.parametrize("text", ["0", "-1", "nan", "Auto", ""])
def test_other_caps_are_one_line_of_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["m.onnx", f"--bound-activations={text}"]) == 2
    assert "neither auto nor a number above 0" in capsys.readouterr().err


# --- what no dial reaches -----------------------------------------------------------------------------

INNER = "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) z = Conv(r, w2) p = GlobalAveragePool(z) "
NESTED = (
    "t = Constant<value = bool {1}>() y = If(t)<then_branch = one () => (o) { " + INNER + "o = Flatten(p) }, "
    "else_branch = two () => (q) { q = Constant<value = float[1,10] {0,0,0,0,0,0,0,0,0,0}>() }>"
)


@pytest.mark.parametrize("budget", [None, 1.0])
def test_a_nested_graph_is_not_reached(budget: float | None, inside: list[DoseRequest]) -> None:
    proto = network(1.0, NESTED, y="float[m,10] y")
    result = cleaned(proto, budget=budget)
    (channel,) = stood_out(result)
    assert channel.kept == (budget is None)
    assert gauge_of(result).unreached == (1 if budget is None else 0)
    assert gauge_of(result).prediction is None
    assert inside == []
    assert bool(kernels(result)[OUTLIER].any()) == (budget is None)


def test_a_local_function_is_not_reached_and_the_rest_is(inside: list[DoseRequest]) -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20, "own" : 1]> g (float[1,3,16,16] x) => (float[1,24,12,12] y) '
        "{ s = Conv(x, w) r = Relu(s) y = own.inner(r, k) } "
        '<domain: "own", opset_import: ["" : 20]> inner (u, k) => (q) { q = Conv(u, k) }'
    )
    proto = onnx.parser.parse_model(text)
    given = {"w": weight(CHANNELS, 3, 3, 3), "k": weight(CHANNELS, CHANNELS, 3, 3, outlier=2)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in given.items())
    result = cleaned(proto)
    assert len(inside) == 1
    assert [dial.switch.value for dial in inside[0].controls.dials] == ["s"]
    assert len(stood_out(result)) == 1 + gauge_of(result).unreached


def test_what_stays_unreached_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: list[Any]) -> None:
    (tmp_path / "in.onnx").write_bytes(network(1.0, NESTED, y="float[m,10] y").SerializeToString())
    assert main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--provider", "cpu"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "1 channel kept: what switching them off costs cannot be measured there" in words
    assert "0 pruned / 1 kept" in words
    assert inside == []


# --- caps ---------------------------------------------------------------------------------------------


def unsure() -> ModelProto:
    """The same network with scores so small that no class is ever sure."""
    return network(w2=weights()["w2"] * np.float32(0.02))


@pytest.mark.usefixtures("inside")
def test_caps_go_as_low_as_the_budget_allows() -> None:
    found = {}
    for budget in (1e-9, 0.005, 0.05, 0.999):
        result = cleaned(unsure(), bound_activations=0.0, budget=budget)
        found[budget] = result.report.caps
        gauge = gauge_of(result)
        assert gauge.prediction is not None
        assert gauge.prediction.loss.high <= budget
        assert gauge.caps_asked is None
    times = [caps.times for caps in found.values() if caps is not None]
    assert found[1e-9] is None
    assert times == sorted(times, reverse=True)
    assert len(set(times)) >= 2
    assert times[-1] == 2.0
    assert all(caps is None or caps.capped == 1 for caps in found.values())


@pytest.mark.usefixtures("inside")
def test_caps_that_were_asked_for_are_raised_or_left_out_where_they_cost_too_much() -> None:
    asked = cleaned(unsure(), bound_activations=0.5, budget=0.005)
    assert asked.report.caps is not None
    assert asked.report.caps.times > 0.5
    assert gauge_of(asked).caps_asked is not None
    assert gauge_of(asked).caps_asked.loss.high > 0.005  # type: ignore[union-attr]
    generous = cleaned(unsure(), bound_activations=0.5, budget=0.999)
    assert generous.report.caps is not None
    assert generous.report.caps.times == 0.5
    assert gauge_of(generous).caps_asked is None
    none = cleaned(unsure(), bound_activations=0.5, budget=1e-9)
    assert none.report.caps is not None
    assert none.report.caps.capped == 0
    assert "would cost more than the budget" in none.report.caps.left[0].sentence
    assert "Min" not in [node.op_type for node in none.model.graph.node]


@pytest.mark.usefixtures("inside")
def test_caps_without_pruning_are_measured_too() -> None:
    result = cleaned(unsure(), prune=False, bound_activations=0.5, budget=0.005)
    assert result.report.caps is not None
    assert result.report.caps.times > 0.5
    assert result.report.summary.channels_kept == 0
    assert kernels(result)[OUTLIER].any()


@pytest.mark.parametrize(
    ("explains", "fits", "budgets", "evidence"),
    [
        (True, 0.01, [0.01], ""),
        (False, 0.01, [0.02], "a head row"),
        (True, 0.02, [0.01, 0.02], "a path leads to a class"),
    ],
)
def test_a_path_that_explains_the_evidence_leaves_the_usual_budget_for_all_else(
    explains: bool, fits: float, budgets: list[float], evidence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Wish] = []

    def measured(*given: Any) -> Dose:
        asked.append(given[3])
        return Dose({}, None, path=(DialSetting("r", (0.0,), (0,) if asked[-1].budget >= fits else ()),))

    monkeypatch.setattr(Dosing, "_measured", measured)
    dosing = Dosing(ModelIndex(network(1.0), TensorStore()), CleanConfig(), ())
    way_out = WayOut(cast(Any, ["a switch"]), 3, (0, 255), explains)
    dose = dosing.decide((), cast(Any, lambda *_: None), "a head row", way_out)
    assert [wish.budget for wish in asked] == budgets
    assert {(wish.beside, wish.pixels, wish.caps) for wish in asked} == {(3, (0, 255), None)}
    assert (dose.evidence, dose.ends_path) == (evidence, True)


@pytest.mark.parametrize(
    ("evidence", "searched", "options", "budget"),
    [
        ("", NO_SEARCH, {}, BUDGET),
        ("a head row", NO_SEARCH, {}, SUSPICIOUS_BUDGET),
        ("a head row", Searched(named="class 5", spent=0.007), {}, SUSPICIOUS_BUDGET - 0.007),
        ("a head row", Searched(undone=True, spent=0.007), {}, BUDGET - 0.007),
        ("a head row", Searched(undone=True, spent=0.016), {}, 0.0),
        ("a head row", Searched(undone=True, spent=0.007), {"budget": 0.05}, 0.05 - 0.007),
    ],
)
def test_what_a_search_undid_is_no_reason_to_spend_more(
    evidence: str, searched: Searched, options: dict[str, Any], budget: float
) -> None:
    dosing = Dosing(ModelIndex(network(1.0), TensorStore()), CleanConfig(**options), ())
    assert dosing._wish(evidence, searched).budget == pytest.approx(budget)


@pytest.mark.parametrize(("named", "said"), [(None, "path"), ((0.0, 255.0), "option")])
def test_a_range_that_only_the_path_tells_is_said_to_be_the_paths(named: tuple[float, float] | None, said: str) -> None:
    wish = Wish(0.01, 3.0, pixels=(0.0, 255.0), beside=7)
    request = cast(DoseRequest, SimpleNamespace(pixels=named, wish=wish))
    found = worker._said(Ordinary("photographs", 24, "0..255", "option"), request)
    assert (found.told, found.beside) == (said, 7)
    assert worker._said(Ordinary("photographs", 24, "0..1", "statistics"), request).told == "statistics"


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(("off", "asked"), [((0,), [True]), ((), [True, True, False])])
def test_where_a_path_stays_caps_are_tried_as_without_one(
    off: tuple[int, ...], asked: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[bool, float | None, float]] = []

    def measured(*given: Any) -> Dose:
        wish, path = given[3], given[5]
        calls.append((bool(path), wish.caps, wish.budget))
        return Dose({}, None, path=(DialSetting("r", (0.0,), off),) if path else ())

    monkeypatch.setattr(Dosing, "_measured", measured)
    dosing = Dosing(ModelIndex(network(1.0), TensorStore()), CleanConfig(), ())
    dose = dosing.decide((), cast(Any, lambda *_: None), path=WayOut(cast(Any, ["a switch"]), 3))
    assert [path for path, *_ in calls] == asked
    assert [caps for _, caps, _ in calls] == [None, None, 0.0][: len(asked)]
    assert dose.cuts_path == bool(off)
    assert calls[-1][-1] == (0.01 if off else 0.02)


def test_made_up_signals_do_not_choose_the_height_of_caps() -> None:
    """A model of 6 pixels a side is no model of images to the gauge."""
    facts: dict[str, Any] = {"x": "float[1,3,6,6] x", "y": "float[1,10] y"}
    proto = network(w2=weights()["w2"] * np.float32(0.001), **facts)
    found = {caps: cleaned(proto, prune=False, bound_activations=caps, budget=0.5).report for caps in (0.0, 3.0)}
    for report in found.values():
        assert report.gauge is not None
        assert report.gauge.ordinary is not None
        assert report.gauge.ordinary.source == "noise"
    automatic, asked = found[0.0].caps, found[3.0].caps
    assert automatic is None or automatic.capped == 0
    assert asked is not None
    assert asked.capped == 1


@pytest.mark.usefixtures("inside")
def test_made_up_signals_are_not_taken_at_their_word_unless_a_budget_is_named() -> None:
    """They hear little of what real ones lose; what they do not hear at all goes."""
    facts: dict[str, Any] = {"x": "float[1,3,6,6] x", "y": "float[1,10] y"}
    little = network(0.003, **facts)
    kept = cleaned(little)
    gauge = gauge_of(kept)
    assert gauge.whole is not None
    assert 1e-5 < gauge.whole.loss.high < gauge.budget
    assert kept.report.summary.channels_kept == 1
    assert any("real ones may lose more" in row for row in gauging.rows(kept.report))
    assert cleaned(little, budget=0.01).report.summary.channels_kept == 0
    assert cleaned(network(0.0, **facts)).report.summary.channels_kept == 0


BLOCK = "c = Conv<pads=[1,1,1,1]>(x, w, b) n = BatchNormalization(c, g, b1, m, v) r = Relu(n) z = Conv(r, w2) "
CAPPED = (
    "t = Constant<value = bool {1}>() y = If(t)<then_branch = one () => (o) { "
    + BLOCK
    + "e = Relu(c) f = ReduceMean<keepdims = 0>(e) p = GlobalAveragePool(z) h = Flatten(p) o = Add(h, f) }, "
    "else_branch = two () => (q) { q = Constant<value = float[1,10] {0,0,0,0,0,0,0,0,0,0}>() }>"
)


@pytest.mark.usefixtures("inside")
def test_caps_where_nothing_can_be_measured_stay_out() -> None:
    proto = network(0.0, CAPPED, y="float[m,10] y", w=rand(CHANNELS, 3, 3, 3))
    found = {}
    for budget in (None, 1.0):
        caps = cleaned(proto, bound_activations=2.5, budget=budget).report.caps
        assert caps is not None
        found[budget] = caps
    assert found[1.0].capped == 1
    assert found[None].capped == 0
    assert "cannot be measured" in found[None].left[0].sentence


def test_evidence_allows_more_and_tries_caps_unasked(inside: list[DoseRequest]) -> None:
    """A class whose head row stands out."""
    rows = rand(10, CHANNELS, seed=6) * 0.1
    rows[3] = np.abs(rows[3]) * 40
    body = CONV + NORM + "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB = 1>(f, k)"
    proto = network(0.0, body, k=rows)
    result = cleaned(proto)
    assert any(finding.kind == "class that stands out" for finding in result.report.findings)
    gauge = gauge_of(result)
    assert gauge.budget == 0.02
    assert "3" in gauge.evidence
    assert inside[0].wish.caps == 0.0
    assert inside[0].wish.changed == 1.0
    assert gauge_of(cleaned(proto, budget=0.03)).budget == 0.03
    assert inside[1].wish.budget == 0.03
    calm = cleaned(network(0.0, body, k=rand(10, CHANNELS, seed=6)))
    assert gauge_of(calm).budget == 0.01
    assert inside[2].wish.caps is None
    assert inside[2].wish.changed == 0.02


def undecided() -> ModelProto:
    """Two classes are close, and on two photographs of 24 the channel that stands out decides between them."""
    given = weights()
    head = given["w2"]
    head[0] = head[1] = 2 * np.abs(head[0])
    head[0, OUTLIER], head[1, OUTLIER + 1] = 0.1, head[1, OUTLIER + 1] + 0.2
    body = CONV + NORM + HEAD
    return model(body, x=f"float[n,3,{SIDE},{SIDE}] x", y="float[n,10] y", opset=20, ir=10, **given)()


def test_where_nothing_is_suspicious_answers_stay_too(inside: list[DoseRequest]) -> None:
    kept = cleaned(undecided(), pixel_range=(0, 1))
    assert inside[0].wish.changed == 0.02
    gauge = gauge_of(kept)
    assert gauge.whole is not None
    assert gauge.whole.loss.high < gauge.budget == 0.01
    assert gauge.whole.outputs[0].changed == pytest.approx(2 / 24)
    assert kept.report.summary.channels_kept == 1
    assert any("but 8.3 % of the classes change" in row for row in gauging.rows(kept.report))
    gone = cleaned(undecided(), budget=0.045, pixel_range=(0, 1))
    assert inside[1].wish.changed == 0.09
    assert gone.report.summary.channels_kept == 0
    assert not any("of the classes change" in row for row in gauging.rows(gone.report))


# --- sweeps -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inside")
def test_a_sweep_predicts_every_threshold_without_a_budget() -> None:
    result = cleaned(several(), u=2.0, sweep=(0.5, 2.0, 2.2, 30.0), budget=1e-6)
    assert result.report.sweep is not None
    losses = [point.prediction for point in result.report.sweep.points]
    assert all(one is not None for one in losses)
    shares = [one.loss.share for one in losses if one is not None]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert shares[-1] == 0
    assert losses[1] == gauge_of(result).whole
    assert gauge_of(result).prediction != gauge_of(result).whole


@pytest.mark.usefixtures("inside")
def test_a_layer_too_small_at_the_runs_threshold_counts_at_a_lower_one() -> None:
    given = {name: weights(1.0, 9)[name] for name in ("w", "b", "w2")}
    proto = model(PLAIN, x="float[n,3,16,16] x", y="float[n,10] y", opset=20, ir=10, **given)()
    result = cleaned(proto, u=3.0, sweep=(2.0, 3.0))
    assert result.report.summary.channels_too_small == 9
    assert result.report.sweep is not None
    low, high = (point.prediction for point in result.report.sweep.points)
    assert low is not None
    assert high is not None
    assert low.loss.share > 0
    assert high.loss.share == 0


# --- images and their values --------------------------------------------------------------------------


def pictures(folder: Path, count: int = 6, **arrays: Any) -> Path:
    path = folder / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (count, 3, SIDE, SIDE)).astype(np.uint8)
    np.savez(path, **(arrays or {"images": images}))
    return path


def test_the_users_images_take_the_photographs_place(tmp_path: Path, inside: list[DoseRequest]) -> None:
    found = gauge_of(cleaned(network(1.0), images=pictures(tmp_path)))
    assert found.ordinary is not None
    assert (found.ordinary.source, found.ordinary.count, found.ordinary.pixels) == ("data", 6, "")
    assert inside[0].images == tmp_path / "images.npz"
    other = gauge_of(cleaned(network(1.0)))
    assert other.ordinary is not None
    assert (other.ordinary.source, other.ordinary.count) == ("photographs", 24)
    assert other.whole != found.whole


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"other": np.zeros((2, 3, SIDE, SIDE), np.uint8)}, "no array named"),
        ({"images": np.zeros((2, 3, SIDE, 9), np.uint8)}, "the model takes"),
        ({"images": np.full((2, 3, SIDE, SIDE), np.nan, np.float32)}, "finite|NaN"),
        ({"images": np.zeros((0, 3, SIDE, SIDE), np.uint8)}, "holds no image"),
        ({"images": np.zeros((2, 3, SIDE, SIDE), np.int64)}, "int64"),
    ],
)
def test_images_that_do_not_fit_are_refused(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        cleaned(network(1.0), images=pictures(tmp_path, **arrays))


def test_the_range_that_is_named_holds_for_photographs_and_images(tmp_path: Path, inside: list[DoseRequest]) -> None:
    named = gauge_of(cleaned(network(1.0), pixel_range=(0, 255)))
    assert named.ordinary is not None
    assert (named.ordinary.pixels, named.ordinary.told) == ("0..255", "option")
    assert inside[0].pixels == (0, 255)
    found = gauge_of(cleaned(network(1.0)))
    assert found.ordinary is not None
    assert found.ordinary.told == "statistics"
    assert inside[1].pixels is None
    assert named.whole != found.whole
    unit = gauge_of(cleaned(network(1.0), pixel_range=(0, 1)))
    assert unit.ordinary is not None
    assert (unit.ordinary.pixels, unit.ordinary.told) == ("0..1", "option")
    images = np.random.default_rng(0).integers(0, 256, (6, 3, SIDE, SIDE))
    bytes_ = gauge_of(cleaned(network(1.0), images=pictures(tmp_path, x=images.astype(np.uint8)), pixel_range=(-1, 1)))
    plain = (images / 255 * 2 - 1).astype(np.float32)
    floats = gauge_of(cleaned(network(1.0), images=pictures(tmp_path, x=plain), pixel_range=(-1, 1)))
    assert bytes_.whole is not None
    assert floats.whole is not None
    assert bytes_.whole.loss.share == pytest.approx(floats.whole.loss.share, rel=1e-3)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(("body", "ways"), [(PLAIN, 3), (CONV + NORM + HEAD, 1)], ids=["three", "one"])
def test_of_pixel_values_that_are_as_likely_those_count_that_cost_most(
    body: str, ways: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one of them can be the model's; photographs in the others would water its loss down."""
    images, costs = [], itertools.cycle([0.1, 0.5, 0.2][:ways])

    def changes(before: Any, after: Any, *_: Any, **__: Any) -> tuple[OutputChange, ...]:
        images.append(len(before["y"]))
        return outputs.changes(before, after)

    monkeypatch.setattr(worker, "outputs", SimpleNamespace(changes=changes, by_place=outputs.by_place))
    monkeypatch.setattr(worker, "predicted", lambda *_, **__: Loss(next(costs), 0.0, 1.0))
    whole = gauge_of(cleaned(network(1.0, body))).whole
    assert whole is not None
    assert whole.loss.share == (0.5 if ways == 3 else 0.1)
    assert max(images) == 24 // ways
    assert len(images) % ways == 0


# --- other models -------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "probabilities": (HEAD.replace("y = Flatten(p)", "f = Flatten(p) y = Softmax(f)"), {}, "classes", "photographs"),
    "masks": ("z = Conv(r, w2) y = Sigmoid(z)", {"y": "float[n,10,16,16] y"}, "values", "photographs"),
    "embedding": (HEAD.replace("y = Flatten", "f = Flatten") + " y = LpNormalization(f)", {}, "values", "photographs"),
    "class numbers": (
        HEAD.replace("y = Flatten(p)", "f = Flatten(p) y = ArgMax<axis = 1>(f)"),
        {"y": "int64[n,1] y"},
        "discrete",
        "photographs",
    ),
    "batch of one": (HEAD, {"x": "float[1,3,16,16] x", "y": "float[1,10] y"}, "classes", "photographs"),
    "batch of four": (HEAD, {"x": "float[4,3,16,16] x", "y": "float[4,10] y"}, "classes", "photographs"),
    "batch of five": (HEAD, {"x": "float[5,3,16,16] x", "y": "float[5,10] y"}, "classes", "photographs"),
    "two inputs": (
        "q = Add(r, k) z = Conv(q, w2) p = GlobalAveragePool(z) y = Flatten(p)",
        {"x": "float[1,3,16,16] x, float[1,24,1,1] k", "y": "float[1,10] y"},
        "classes",
        "photographs",
    ),
    "small": (HEAD, {"x": "float[1,3,6,6] x", "y": "float[1,10] y"}, "classes", "noise"),
}


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_measured_in_their_own_terms(name: str) -> None:
    head, facts, kind, source = OTHERS[name]
    found = cleaned(network(0.3 if kind == "discrete" else 3.0, CONV + "r = Relu(c) " + head, **facts))
    gauge = gauge_of(found)
    assert found.report.summary.channels_kept == 1
    assert gauge.ordinary is not None
    assert gauge.ordinary.source == source
    assert gauge.whole is not None
    assert gauge.whole.outputs[0].kind == kind
    assert gauge.whole.loss.high > 0.01
    harmless = cleaned(network(0.0, CONV + "r = Relu(c) " + head, **facts))
    assert harmless.report.summary.channels_kept == 0


@pytest.mark.usefixtures("inside")
def test_the_members_of_a_sequence_are_outputs_of_their_own() -> None:
    proto = network(3.0, PLAIN, x="float[1,3,16,16] x", y="float[1,10] y")
    proto.graph.node.append(onnx.helper.make_node("SequenceConstruct", ["y", "r"], ["s"]))
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, None))
    whole = gauge_of(cleaned(proto)).whole
    assert whole is not None
    assert [(one.output, one.kind) for one in whole.outputs] == [("s[0]", "classes"), ("s[1]", "values")]
    assert whole.loss.high > 0.01


@pytest.mark.usefixtures("inside")
def test_a_batch_of_any_size_gives_the_same_prediction() -> None:
    found = {}
    for size in ("n", "1", "4", "5"):
        proto = network(1.0, PLAIN, x=f"float[{size},3,16,16] x", y=f"float[{size},10] y")
        whole = gauge_of(cleaned(proto)).whole
        assert whole is not None
        found[size] = whole.loss.share
    assert list(found.values()) == pytest.approx([found["n"]] * 4, rel=1e-4)


@pytest.mark.usefixtures("inside")
def test_a_model_that_mixes_its_images_is_fed_one_at_a_time() -> None:
    head = "z = Conv(r, w2) p = GlobalAveragePool(z) f = Flatten(p) y = ReduceMean<keepdims = 1>(f, axes)"
    proto = network(1.0, CONV + "r = Relu(c) " + head, y="float[1,10] y", axes=np.array([0]))
    alone = network(1.0, PLAIN, x="float[1,3,16,16] x", y="float[1,10] y")
    mixed, plain = (gauge_of(cleaned(one)).whole for one in (proto, alone))
    assert mixed is not None
    assert plain is not None
    assert mixed.loss.share == pytest.approx(plain.loss.share, rel=1e-4)


def test_open_sizes_are_those_that_are_named(inside: list[DoseRequest]) -> None:
    proto = network(1.0, PLAIN, x="float[n,3,h,w_] x")
    result = cleaned(proto, shapes={"x": (1, 3, 20, 12)})
    assert gauge_of(result).ordinary is not None
    assert inside[0].limits.shapes == {"x": (1, 3, 20, 12)}
    assert result.report.summary.channels_kept == 1


@pytest.mark.usefixtures("inside")
def test_a_type_the_runtime_has_no_kernel_for_is_measured_on_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_FEW", 3)
    given = {name: np.asarray(value).astype(np.float64) for name, value in weights(1.0).items()}
    given = {name: given[name] for name in ("w", "b", "w2")}
    proto = model(PLAIN, x="double[1,3,9,9] x", y="double[1,10] y", dtype="double", opset=20, ir=10, **given)()
    result = cleaned(proto)
    gauge = gauge_of(result)
    assert gauge.ordinary is not None
    assert gauge.ordinary.count == 3
    assert result.report.summary.channels_kept == 1


# --- the child process --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A real run's output and report."""
    folder = tmp_path_factory.mktemp("dose")
    (folder / "in.onnx").write_bytes(several().SerializeToString())
    words = [str(folder / "in.onnx"), str(folder / "out.onnx"), "-u", "2", "--budget", "0.1", "--provider", "cpu"]
    assert main([*words, "--quiet", "--report", str(folder / "r.json")]) == 0
    found: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return folder, found


def test_a_real_run_measures_in_a_child_process_and_leaves_nothing_behind(real: tuple[Path, dict[str, Any]]) -> None:
    folder, document = real
    assert sorted(path.name for path in folder.iterdir()) == ["in.onnx", "out.onnx", "r.json"]
    assert document["validation"]["outcome"] == "validated"
    assert "gauge" in document["seconds"]
    gauge = document["gauge"]
    assert gauge["ordinary"]["count"] == 144
    assert gauge["prediction"]["loss"]["high"] <= 0.1 < gauge["whole"]["loss"]["high"]


def test_what_a_real_run_says_it_kept_is_what_it_kept(real: tuple[Path, dict[str, Any]]) -> None:
    folder, document = real
    channels = document["layers"][0]["judgements"][0]["pruned"]
    assert {one["channel"] for one in channels} == {3, 9, 20, 31}
    gone = {one["channel"] for one in channels if not one["kept"]}
    weight_ = next(t for t in onnx.load(folder / "out.onnx").graph.initializer if t.name == "w")
    zero = np.flatnonzero(~numpy_helper.to_array(weight_).any(axis=(1, 2, 3)))
    assert set(zero.tolist()) == gone
    assert 0 < len(gone) < 4
    assert document["summary"]["channels_kept"] == 4 - len(gone)
    assert all((one["fill"] is None) == one["kept"] for one in channels)


def test_clean_does_what_the_command_does(real: tuple[Path, dict[str, Any]]) -> None:
    folder, document = real
    result = cleaned(onnx.load(folder / "in.onnx"), u=2.0, budget=0.1)
    assert result.model == onnx.load(folder / "out.onnx")
    assert json.loads(result.report.to_json())["gauge"] == document["gauge"]


def test_a_gauge_that_runs_out_of_time_is_one_line() -> None:
    with pytest.raises(NotValidated, match="its loss could not be predicted"):
        cleaned(network(1.0), timeout=0.01)
