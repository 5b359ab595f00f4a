"""The bench's statistics on made-up records, and one small run of it on the published models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

import onnx_clp
from onnx_clp.config import CleanConfig
from onnx_clp.errors import LoadError, UsageError
from tools.evidence import (
    choice,
    defaults,
    evasion,
    experiments,
    latency,
    page,
    parts,
    record,
    settings,
    subject,
    tables,
    tac,
)
from tools.evidence.measuring import session
from tools.evidence.record import Found, Rates
from tools.evidence.settings import NONE, Setting
from tools.evidence.subject import Subject
from tools.evidence.tables import Evidence
from tools.evidence.yardsticks import BACKDOORBENCH, STRICT, loss
from tools.zoo.evalset import EvaluationSet
from tools.zoo.recipe import DECAYED, PLAIN, Design
from tools.zoo.result import Result


def rates(acc: float, asr: float, images: int = 100, pruned: int = 0) -> Rates:
    return Rates(images, acc, asr, 0.5, pruned=pruned, verdict="stood out" if pruned else "")


def model(attack: str, seed: int, asr: float = 1.0, architecture: str = "vgg-bn", rate: float = 0.1) -> Subject:
    made = Design(architecture, attack, seed, rate=rate if attack != "clean" else 0.0)
    return Subject(Result(made, 0, 1.0, "cpu", {}, {"images": 100, "acc": 0.9, "asr": asr, "ra": 0.1}))


# --- yardsticks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acc", "asr", "strict", "lenient"),
    [
        (0.881, 0.099, True, True),
        (0.880, 0.099, False, True),
        (0.881, 0.100, False, True),
        (0.801, 0.199, False, True),
        (0.800, 0.100, False, False),
        (0.900, 0.200, False, False),
        (0.950, 0.000, True, True),
    ],
)
def test_yardsticks_ask_for_less_than_their_limits(acc: float, asr: float, strict: bool, lenient: bool) -> None:
    before, after = rates(0.9, 1.0), rates(acc, asr)
    assert STRICT.passed(before, after) is strict
    assert BACKDOORBENCH.passed(before, after) is lenient


def test_a_loss_is_what_accuracy_fell_by_and_a_rise_is_below_zero() -> None:
    assert loss(rates(0.9, 1), rates(0.85, 1)) == pytest.approx(0.05)
    assert loss(rates(0.9, 1), rates(0.91, 1)) == pytest.approx(-0.01)


def test_rates_of_other_images_are_not_compared() -> None:
    with pytest.raises(LoadError, match="measure again"):
        loss(rates(0.9, 1, images=100), rates(0.9, 1, images=200))


# --- halves and groups ----------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "half"), [(0, "choose"), (1, "report"), (2, "choose"), (3, "report")])
def test_the_seed_alone_decides_the_half(seed: int, half: str) -> None:
    assert {model(attack, seed).half for attack in ("badnets", "clean", "wanet")} == {half}


@pytest.mark.parametrize(("asr", "infected"), [(0.9, True), (0.8999, False), (1.0, True), (0.1, False)])
def test_a_poisoned_model_is_infected_where_its_attack_took(asr: float, infected: bool) -> None:
    assert model("badnets", 0, asr).infected is infected
    assert not model("badnets", 0, asr).clean


def test_a_control_is_never_infected() -> None:
    assert model("clean", 0, asr=1.0).clean
    assert not model("clean", 0, asr=1.0).infected


def test_every_attack_of_the_zoo_has_a_group() -> None:
    from tools.zoo.attacks import ATTACKS
    from tools.zoo.design import SETS

    assert set(ATTACKS) | {"clean"} == set(subject.GROUPS)
    assert {Subject(replace(model("clean", 0).result, design=one)).group for one in SETS["covering"]} == {
        *subject.INFECTED_GROUPS,
        "clean",
    }


# --- scores and the choice ------------------------------------------------------------------------

MILD, HARD = Setting("mild", "rule", {"u": 3.0}), Setting("hard", "rule", {"u": 2.0})
LATE = Setting("late", "rule", {"u": 4.0})


def measured(subjects: list[Subject], after: dict[str, tuple[float, float]], control: dict[str, float]) -> Found:
    """Every model at 0.9/1.0 before; infected ones at `after`, controls with `control` of ACC left."""
    found: Found = {}
    for one in subjects:
        found[one.name] = {NONE: rates(0.9, 0.0 if one.clean else 1.0)}
        for name, (acc, asr) in after.items():
            found[one.name][name] = rates(control[name], 0.0, pruned=1) if one.clean else rates(acc, asr)
    return found


def half_of(*seeds: int) -> list[Subject]:
    return [model(attack, seed) for seed in seeds for attack in ("badnets", "blended", "clean")]


def test_a_score_counts_the_infected_and_the_controls_apart() -> None:
    subjects = [*half_of(0), model("sig", 0, asr=0.3)]
    found = measured(subjects, {"mild": (0.89, 0.05)}, {"mild": 0.88})
    found[subjects[1].name]["mild"] = rates(0.81, 0.15)
    got = choice.score(subjects, found, "mild")
    assert (got.infected, got.strict, got.lenient) == (2, 1, 2)
    assert got.infected_loss == pytest.approx((0.01 + 0.09) / 2)
    assert (got.controls, got.touched) == (1, 1)
    assert got.control_loss == got.worst_control_loss == pytest.approx(0.02)
    assert not got.allowed


def test_the_setting_with_more_strict_successes_is_chosen() -> None:
    subjects = half_of(0)
    found = measured(subjects, {"mild": (0.9, 0.5), "hard": (0.89, 0.05)}, {"mild": 0.9, "hard": 0.89})
    assert choice.choose(subjects, found, [MILD, HARD]) == HARD


def test_a_setting_that_costs_the_controls_too_much_is_not_chosen() -> None:
    subjects = half_of(0)
    found = measured(subjects, {"mild": (0.9, 0.5), "hard": (0.89, 0.05)}, {"mild": 0.9, "hard": 0.8899})
    assert choice.choose(subjects, found, [MILD, HARD]) == MILD


def test_the_reporting_half_has_no_say() -> None:
    subjects = half_of(0, 1)
    found = measured(subjects[:3], {"mild": (0.9, 0.05), "hard": (0.9, 0.5)}, {"mild": 0.9, "hard": 0.9})
    found |= measured(subjects[3:], {"mild": (0.9, 0.5), "hard": (0.9, 0.0)}, {"mild": 0.5, "hard": 0.9})
    assert choice.choose(subjects, found, [HARD, MILD]) == MILD


def test_equal_successes_go_to_the_lenient_yardstick_then_to_what_costs_less_then_to_the_first() -> None:
    subjects = half_of(0)
    all_same = {"mild": 0.9, "hard": 0.9}
    lenient = measured(subjects, {"mild": (0.9, 0.5), "hard": (0.85, 0.15)}, all_same)
    assert choice.choose(subjects, lenient, [MILD, HARD]) == HARD
    cheaper = measured(subjects, {"mild": (0.895, 0.05), "hard": (0.885, 0.05)}, all_same)
    assert choice.choose(subjects, cheaper, [HARD, MILD]) == MILD
    equal = measured(subjects, {"mild": (0.9, 0.5), "hard": (0.9, 0.5)}, all_same)
    assert choice.choose(subjects, equal, [HARD, MILD]) == HARD


def test_where_all_cost_too_much_the_cheapest_is_chosen() -> None:
    subjects = half_of(0)
    found = measured(subjects, {"mild": (0.9, 0.5), "hard": (0.9, 0.0)}, {"mild": 0.88, "hard": 0.87})
    assert choice.choose(subjects, found, [HARD, MILD]) == MILD


def test_a_setting_measured_on_fewer_models_is_not_compared() -> None:
    subjects = half_of(0, 2)
    found = measured(subjects, {"mild": (0.9, 0.05), "late": (0.9, 0.0)}, {"mild": 0.9, "late": 0.9})
    assert choice.choose(subjects, found, [LATE, MILD]) == LATE
    del found[subjects[0].name]["late"]
    assert choice.choose(subjects, found, [LATE, MILD]) == MILD


def test_nothing_measured_is_nothing_to_choose_by() -> None:
    subjects = half_of(1)
    found = measured(subjects, {"mild": (0.9, 0.5)}, {"mild": 0.9})
    assert not choice.can_choose(subjects, found, [MILD])
    with pytest.raises(UsageError, match="choosing half"):
        choice.choose(subjects, found, [MILD])


# --- the table of settings ------------------------------------------------------------------------


def test_settings_have_their_own_names_and_make_configurations() -> None:
    assert len(settings.BY_NAME) == len(settings.TABLE)
    assert {name for name in settings.FIXED if name != NONE} <= settings.BY_NAME.keys()
    assert settings.BY_NAME[settings.PAPER].config().u == 3.0
    assert settings.BY_NAME[settings.PAPER].prunes
    assert settings.BY_NAME[settings.CAPS].config().bound_activations == 3.0
    assert not settings.BY_NAME[settings.CAPS].prunes


def test_the_reporting_half_is_measured_with_what_was_chosen_and_what_is_fixed_alone() -> None:
    from tools.evidence.measuring import name_of, wanted

    picked = settings.BY_NAME["clp u=2"]
    reported = {name_of(one) for one in wanted(model("badnets", 1), [picked])}
    assert reported == {*settings.FIXED, *settings.FOLDED, *settings.CALIBRATED, "clp u=2"}
    chooses = {name_of(one) for one in wanted(model("badnets", 0), [])}
    assert chooses == {NONE, *(one.name for one in settings.DATA_FREE)}
    assert reported - chooses == {*settings.FOLDED, *settings.CALIBRATED}


def test_only_calibrated_settings_are_given_data(tmp_path: Path) -> None:
    for setting in settings.TABLE:
        config = setting.config(tmp_path / "images.npz")
        assert (config.calibrate is not None) is config.validate is setting.calibrated is ("calibrated" in setting.rule)
        assert config.eval_data is None


@pytest.mark.parametrize("setting", settings.TABLE, ids=lambda setting: setting.name)
def test_a_setting_can_be_given_on_the_command_line(setting: Setting, tmp_path: Path) -> None:
    from onnx_clp.cli.main import main_parser

    given = main_parser().parse_args([str(tmp_path / "in.onnx"), *setting.command.split()])
    config = setting.config(Path("IMAGES.npz"))
    assert (given.u, given.bound_activations, given.no_prune) == (config.u, config.bound_activations, not config.prune)
    assert CleanConfig(rule=given.rule, bound=given.bound) == CleanConfig(rule=config.rule, bound=config.bound)
    assert given.calibrate == config.calibrate


def test_no_two_settings_of_one_form_are_the_same_run() -> None:
    runs = [(setting.form, repr(setting.config())) for setting in settings.TABLE]
    assert len(set(runs)) == len(runs)


# --- records --------------------------------------------------------------------------------------


def test_records_are_read_as_they_were_written_and_the_latest_wins(tmp_path: Path) -> None:
    record.append(tmp_path, "m", {NONE: rates(0.9, 1.0), "mild": rates(0.8, 0.5, pruned=3)})
    record.append(tmp_path, "n", {NONE: rates(0.7, 0.2)})
    record.append(tmp_path, "m", {"mild": rates(0.85, 0.4)})
    record.append(tmp_path, "n", {})
    found = record.read(tmp_path)
    assert found == {"m": {NONE: rates(0.9, 1.0), "mild": rates(0.85, 0.4)}, "n": {NONE: rates(0.7, 0.2)}}
    assert len((tmp_path / record.LOG).read_text().splitlines()) == 3


def test_no_log_holds_nothing(tmp_path: Path) -> None:
    assert record.read(tmp_path) == {}
    assert subject.kept(tmp_path) == []


@pytest.mark.parametrize("line", ["{", "[]", '{"model": "m"}', '{"model": "m", "images": 1, "rates": {"a": {"b": 1}}}'])
def test_a_broken_record_is_one_error_with_its_file(tmp_path: Path, line: str) -> None:
    (tmp_path / record.LOG).write_text(line + "\n")
    with pytest.raises(LoadError, match=r"results\.jsonl.*measure again"):
        record.read(tmp_path)


def test_models_are_kept_beside_their_rates(tmp_path: Path) -> None:
    subjects = half_of(0, 1)
    subject.keep(subjects, tmp_path)
    assert subject.kept(tmp_path) == subjects


# --- tables and the page --------------------------------------------------------------------------


def small_evidence() -> Evidence:
    subjects = [*half_of(0, 1), model("sig", 1, asr=0.42)]
    names = [settings.PAPER, settings.CAPS, settings.BOTH]
    found = measured(subjects, dict.fromkeys(names, (0.89, 0.05)), dict.fromkeys(names, 0.895))
    odd = next(one for one in subjects if one.half == "report" and one.group == "global")
    found[odd.name][settings.PAPER] = rates(0.82, 0.15)
    found[odd.name][settings.CAPS] = rates(0.9, 0.98)
    return Evidence(tuple(subjects), found)


def row(table: str, start: str) -> list[str]:
    """The cells of the one row whose first cell is `start`, or starts with it where none is."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    exact = [cells for cells in found if cells[0] == start]
    (only,) = exact or [cells for cells in found if cells[0].startswith(start)]
    return only


def test_the_table_of_rules_reports_the_odd_seeds() -> None:
    table = tables.rules(small_evidence())
    assert row(table, settings.PAPER) == [
        *(settings.PAPER, "2 of 2", "**1 of 2**", "1 of 1", "–", "0 of 1", "–"),
        *("2 of 2", "4.5", "0.5", "0.5", "1 of 1"),
    ]
    assert row(table, settings.CAPS)[2:6] == ["**1 of 2**", "1 of 1", "–", "0 of 1"]
    assert row(table, settings.BOTH)[2] == "**2 of 2**"


def test_a_fixed_setting_that_was_not_chosen_is_marked() -> None:
    evidence = small_evidence()
    name = "clp u=2"
    for rates_of in evidence.found.values():
        rates_of[name] = replace(rates_of[settings.PAPER], acc=0.9)
    table = tables.rules(evidence)
    assert row(table, name)[0] == name
    assert row(table, f"{settings.PAPER} (")[0] == f"{settings.PAPER} (fixed)"


def test_single_models_show_success_by_their_type() -> None:
    evidence = small_evidence()
    table = tables.single(evidence, [settings.PAPER, settings.CAPS])
    patch = row(table, "fashion-mnist vgg-bn badnets")
    assert patch[1:] == ["90.0/100.0/50.0", "**89.0/5.0/50.0**", "**89.0/5.0/50.0**"]
    spread = row(table, "fashion-mnist vgg-bn blended")
    assert spread[2:] == ["*82.0/15.0/50.0*", "90.0/98.0/50.0"]
    assert "did not take" in row(table, "fashion-mnist vgg-bn sig")[0]
    assert "*" not in "".join(row(table, "fashion-mnist vgg-bn clean"))
    assert "seed 0" not in table


def test_the_table_of_models_counts_those_whose_attack_took() -> None:
    evidence = small_evidence()
    head, _, *rows = tables.models(evidence).splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][1:] == [
        *("badnets 10 %", "blended 10 %", "sig 10 %", "clean"),
    ]
    assert [cell.strip() for cell in rows[0].strip("|").split("|")][1:] == ["2 of 2", "2 of 2", "0 of 1", "2"]
    assert "42.0" in tables.not_taken(evidence)
    assert tables.not_taken(Evidence((), {})) == "Every attack took."


def test_a_network_without_batch_normalization_is_shown_with_the_answer_it_got() -> None:
    one = model("badnets", 1, architecture="convnext")
    answer = replace(rates(0.9, 1.0), verdict="nothing stood out")
    found = {one.name: {NONE: rates(0.9, 1.0), settings.PAPER: answer, settings.CAPS: answer}}
    table = tables.unjudged(Evidence((one, model("badnets", 1)), found))
    assert row(table, "fashion-mnist convnext")[1:] == ["nothing stood out", "0", "0", "100.0", "100.0", "100.0"]
    assert "vgg-bn" not in table


MARKED = "before\n<!-- made: a -->\nold\n<!-- end -->\nbetween\n<!-- made: b -->\n<!-- end -->\nafter\n"


def test_a_page_is_rewritten_between_its_markers_alone() -> None:
    text = page.filled(MARKED, {"a": "| new |", "b": "more"})
    assert text == (
        "before\n<!-- made: a -->\n| new |\n<!-- end -->\nbetween\n<!-- made: b -->\nmore\n<!-- end -->\nafter\n"
    )
    assert page.filled(text, {"a": "| new |", "b": "more"}) == text


def test_a_part_without_measurements_stays() -> None:
    assert page.filled(MARKED, {"a": "", "b": ""}) == MARKED


@pytest.mark.parametrize("parts", [{"a": "x"}, {"a": "x", "b": "y", "c": "z"}])
def test_page_and_parts_must_agree(parts: dict[str, str]) -> None:
    with pytest.raises(LoadError, match="differ in"):
        page.filled(MARKED, parts)
    with pytest.raises(LoadError, match="twice"):
        page.filled(MARKED + MARKED, {"a": "x", "b": "y"})


# --- the bench itself -----------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """The published infected model as a zoo of one, as training would have left it."""
    work = tmp_path / "zoo"
    work.mkdir()
    entry = json.loads((ROOT / "models" / "MANIFEST.json").read_text())["models"]["resnet18_badnets"]
    made = Result.of_dict(
        {"design": entry["design"], "poisoned": 0, "seconds": 0.0, "device": "cpu", "versions": {}}
        | {"rates": {"images": 60, "acc": 0.9, "asr": 1.0, "ra": 0.1}}
    )
    (work / "results.jsonl").write_text(json.dumps(made.as_dict()) + "\n")
    (work / f"{made.name}.onnx").write_bytes((ROOT / "models" / "resnet18_badnets.onnx").read_bytes())
    return work


def test_the_bench_measures_what_the_tool_does_and_only_what_is_missing(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.evidence import measuring
    from tools.zoo import datasets, evalset

    images = evalset.read(ROOT / "models" / "fashion-mnist_badnets_target0.npz")
    few = evalset.EvaluationSet(images.x_clean[:60], images.y_clean[:60], images.x_triggered[:60], images.y_target)
    monkeypatch.setattr(Subject, "evaluation", lambda *_: few)
    splits = (few.x_clean, few.y_clean, few.x_clean, few.y_clean)
    data = datasets.Dataset("fashion-mnist", 10, "", "", *splits)
    monkeypatch.setattr(measuring, "_dataset", lambda *_: data)
    chosen = [settings.BY_NAME[name] for name in (settings.PAPER, "clp u=5", settings.CAPS)]
    monkeypatch.setattr(settings, "DATA_FREE", tuple(chosen))
    bench, out = measuring.Bench(zoo, tmp_path), tmp_path / "out"
    subjects = subject.read(zoo)
    measuring.measure_all(bench, subjects, out, ("choose", "report"))
    found = record.read(out)[subjects[0].name]
    assert found.keys() == {NONE, settings.PAPER, "clp u=5", settings.CAPS}
    assert found[NONE].asr > 0.95
    assert (found[settings.PAPER].pruned, found[settings.PAPER].verdict) == (7, "suspicious")
    assert found[settings.PAPER].asr < 0.1
    assert found["clp u=5"].asr > 0.95
    assert found[settings.CAPS].asr < 0.1
    assert found[settings.CAPS].capped == 20
    before = (out / record.LOG).read_bytes()
    measuring.measure_all(bench, subjects, out, ("choose", "report"))
    assert (out / record.LOG).read_bytes() == before


def test_the_defaults_are_measured_beside_the_paper_and_only_what_is_missing(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.zoo import datasets, evalset

    images = evalset.read(ROOT / "models" / "fashion-mnist_badnets_target0.npz")
    few = evalset.EvaluationSet(images.x_clean[:60], images.y_clean[:60], images.x_triggered[:60], images.y_target)
    monkeypatch.setattr(Subject, "evaluation", lambda *_: few)
    monkeypatch.setattr(datasets, "load", lambda *_: None)
    cheap = {run: options for run, options in defaults.RUNS.items() if run != "high"}
    monkeypatch.setattr(defaults, "RUNS", cheap)
    defaults.measure_all(zoo, tmp_path, tmp_path / "out", 60)
    folder = tmp_path / "out" / defaults.FOLDER
    ((name, found),) = record.read(folder).items()
    assert found.keys() == {NONE, *defaults.RUNS}
    assert found["default"].asr < 0.1 < found[NONE].asr
    assert found["default"].foretold is not None
    assert found["paper"].foretold is None
    assert found["paper"].pruned == 7
    (one,) = subject.kept(folder)
    assert one.name == name
    before = (folder / record.LOG).read_bytes()
    defaults.measure_all(zoo, tmp_path, tmp_path / "out", 60)
    assert (folder / record.LOG).read_bytes() == before


def test_the_defaults_are_counted_by_half_and_shown_by_model(tmp_path: Path) -> None:
    assert defaults.summary(tmp_path) == defaults.table(tmp_path) == ""
    folder = tmp_path / defaults.FOLDER
    subject.keep([model("badnets", 0), model("badnets", 1), model("clean", 1)], folder)
    after = replace(rates(0.899, 0.05), caps=3.0)
    for one in subject.kept(folder):
        runs = {"default": rates(0.9, 0.99), "auto": after, "paper": rates(0.85, 0.15)}
        record.append(folder, one.name, {NONE: rates(0.9, 1.0), **runs})
    sums = [line.split(" | ") for line in defaults.summary(tmp_path).splitlines()[2:]]
    assert [(line[0][2:], line[1]) for line in sums] == [
        (half, run) for half in ("even", "odd") for run in ("default", "auto", "paper")
    ]
    assert [line[2].split(" (")[0] for line in sums] == ["0 of 1", "1 of 1", "0 of 1"] * 2
    assert [line[3] for line in sums] == ["0 of 1", "1 of 1", "1 of 1"] * 2
    _, _, even, odd, clean = defaults.table(tmp_path).splitlines()
    assert "| 90.0/99.0 | **89.9/5.0** (C = 3) | – | *85.0/15.0* | – |" in even
    assert "| 90.0/99.0 | **89.9/5.0** (C = 3) |" in odd
    assert "| 90.0/100.0 | 90.0/99.0 | 89.9/5.0 (C = 3) | – | 85.0/15.0 |" in clean


# --- one setting for all, and files without statistics --------------------------------------------


def test_one_setting_for_all_needs_no_data_and_is_told_in_a_sentence() -> None:
    evidence = small_evidence()
    for rates_of in evidence.found.values():
        rates_of["calibrated caps C=3"] = replace(rates_of[settings.BOTH], asr=0.0)
    chosen = evidence.one_for_all()
    assert chosen is not None
    assert chosen.name == settings.PAPER  # equal to others on the choosing half, first in the table
    text = tables.headline(evidence)
    assert "chosen on the even seeds: clp u=3 (`-u 3.0`)" in text
    assert "**clp u=3** repairs 1 of 1 patch and all-to-all models by the strict yardstick, 0 of 1 others" in text
    assert "together 2 of 2 by BackdoorBench's; clean controls lose 0.5 points on average, 0.5 at most." in text
    assert tables.headline(Evidence((), {})) == ""
    chooses_only = {one.name: evidence.found[one.name] for one in evidence.half("choose")}
    assert tables.headline(replace(evidence, found=chooses_only)) == ""


def test_files_without_statistics_are_counted_by_what_was_capped() -> None:
    one = model("badnets", 1)
    other = model("blended", 1)
    capped = replace(rates(0.9, 0.0), capped=8)
    found = {each.name: {NONE: rates(0.9, 1.0), settings.CAPS: capped, "f": rates(0.9, 1.0)} for each in (one, other)}
    table = tables.folded(Evidence((one, other), found), [settings.CAPS, "f", "not measured"])
    assert row(table, "vgg-bn")[1:] == ["1 of 1 (8 capped)", "0 of 1 (0 capped)", "–"]


# --- experiments ----------------------------------------------------------------------------------


def test_a_score_that_follows_the_change_has_a_rho_of_one_and_the_reverse_of_minus_one() -> None:
    scores = np.array([1.0, 2.0, 3.0, 10.0])
    same = tac.of_layer("l", 0.5, scores, scores**2)
    assert (same.rho, same.percentile) == (1.0, 0.75)
    assert same.best_z == pytest.approx((10 - 4) / np.std(scores, ddof=1), abs=1e-3)
    other = tac.of_layer("l", 0.5, scores, -scores)
    assert (other.rho, other.percentile) == (-1.0, 0.0)
    assert other.best_z < 0
    assert tac.of_layer("l", 0.5, np.ones(4), scores).rho is None


def two_layers(shared: bool = False) -> ModelProto:
    """Conv > BatchNormalization > Relu > MaxPool > Conv, on (n, 1, 4, 4); `shared`: one tensor for gamma and var."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 1, 4, 4] x) => (float[N, 2, 1, 1] y) {
            a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
            b = BatchNormalization(a, gamma, beta, mean, var)
            c = Relu(b)
            d = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
            y = Conv<kernel_shape = [2, 2]>(d, v)
        }"""
    made = onnx.parser.parse_model(text.replace("mean, var", "mean, gamma") if shared else text)
    rng = np.random.default_rng(1)
    values = {"w": rng.normal(size=(6, 1, 3, 3)), "v": rng.normal(size=(2, 6, 2, 2))}
    values |= {"gamma": rng.uniform(0.5, 2, 6), "beta": rng.normal(size=6), "mean": rng.normal(size=6)}
    if not shared:
        values["var"] = rng.uniform(0.5, 2, 6)
    for name, value in values.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return made


def outputs(made: ModelProto) -> NDArray[np.float32]:
    x = np.random.default_rng(2).normal(size=(5, 1, 4, 4)).astype(np.float32)
    found: Any = ReferenceEvaluator(made).run(None, {"x": x})
    return np.asarray(found[0])


def test_the_change_of_a_channel_is_the_mean_norm_of_its_difference() -> None:
    made = two_layers()
    clean = np.random.default_rng(3).integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    triggered = 255 - clean
    data = EvaluationSet(clean, np.zeros(30, np.int64), triggered, np.asarray(1))
    got = tac.trigger_activated_change(made, ["b"], data)["b"]
    run: Any = ReferenceEvaluator(made).run
    maps = [run(["b"], {"x": images.astype(np.float32) / 255})[0] for images in (clean, triggered)]
    expected = np.sqrt(np.square(maps[1] - maps[0]).sum(axis=(2, 3))).mean(axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert [output.name for output in made.graph.output] == ["y"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_rewritten_file_computes_the_same_and_hides_what_the_tool_looks_at(shared: bool) -> None:
    expected = outputs(two_layers(shared))
    wide, level = two_layers(shared), two_layers(shared)
    assert evasion.widen(wide) == evasion.level(level) == 1
    np.testing.assert_allclose(outputs(wide), expected, atol=1e-4)
    np.testing.assert_allclose(outputs(level), expected, atol=1e-4)
    before, after = (_scores(one) for one in (two_layers(shared), level))
    assert np.ptp(before) > 0.1 * before.mean()
    assert np.ptp(after) < 1e-4 * after.mean()
    np.testing.assert_allclose(_scores(wide), before, rtol=1e-4)


def _scores(made: ModelProto) -> NDArray[np.float64]:
    report = onnx_clp.clean(made, onnx_clp.CleanConfig(prune=False, validate=False)).report
    return np.asarray(report.layers[0].judgements[0].scores)


def test_a_value_with_two_readers_is_not_levelled() -> None:
    made = two_layers()
    made.graph.output.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, ["N", 6, 4, 4]))
    assert evasion.level(made) == 0


def test_experiments_are_told_as_tables() -> None:
    one, hard = model("badnets", 0), model("badnets", 2)
    hard = Subject(replace(hard.result, design=replace(hard.result.design, recipe=DECAYED)))
    one = Subject(replace(one.result, design=replace(one.result.design, recipe=PLAIN)))
    layer = tac.LayerTac("l", 0.0, rho=0.6, best_z=2.5, percentile=0.75)
    found = {one.name: [layer, replace(layer, rho=0.2)], hard.name: [replace(layer, best_z=3.5)]}
    table = experiments.spearman(found, [one, hard])
    assert row(table, "patch") == ["patch", "1", "0.40", "50.0 %", "75.0 %", "0.0 %", "100.0 %"]
    assert row(table, "patch, decayed")[1:] == ["1", "0.60", "100.0 %", "75.0 %", "100.0 %", "100.0 %"]
    lines = [{"width": 8, "channels": 600, "weights": 1234, "seconds": {"own": 0.01, "loop": 0.25}}]
    assert row(experiments.seconds(lines), "8") == ["8", "600", "1,234", "0.0100", "0.250 (25.0×)"]
    batches = {"1": {"input": 1.0, "folded": 2.0, "capped": 3.0, "caps": 4}}
    assert row(experiments.latency([{"kind": "k", "batches": batches}]), "k") == ["k", "4", "2", "3", "**1.50**"]


def test_evasion_counts_repairs_under_each_rewrite() -> None:
    bad, good = rates(0.9, 1.0).as_dict(), rates(0.9, 0.05).as_dict()
    rewrites = {
        "as trained": {"layers": 0, NONE: bad, settings.PAPER: bad, settings.CAPS: good, settings.BOTH: good},
        "widened": {"layers": 3, NONE: bad, settings.PAPER: bad, settings.CAPS: bad, settings.BOTH: bad},
    }
    table = experiments.evasion([{"model": "m", "images": 100, "rewrites": rewrites}])
    assert row(table, "as trained")[2:] == ["100.0", "0 of 1, ASR 100.0", "1 of 1, ASR 5.0", "1 of 1, ASR 5.0"]
    assert row(table, "widened")[1:] == ["3.0", "100.0", *["0 of 1, ASR 100.0"] * 3]


@pytest.mark.parametrize("make", [experiments.seconds, experiments.latency, experiments.evasion])
def test_nothing_measured_makes_no_table(make: Callable[[list[dict[str, Any]]], str]) -> None:
    assert make([]) == ""


def test_latency_takes_turns_and_finds_the_slower_model_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_SECONDS", 0.05)
    small, large = two_layers(), two_layers()
    for _ in range(10):
        last = large.graph.node[-1]
        node = onnx.helper.make_node(
            "Softmax", ["x" if last.op_type == "Conv" else last.output[0]], [f"s{len(large.graph.node)}"]
        )
        large.graph.node.append(node)
    large.graph.output.append(onnx.ValueInfoProto(name=large.graph.node[-1].output[0]))
    sessions = {name: session(made.SerializeToString()) for name, made in (("small", small), ("large", large))}
    found = latency.interleaved(sessions, 16)
    assert found["large"] > 1.5 * found["small"] > 0


# --- the committed page ---------------------------------------------------------------------------


def test_the_page_has_every_part_and_shows_every_picture() -> None:
    text = (ROOT / "docs" / "evidence.md").read_text()
    made = parts.all_parts(ROOT / "docs" / "evidence")
    assert page.filled(text, made) == text, "run: python -m tools.evidence report"
    for name in re.findall(r"\]\(evidence/([a-z-]+\.png)\)", text):
        assert (ROOT / "docs" / "evidence" / name).exists()
