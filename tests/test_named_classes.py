"""What a search names in clean and in infected networks, and the table of CIFAR-10, on made-up records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import onnx_clp
from tools.evidence import colour, effort, naming
from tools.evidence.subject import Subject
from tools.zoo import datasets, evalset
from tools.zoo.recipe import Design
from tools.zoo.result import Result

ROOT = Path(__file__).parent.parent
Line = dict[str, Any]


def search(likely: int | None, z: dict[int, float], flip: float = 1.0) -> Line:
    """A search by two forms, of which the second says less."""
    return {
        "likely": likely,
        "nearest": max(z, key=lambda at: z[at]),
        "z": {str(at): {"patch": far, "wave": far - 1} for at, far in z.items()},
        "flip": {str(at): {"patch": flip, "wave": 0.0} for at in z},
    }


def network(name: str, attack: str, target: int | None, found: Line | None, **more: Any) -> Line:
    """A record in which every run ends at an ASR of 5 %, and the default leaves it at 90 %."""
    runs = {run: {"rates": [0.79, 0.05, 0.8], "caps": None, "seconds": 60.0} for run in effort.RUNS}
    runs["default"] = {"rates": [0.8, 0.9, 0.1], "caps": 3.0, "seconds": 5.0}
    line = {"name": name, "kind": "vgg-bn, cifar10", "half": "report", "attack": attack, "target": target}
    return line | {"images": 1000, "rates": [0.8, 1.0, 0.1], "runs": runs, "search": found} | more


LINES = [
    network("a", "clean", None, search(None, {0: 0.5, 1: 1.0, 2: 2.2})),
    network("b", "clean", None, search(4, {3: 0.0, 4: 3.7}), half="choose"),
    network("c", "clean", None, search(None, {3: 0.0, 4: 9.0}, flip=0.4), kind=""),
    network("d", "badnets 10 %", 1, search(1, {0: 0.0, 1: 5.5})),
    network("e", "blended 10 %", 2, search(0, {0: 4.5, 2: 2.0}), half="choose"),
    network("f", "wanet 10 %", 3, search(None, {0: 0.4, 3: 2.4})),
    network("g", "all-to-all 10 %", None, search(None, {0: 0.4, 3: 1.4})),
]


def cells(table: str, start: str) -> list[str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    (only,) = [row for row in rows if row[0] == start]
    return only


def test_a_class_counts_by_its_largest_z_where_a_form_turns_half_of_the_images() -> None:
    assert naming.furthest(LINES[0]) == (2, 2.2)
    assert naming.furthest(LINES[2]) == (None, 0.0)
    missing = network("h", "clean", None, {"likely": None, "nearest": None, "z": {}, "flip": {}})
    assert naming.furthest(missing) == (None, 0.0)


@pytest.mark.parametrize(
    ("z", "far"),
    [
        ({"patch": 3.0, "wave": 2.0}, 3.0),
        ({"patch": 1.0, "wave": 5.0}, 1.0),
        ({"patch": 2.33, "wave": 5.0}, 5.0),
        ({"perturbation": 6.0, "wave": 2.4, "patch": -1.0}, 6.0),
        ({"perturbation": 5.4}, 0.0),
        ({"perturbation": 5.5}, 5.5),
    ],
)
def test_a_form_that_is_no_patch_counts_where_another_agrees(z: dict[str, float], far: float) -> None:
    found = {"likely": None, "nearest": 3, "z": {"3": z}, "flip": {"3": {"perturbation": 1.0}}}
    assert naming.furthest(network("h", "clean", None, found)) == (3, far)


def test_false_alarms_are_counted_by_kind_and_half() -> None:
    table = naming.false_alarms(LINES)
    assert cells(table, "**all**")[1:6] == ["3", "80.0 to 80.0", "1", "2.2", "3.7"]
    assert cells(table, "trained elsewhere")[1:4] == ["1", "80.0", "0"]
    assert cells(table, "**all of the even half**")[3] == "1"
    assert cells(table, "**all of the odd half**")[3] == "0"
    assert cells(table, "**all**")[6:] == ["1.0", "1.0"]


def test_many_networks_have_an_interval() -> None:
    table = naming.false_alarms([network(str(at), "clean", None, search(None, {0: 0.1})) for at in range(20)])
    assert cells(table, "**all**")[3] == "0 (0.0 to 16.1 %)"


def test_a_limit_is_passed_by_clean_networks_and_by_targets_that_lie_furthest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert naming.roc(LINES) == "", "three networks of each kind are too few to say shares of"
    monkeypatch.setattr(naming, "LEAST", 3)
    table = naming.roc(LINES)
    assert cells(table, "2")[1:4:2] == ["2 of 3", "2 of 3"]
    assert cells(table, "**3.5**")[1:4:2] == ["1 of 3", "1 of 3"]
    assert cells(table, "4")[1:4:2] == ["0 of 3", "1 of 3"]


def test_the_area_counts_pairs_and_halves_ties() -> None:
    assert naming.area(LINES) == pytest.approx(8 / 9)
    same = [network("a", "clean", None, search(None, {0: 1.0})), network("b", "sig 8 %", 0, search(None, {0: 1.0}))]
    assert naming.area(same) == 0.5


def test_nothing_searched_makes_no_table() -> None:
    unsearched = [network("a", "clean", None, None), network("b", "sig 8 %", 0, None)]
    for make in (naming.false_alarms, naming.roc, colour.table, colour.summary):
        assert make([]) == ""
    assert naming.roc(unsearched) == naming.false_alarms(unsearched) == ""


def test_the_colour_table_shows_each_run_and_what_was_named() -> None:
    table = colour.table(LINES)
    assert cells(table, "vgg-bn, badnets 10 %")[1:] == [
        *("reported", "80.0/100.0", "80.0/90.0 (C = 3)", "**79.0/5.0**", "**79.0/5.0**", "**79.0/5.0**"),
        *("1", "1, 5.5", "60"),
    ]
    assert cells(table, "vgg-bn, wanet 10 %")[-2] == "none (3, 2.4)"
    assert cells(table, "vgg-bn, all-to-all 10 %")[-3] == "–"
    assert len(table.splitlines()) == 2 + 6
    rows = [line for line in table.splitlines() if "clean" in line]
    assert len(rows) == 2
    assert "**" not in "".join(rows)


def test_a_network_with_a_run_missing_is_left_out() -> None:
    part = network("p", "sig 8 %", 0, None)
    del part["runs"]["paper"]
    assert colour.table([part]) == colour.summary([part]) == ""


def test_strict_successes_are_summed_by_run() -> None:
    table = colour.summary(LINES)
    assert cells(table, "high")[1:4] == ["4 of 4", "51.0 to 100.0", "3 of 3"]
    assert cells(table, "default")[1] == "0 of 4"


# --- measuring ------------------------------------------------------------------------------------


def one_of_the_zoo(work: Path, attack: str, recipe: str) -> Subject:
    """The published clean network as a trained zoo would hold it, under a design of one's own."""
    rates = {"images": 60, "acc": 0.9, "asr": 1.0, "ra": 0.1}
    made = Result(Design("resnet18", attack, 1), 0, 1.0, "cpu", {}, rates)
    fields = made.as_dict()
    fields["design"]["recipe"] = {**fields["design"]["recipe"], "name": recipe}
    made = Result.of_dict(fields)
    (work / f"{made.name}.onnx").write_bytes((ROOT / "models" / "resnet18_badnets.onnx").read_bytes())
    with (work / "results.jsonl").open("a") as log:
        log.write(json.dumps(made.as_dict()) + "\n")
    return Subject(made)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    images = evalset.read(ROOT / "models" / "fashion-mnist_badnets_target0.npz")
    part = evalset.EvaluationSet(images.x_clean[:60], images.y_clean[:60], images.x_triggered[:60], images.y_target)
    monkeypatch.setattr(Subject, "evaluation", lambda *_: part)
    data = datasets.Dataset("fashion-mnist", 10, "", "", part.x_clean, part.y_clean, part.x_clean, part.y_clean)
    monkeypatch.setattr(datasets, "load", lambda *_: data)


@pytest.mark.usefixtures("few")
def test_what_is_missing_is_measured_and_noted(tmp_path: Path) -> None:
    subject = one_of_the_zoo(tmp_path, "badnets", "plain")
    effort.measure_all(tmp_path, tmp_path, tmp_path / "out", ["paper"], 300.0)
    (line,) = effort.known(tmp_path / "out").values()
    assert (line["name"], line["kind"], line["target"]) == (subject.name, "resnet18, fashion-mnist", 0)
    assert line["rates"][1] > 0.95
    assert line["runs"]["paper"]["rates"][1] < 0.1
    assert line["runs"]["paper"]["pruned"] == 7
    before = (tmp_path / "out" / effort.LOG).read_bytes()
    effort.measure_all(tmp_path, tmp_path, tmp_path / "out", ["paper"], 300.0)
    assert (tmp_path / "out" / effort.LOG).read_bytes() == before


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("recipe", "runs"), [("brief", []), ("colour", ["paper"])])
def test_small_clean_networks_are_only_searched(tmp_path: Path, recipe: str, runs: list[str]) -> None:
    one_of_the_zoo(tmp_path, "clean", recipe)
    effort.measure_all(tmp_path, tmp_path, tmp_path / "out", ["paper"], 300.0)
    assert [run for line in effort.known(tmp_path / "out").values() for run in line["runs"]] == runs


def test_lines_of_one_model_are_put_together_and_the_later_wins(tmp_path: Path) -> None:
    first = network("a", "clean", None, search(None, {0: 1.0}))
    effort.note(tmp_path, {**first, "runs": {"high": 1, "paper": 2}})
    effort.note(tmp_path, {"name": "a", "runs": {"paper": 3, "auto": 4}})
    effort.note(tmp_path, network("b", "clean", None, None))
    found = effort.known(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"]["runs"] == {"high": 1, "paper": 3, "auto": 4}
    assert found["a"]["search"] == first["search"]


def test_the_runs_are_those_of_the_command_line() -> None:
    for options in effort.RUNS.values():
        onnx_clp.CleanConfig(**options)
    assert effort.RUNS["paper"] == {"fill": "zero", "budget": 1.0}
