"""The bench for clean networks: its comparisons, its records and its tables, on small made-up networks."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_clp.errors import LoadError, UsageError
from onnx_clp.gauge import loss
from tools.harm import (
    calibrating,
    catalogue,
    comparing,
    coverage,
    detections,
    faces,
    measuring,
    packages,
    picture,
    published,
    record,
    samples,
    searching,
    split,
    tables,
    trained,
)
from tools.harm.detections import Places
from tools.harm.network import CORPUS, Kind, Network, Package, Scores
from tools.harm.record import Measured
from tools.zoo import datasets, result
from tools.zoo.recipe import Design

PACKAGE = Package(CORPUS, "made", "", "")
NETWORK = Network("made", Kind.CLASSIFIER, PACKAGE, "made.onnx", "photographs-224", "", "", labelled=True)


class TestComparing:
    def test_the_change_of_an_answer_is_relative_to_how_much_it_varies(self) -> None:
        before = np.array([[0.0], [2.0], [4.0]])
        assert comparing.relative_change(before, before) == 0
        assert comparing.relative_change(before, np.full((3, 1), 2.0)) == pytest.approx(1)
        assert comparing.relative_change(before + 100, before + 101) == pytest.approx(math.sqrt(3 / 8))
        assert math.isnan(comparing.relative_change(np.ones((3, 1)), np.zeros((3, 1))))

    @pytest.mark.parametrize("meaning", list(Scores))
    def test_probabilities_sum_to_one_and_keep_the_order(self, meaning: Scores) -> None:
        scores = np.array([[[0.1, 0.7, 0.2]], [[0.9, 0.05, 0.05]]])
        found = comparing.probabilities(scores, meaning)
        assert found.sum(1) == pytest.approx([1, 1])
        assert found.argmax(1).tolist() == [1, 0]

    def test_logits_far_apart_stay_finite(self) -> None:
        found = comparing.probabilities(np.array([[1000.0, 0.0]]), Scores.LOGITS)
        assert found.tolist() == [[1, 0]]

    def test_divergence_is_zero_only_for_the_same_probabilities(self) -> None:
        before, after = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
        assert comparing.divergence(before, before) == 0
        assert comparing.divergence(before, after) == pytest.approx(math.log(0.5) - math.log(0.09) / 2)

    def test_a_loss_counts_what_was_right_and_no_longer_is_less_the_opposite(self) -> None:
        before, after = np.array([1, 1, 1, 0], bool), np.array([0, 1, 0, 1], bool)
        lost, error = comparing.loss(before, after)
        assert lost == pytest.approx(0.25)
        assert error == pytest.approx(np.std([1, 0, 1, -1], ddof=1) / 2)
        assert comparing.loss(after, before)[0] == pytest.approx(-0.25)
        assert comparing.loss(before, before) == (0, 0)

    def test_texts_are_read_without_repeats_and_blanks(self) -> None:
        line = np.eye(6)[np.array([[0, 3, 3, 0, 3, 5, 5, 0]])]
        assert comparing.texts(line, blank=0) == [(3, 3, 5)]
        assert comparing.texts(line[:, :, None], blank=0) == [(3, 3, 5)]  # with the batch behind the length
        assert comparing.texts(line, blank=3) == [(0, 0, 5, 0)]
        assert comparing.texts(line, blank=0, ignored=(5,)) == [(3, 3)]

    def test_a_text_is_right_only_as_a_whole(self) -> None:
        assert comparing.right_texts([(3, 5), (3, 5), ()], [(3, 5), (3, 5, 4), ()]).tolist() == [True, False, True]
        assert comparing.same_texts([(3,), (4,)], [(3,), (5,)]) == 0.5

    def test_embeddings_agree_where_the_nearest_stays(self) -> None:
        before = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        assert comparing.same_neighbour(before, 3 * before) == 1
        assert comparing.cosine(before, 3 * before) == pytest.approx(1)
        moved = before.copy()
        moved[0] = before[2]
        assert comparing.same_neighbour(before, moved) == 0.75
        assert comparing.cosine(before, moved) == pytest.approx(0.75)

    def test_masks_agree_place_by_place(self) -> None:
        before, after = np.array([[0.9, 0.6, 0.1, 0.2]]), np.array([[0.9, 0.4, 0.1, 0.2]])
        assert comparing.same_side(before, after) == 0.75
        assert comparing.overlap(before, after) == 0.5
        assert comparing.overlap(np.zeros((1, 4)), np.zeros((1, 4))) == 1


class TestDetections:
    before = Places(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.1]]), np.arange(12.0).reshape(3, 2, 2))

    def test_nothing_changes_where_nothing_changed(self) -> None:
        found = detections.measures(self.before, self.before)
        assert found == {"agreement": 1, "found": pytest.approx(2 / 3), "score_change": 0, "box_change": 0}

    @pytest.mark.parametrize(
        ("place", "score"), [((0, 0), 0.4), ((2, 1), 0.6)], ids=["a find is lost", "something is found in nothing"]
    )
    def test_a_find_more_or_less_is_no_agreement(self, place: tuple[int, int], score: float) -> None:
        scores = self.before.scores.copy()
        scores[place] = score
        assert detections.measures(self.before, Places(scores, self.before.boxes))["agreement"] == pytest.approx(2 / 3)

    def test_boxes_count_where_something_was_found(self) -> None:
        boxes = self.before.boxes.copy()
        boxes[2] += 100
        assert detections.measures(self.before, Places(self.before.scores, boxes))["box_change"] == 0
        boxes[0, 0] += 1
        assert detections.measures(self.before, Places(self.before.scores, boxes))["box_change"] > 0

    def test_every_coding_is_read_into_places(self) -> None:
        random = np.random.default_rng(0)

        def answers(*shapes: tuple[int, ...]) -> dict[str, NDArray[Any]]:
            return {str(number): random.uniform(0, 1, (2, 1, *shape)) for number, shape in enumerate(shapes)}

        made: Mapping[str, Mapping[str, NDArray[Any]]] = {
            "yolov8": answers((22, 5)),
            "yolox": answers((5, 6)),
            "centerface": answers((1, 2, 3), (2, 2, 3), (2, 2, 3), (10, 2, 3)),
            "blazeface": answers((4, 1), (2, 1), (4, 16), (2, 16)),
            "onet": answers((4,), (10,), (2,)),
        }
        places = {"yolov8": (5, 4), "yolox": (5, 4), "centerface": (6, 4), "blazeface": (6, 16), "onet": (1, 14)}
        assert set(made) == set(detections.READERS)
        for coding, outputs in made.items():
            read = detections.READERS[coding](outputs)
            count, numbers = places[coding]
            assert read.scores.shape == (2, count)
            assert read.boxes.shape == (2, count, numbers)
            assert ((read.scores >= 0) & (read.scores <= 1)).all()

    def test_a_face_is_cut_out_where_the_map_peaks(self) -> None:
        heat, size, offset = np.zeros((8, 8)), np.full((2, 8, 8), math.log(4)), np.zeros((2, 8, 8))
        heat[2, 5], heat[2, 6], heat[6, 1] = 0.9, 0.8, 0.7
        found = faces.boxes(heat, size, offset)
        assert [box.tolist() for box in found] == [pytest.approx([10, 22, 16, 16]), pytest.approx([26, 6, 16, 16])]


class TestRecord:
    measured = Measured(
        "made", "classifier", "-u 5", 4, "written", "stood out", 2, 0, 1, 1.5, 2**20, "onnx_clp 0", {"loss": 0.25}
    )

    def test_what_is_written_is_read_again(self, tmp_path: Path) -> None:
        full = replace(self.measured, measures={"agreement": 0.5, "loss": 0.25}, changes={"y": 0.125})
        full = replace(full, evidence="class 3 stands out", search={"taken": False, "reason": "two classes"})
        record.write(tmp_path, full)
        assert record.read(tmp_path) == [full]
        assert record.path(tmp_path, "made", "-u 5").is_file()
        assert record.path(tmp_path, "made", "") != record.path(tmp_path, "made", "-u 5")

    def test_what_is_not_a_number_is_kept_as_nothing(self, tmp_path: Path) -> None:
        record.write(tmp_path, replace(self.measured, changes={"y": math.nan, "z": 0.5}, measures={"loss": math.inf}))
        (found,) = record.read(tmp_path)
        assert found.largest_change == 0.5
        assert found.get("loss") is None
        assert "NaN" not in record.path(tmp_path, "made", "-u 5").read_text(encoding="utf-8")

    def test_a_file_that_is_no_measurement_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        place = tmp_path / "made" / "default.json"
        place.write_text("{}", encoding="utf-8")
        with pytest.raises(LoadError, match=r"default\.json is not a measurement"):
            record.read(tmp_path)

    @pytest.mark.parametrize(
        ("report", "foretold"),
        [
            ({}, {}),
            ({"gauge": None}, {}),
            ({"gauge": {"prediction": None}}, {}),
            (
                {
                    "gauge": {
                        "prediction": {
                            "loss": {"share": 0.01, "low": 0.002, "high": 0.02},
                            "outputs": [
                                {"divergence": 0.05, "relative": None},
                                {"divergence": None, "relative": 0.01},
                                {"divergence": None, "relative": 0.03},
                            ],
                        }
                    }
                },
                {"loss": 0.01, "loss_upper": 0.02, "divergence": 0.05, "relative_change": 0.03},
            ),
        ],
    )
    def test_a_report_may_foretell_something_or_nothing(self, report: Any, foretold: Any) -> None:
        assert record.predictions(report) == foretold


def _report(effort: str, taken: bool, inversion: Mapping[str, Any] | None) -> dict[str, Any]:
    """As much of a report as a search is read from."""
    decision = {
        "step": "search",
        "taken": taken,
        "reason": "high effort" if taken else "/home/a.onnx: it reads no images",
    }
    return {"options": {"effort": effort}, "decisions": [decision], "inversion": inversion}


def _inversion(likely: int | None, repair: Mapping[str, Any] | None, note: str = "") -> dict[str, Any]:
    patch = {"kind": "patch", "z": 5.25, "flip": 0.9, "size": 8.0, "picture": None}
    forms = [patch, patch | {"kind": "warp", "z": None, "flip": 0.0}]
    results = [{"target": 7, "margin": 1.0, "forms": forms}, {"target": 2, "margin": 0.0, "forms": []}]
    found = {"classes": 1000, "results": results, "likely": likely, "nearest": 7, "repair": repair}
    return found | {"repair_note": note, "unfinished": "in haste"}


class TestSearching:
    def test_a_run_that_was_not_to_search_says_nothing_of_it(self) -> None:
        assert searching.searched({}) == searching.searched(_report("normal", taken=False, inversion=None)) == {}

    def test_a_search_that_could_not_be_says_why(self) -> None:
        found = searching.searched(_report("high", taken=False, inversion=None))
        assert found == {"taken": False, "reason": "it reads no images"}

    def test_what_a_search_came_to_is_kept_without_its_pictures(self) -> None:
        found = searching.searched(_report("high", True, _inversion(7, {"stands_out": False, "directions": 3})))
        assert (found["looked"], found["classes"], found["named"], found["undone"]) == (2, 1000, 7, True)
        assert found["directions"] == 3
        assert found["forms"][0] == {"kind": "patch", "z": 5.25, "flip": 0.9, "size": 8.0}

    @pytest.mark.parametrize("repair", [None, {"stands_out": True, "directions": 3}])
    def test_a_trigger_that_is_still_there_is_not_undone(self, repair: Any) -> None:
        assert not searching.searched(_report("high", True, _inversion(7, repair)))["undone"]

    def test_where_no_class_is_named_nothing_is_said_of_undoing_it(self) -> None:
        assert (
            searching.searched(_report("high", True, _inversion(None, None, "nothing stands out")))["left"]
            == "in haste"
        )
        few = _inversion(None, None) | {"nearest": None, "unfinished": "", "sentence": "2 classes are too few"}
        assert searching.searched(_report("high", True, few))["left"] == "2 classes are too few"

    def test_the_table_has_a_row_for_each_run_that_was_to_search(self) -> None:
        high = Measured("b", "classifier", "--effort high", 100, "written")
        named = replace(high, search=searching.searched(_report("high", True, _inversion(7, None, "too dear"))))
        none = replace(high, search=searching.searched(_report("high", False, None)))
        others = [replace(none, network="c"), replace(none, network="a")]
        _, _, row, _, left = searching.table([high, named, *others]).splitlines()
        assert row == "| b | `--effort high` | 2 of 1000 | 7 | patch, 5.2, turns 90 % | 7 | no | too dear; in haste |"
        assert left == "- not searched (it reads no images): a, c."
        assert searching.table(others) == left
        assert searching.table([high]) == ""


class TestTables:
    kept = Measured("a", "classifier", "", 100, "written", measures={"loss": 0.01, "loss_error": 0.005})
    harmed = Measured(
        "b",
        "classifier",
        "",
        100,
        "written",
        predicted={"loss": 0.1, "loss_upper": 0.2},
        measures={"loss": 0.3, "loss_error": 0.02, "right_before": 0.9, "right_after": 0.6, "agreement": 0.65},
        changes={"y": 0.5},
    )
    refused = Measured("c", "detector", "", 100, "exit 4: not validated | because")

    @pytest.mark.parametrize(
        ("measures", "changes", "good"),
        [
            ({"loss": 0.01, "agreement": 0.5}, {}, True),
            ({"loss": 0.02, "agreement": 1.0}, {}, False),
            ({"agreement": 0.98}, {"y": 0.5}, True),
            ({"agreement": 0.97}, {"y": 0.5}, False),
            ({"agreement": 0.5}, {"y": 0.02, "z": 0.01}, True),
            ({}, {"y": 0.01, "z": 0.03}, False),
            ({}, {"y": math.nan}, False),
        ],
    )
    def test_what_is_left_as_good_as_it_came(self, measures: Any, changes: Any, good: bool) -> None:
        assert tables.harmless(replace(self.kept, measures=measures, changes=changes)) is good

    def test_a_run_that_wrote_nothing_did_no_harm(self) -> None:
        assert tables.harmless(self.refused)

    def test_the_summary_counts_and_names_the_worst(self) -> None:
        (line,) = tables.summary([self.kept, self.harmed, self.refused]).splitlines()
        assert "default: 2 of 3 networks are left as good as they came" in line
        assert "30.0 points (b)" in line
        assert "1 run wrote nothing" in line

    def test_a_row_says_what_was_foretold_beside_what_happened(self) -> None:
        _, _, kept, harmed, refused = tables.table([self.refused, self.harmed, self.kept]).splitlines()
        assert "90.0 > 60.0 | 30.0 ± 4.0 | 65.0 | – | 0.500 | 10.0 (at most 20.0) | 0.0" in harmed
        assert "| – | 1.0 ± 1.0 | – | – | – | – | 0.0 |" in kept
        assert "exit 4: not validated / because" in refused
        assert len({row.count("|") for row in (kept, harmed, refused)}) == 1

    def test_nothing_measured_makes_no_table(self) -> None:
        assert tables.table([]) == tables.summary([]) == ""

    def test_the_picture_has_what_was_foretold_and_what_came(self, tmp_path: Path) -> None:
        unlabelled = replace(self.harmed, measures={"agreement": 0.9})
        assert picture.points([self.kept, self.harmed, unlabelled]) == [
            pytest.approx((10, 20, 30)),
            pytest.approx((10, 20, 10)),
        ]
        assert not picture.draw([self.kept], tmp_path / "none.png")
        assert not (tmp_path / "none.png").exists()
        assert picture.draw([self.harmed], tmp_path / "some.png")
        assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")


class TestCatalogue:
    def test_names_are_unique_and_every_form_has_its_base(self) -> None:
        names = [network.name for network in catalogue.NETWORKS]
        assert len(set(names)) == len(names) >= 14
        for network in catalogue.NETWORKS:
            assert not network.form or not catalogue.named(network.base).form
            assert network.kind != Kind.DETECTOR or network.detection in detections.READERS
        assert {network.kind for network in catalogue.NETWORKS} == set(Kind)

    def test_a_name_that_is_none_is_refused(self) -> None:
        with pytest.raises(UsageError, match="no network is called nothing"):
            catalogue.chosen(["nothing"])
        assert catalogue.chosen(None) == catalogue.NETWORKS

    def test_a_file_of_the_corpus_needs_its_folder(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match="--corpus"):
            packages.member(PACKAGE, "made.onnx", tmp_path, None)
        with pytest.raises(LoadError, match="0 files fit"):
            packages.member(PACKAGE, "made.onnx", tmp_path, tmp_path)
        (tmp_path / "made.onnx").write_bytes(b"x")
        assert packages.member(PACKAGE, "*.onnx", tmp_path, tmp_path) == tmp_path / "made.onnx"


def _network(path: Path, outlier: float) -> None:
    """Conv, BatchNormalization, Relu, mean, Gemm: channel 0 is read by class 0 and stands out by `outlier`."""
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.3, (32, 3, 3, 3)).astype(np.float32)
    kernel[0] *= outlier
    head = random.normal(0, 0.1, (4, 32)).astype(np.float32)
    head[0, 0] = 2.0
    tensors = {
        "k": kernel,
        "gamma": np.ones(32, np.float32),
        "beta": np.zeros(32, np.float32),
        "mean": np.zeros(32, np.float32),
        "var": np.ones(32, np.float32),
        "h": head,
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], "conv", kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["b"], "bn"),
        helper.make_node("Relu", ["b"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "h"], ["y"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for folder in ("models", "inputs"):
        (tmp_path / folder).mkdir()
    _network(tmp_path / "models" / "made.onnx", outlier=12)
    images = np.random.default_rng(1).uniform(0, 1, (12, 1, 3, 8, 8)).astype(np.float32)
    answers = samples.answers(tmp_path / "models" / "made.onnx", samples.Samples({"x": images}, None))
    np.savez(tmp_path / "inputs" / "made.npz", x=images, label=answers["y"][:, 0].argmax(1))
    return tmp_path


class TestMeasuring:
    def test_a_run_is_compared_with_the_answers_before(self, work: Path) -> None:
        measuring.measure_all([NETWORK], ["--paper", "--no-prune"], work, work / "out", most=10)
        pruned, kept = (record.read_one(record.path(work / "out", "made", one)) for one in ("--paper", "--no-prune"))
        assert (pruned.outcome, kept.outcome) == ("written", "written")
        assert (pruned.samples, kept.samples) == (10, 10)
        assert (pruned.pruned, pruned.kept, kept.pruned) == (1, 0, 0)
        assert kept.get("agreement") == kept.get("right_after") == 1
        assert kept.get("loss") == 0
        assert kept.changes["y"] < 1e-5 < pruned.changes["y"]
        assert pruned.cpu > 0
        assert pruned.peak > 2**20

    def test_spaces_do_not_count_where_a_line_is_read(self) -> None:
        reader = replace(NETWORK, kind=Kind.RECOGNISER, ignored=(7,))
        read = np.eye(8)
        before, after = {"y": read[[[1, 7, 2, 0], [3, 0, 0, 0]]]}, {"y": read[[[1, 2, 7, 0], [4, 0, 0, 0]]]}
        found = measuring.measures(reader, before, after, np.array([[1, 7, 2], [3, -1, -1]]))
        assert found["agreement"] == found["right_after"] == found["loss"] == 0.5
        assert found["right_before"] == 1

    def test_a_run_is_not_charged_with_what_the_bench_holds(self, tmp_path: Path) -> None:
        held = np.ones(60_000_000)
        command = [sys.executable, "-c", "import sys; print('x', file=sys.stderr); sys.exit(3)"]
        launch = [sys.executable, "-m", "tools.harm.cost", str(tmp_path / "stderr"), *command]
        root = Path(__file__).parent.parent
        done = subprocess.run(launch, capture_output=True, text=True, check=True, cwd=root)
        cost = json.loads(done.stdout)
        assert cost["status"] == 3
        assert 0 < cost["peak"] < held.nbytes / 4
        assert (tmp_path / "stderr").read_text(encoding="utf-8") == "x\n"

    def test_what_is_kept_is_not_measured_again(self, work: Path) -> None:
        measuring.measure_all([NETWORK], ["--no-prune"], work, work / "out")
        place = record.path(work / "out", "made", "--no-prune")
        first = place.read_bytes()
        (work / "models" / "made.onnx").write_bytes(b"broken")
        measuring.measure_all([NETWORK], ["--no-prune"], work, work / "out")
        assert place.read_bytes() == first

    def test_a_run_that_fails_says_why(self, work: Path) -> None:
        measuring.measure_all([NETWORK], ["--rule nothing"], work, work / "out")
        (found,) = record.read(work / "out")
        assert found.outcome.startswith("exit 2: ")
        assert "nothing" in found.outcome
        assert found.measures == found.changes == {}

    def test_high_effort_goes_on_where_it_cannot_search_and_says_why(self, work: Path) -> None:
        model = onnx.load(work / "models" / "made.onnx")
        model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", 32]))
        onnx.save(model, work / "models" / "made.onnx")
        measuring.measure_all([NETWORK], ["--effort high", ""], work, work / "out")
        high, default = (record.read_one(record.path(work / "out", "made", one)) for one in ("--effort high", ""))
        assert (high.outcome, default.outcome) == ("written", "written")
        assert not high.search["taken"]
        assert "one output with the class scores" in high.search["reason"]
        assert default.search == {}

    def test_high_effort_searches_a_classifier(self, work: Path) -> None:
        measuring.measure_all([NETWORK], ["--effort high --search-seconds 5"], work, work / "out")
        (found,) = record.read(work / "out")
        assert found.search["taken"]
        assert (found.search["classes"], found.search["looked"]) == (4, 4)

    def test_a_network_that_was_not_made_is_left_out(self, work: Path) -> None:
        measuring.measure_all([replace(NETWORK, name="other")], [""], work, work / "out")
        assert record.read(work / "out") == []

    def test_the_page_is_filled_by_the_command(self, work: Path) -> None:
        record.write(work / "out", TestTables.harmed)
        page = work / "harm.md"
        parts = ("summary", "search", "picture", "edits", "foretold", "calibration", "all")
        page.write_text("".join(f"<!-- made: {part} -->\n<!-- end -->\n" for part in parts), encoding="utf-8")
        command = [sys.executable, "-m", "tools.harm", "page", "--page", str(page), "--out", str(work / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
        assert done.returncode == 0, done.stderr
        text = page.read_text(encoding="utf-8")
        assert "0 of 1 networks" in text
        assert "](out/predicted.png)" in text
        assert "](out/edits.png)" in text
        assert (work / "out" / "predicted.png").is_file()

    def test_published_networks_are_measured_by_the_command(self, work: Path) -> None:
        folder = work / "published" / "one"
        folder.mkdir(parents=True)
        real = samples.read(work / "inputs" / "made.npz")
        assert real.labels is not None
        shutil.copyfile(work / "models" / "made.onnx", folder / "model.onnx")
        (images,) = real.arrays.values()
        np.savez(folder / "eval.npz", x_clean=images[:, 0], y_clean=real.labels, scale=1.0, offset=0.0)
        command = [
            sys.executable,
            "-m",
            "tools.harm",
            "foretell",
            "--published",
            str(folder.parent),
            "--out",
            str(work),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
        assert done.returncode == 0, done.stderr
        found = record.read(work / "foretold")
        assert {one.setting for one in found} == set(published.SETTINGS)
        assert {(one.network, one.samples, one.outcome) for one in found} == {("one", len(real), "written")}

    def test_trained_networks_are_measured_on_their_test_images(
        self, work: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        design = Design("vgg-bn", "clean", 3, dataset="made", rate=0.0)
        shutil.copyfile(work / "models" / "made.onnx", work / f"{design.name}.onnx")
        result.append(work, result.Result(design, 0, 1.0, "cpu", {}, {}))
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (20, 3, 8, 8)).astype(np.uint8), np.arange(20) % 4
        data = datasets.Dataset("made", 4, "", "", images, labels, images, labels)
        monkeypatch.setattr(datasets, "load", lambda *_: data)
        ((network, model, real),) = trained.networks(work, tmp := work / "data", 12)
        assert (network.name, network.labelled, model.is_file(), len(real)) == (design.name, True, True, 12)
        (pixels,) = real.arrays.values()
        assert pixels.shape == (12, 1, 3, 8, 8)
        assert pixels.max() <= 1
        assert not tmp.exists()
        alone = [samples.session(model).run(None, {"x": one})[0] for one in pixels]
        assert samples.answers(model, real)["y"] == pytest.approx(np.stack(alone), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("fashionmnist_vggbn_clean_plain_s1", "report"),
        ("fashionmnist_vggbn_clean_plain_s10", "choose"),
        ("abl_wrn16_badnets", "choose"),
        ("basic-pitch", "report"),
        ("mobilenetv2", "choose"),
        ("mobilenetv2-folded", "choose"),
        ("mobilenetv2-qdq", "choose"),
    ],
)
def test_the_name_alone_decides_which_half_a_network_belongs_to(name: str, half: str) -> None:
    assert split.half(name) == half


class TestCoverage:
    """What became of what was foretold."""

    edit = Measured(
        "a", "classifier", "", 500, "written", predicted={"loss": 0.002, "loss_upper": 0.008}, measures={"loss": 0.004}
    )

    def test_runs_of_the_same_effect_count_once_and_those_of_none_do_not(self) -> None:
        again = replace(self.edit, setting="-u 5", predicted={"loss": 0.00200001, "loss_upper": 0.008})
        more = replace(self.edit, setting="-u 2", measures={"loss": 0.006})
        dearer = replace(again, predicted={"loss": 0.0022, "loss_upper": 0.0088})
        other = replace(self.edit, network="b")
        nothing = replace(self.edit, predicted={"loss": 0.0, "loss_upper": 0.0}, measures={"loss": 0.0, "agreement": 1})
        unlabelled = replace(self.edit, measures={"agreement": 0.9})
        refused = replace(self.edit, outcome="exit 4: no")
        every = [self.edit, again, more, dearer, other, nothing, unlabelled, refused]
        assert coverage.edits(every) == [self.edit, more, dearer, other]

    def test_it_counts_what_lies_below_and_names_what_lies_above(self) -> None:
        above = replace(self.edit, network="b", setting="-u 2", measures={"loss": 0.02, "loss_error": 0.01})
        first, costly, named = coverage.told([self.edit, above]).splitlines()
        assert "on 2 networks: the loss lies below the upper end in 1 of 2 (9 to 91 %)" in first
        assert "more than two standard errors in 0" in first
        assert "in 0 of 1 (" in costly
        assert named.strip() == "- above: b, `-u 2`: 2.00 ± 2.00 points lost, at most 0.80 foretold"
        far = replace(above, measures={"loss": 0.02, "loss_error": 0.001})
        assert "more than two standard errors in 1" in coverage.told([far])
        assert coverage.told([]) == ""


class TestCalibrating:
    """The upper end of what is foretold, fitted on some networks and counted on others."""

    @staticmethod
    def edit(network: str, loss: float, divergence: float = 0.1, **more: Any) -> Measured:
        shown = ({"output": "y", "kind": "classes", "divergence": divergence, "classes": 10},)
        one = Measured(network, "classifier", "", 5000, "written", measures={"loss": loss}, images=144)
        return calibrating.renewed(
            replace(one, source="photographs", shown=shown, predicted={"loss": 0.0, "loss_upper": 0.0}, **more)
        )

    def test_a_record_is_foretold_again_from_what_it_was_foretold_from(self) -> None:
        one = self.edit("a", 0.01)
        assert one.predicted["loss"] == pytest.approx(0.02)
        assert one.predicted["loss_upper"] == calibrating.upper(one, loss.ABOVE) == pytest.approx(0.08)
        assert self.edit("a", 0.01, divergence=1e-3).predicted["loss_upper"] == pytest.approx(0.3 / 144)
        noise = calibrating.renewed(replace(one, source="noise"))
        assert noise.predicted["loss_upper"] == calibrating.upper(noise, 2.0) == pytest.approx(0.8)
        bare = replace(one, shown=())
        assert calibrating.renewed(bare) is bare

    def test_the_smallest_factor_is_taken_that_enough_lie_below(self) -> None:
        many = [self.edit("a", 0.039 + at / 1e6) for at in range(19)]
        assert calibrating.fit(many) == 2
        assert calibrating.fit([*many, self.edit("b", 0.5)]) == 2
        assert calibrating.fit([*many, self.edit("b", 0.5), self.edit("c", 0.3)]) == 15
        assert calibrating.fit([self.edit("a", 0.9)]) == calibrating.LADDER[-1]

    def test_a_network_has_no_part_in_the_factor_that_its_edits_are_counted_by(self) -> None:
        calm = [self.edit("a", 0.029 + at / 1e6) for at in range(30)]
        assert calibrating.below(calm, calibrating.fit(calm)) == 30
        far = [self.edit("b", 0.1), self.edit("b-fp16", 0.1)]
        assert calibrating.fit([*calm, *far]) > 2
        assert calibrating.left_out([*calm, *far]) == 30

    def test_both_halves_are_counted(self) -> None:
        found = [self.edit("vgg_s0", 0.03), self.edit("vgg_s1", 0.05), self.edit("vgg_s3", 0.2)]
        choosing, reporting, every = calibrating.told(found).splitlines()
        assert "1 edits of 1 networks: 1.5 times" in choosing
        assert "2 edits of 2 networks: below the upper end of the tool lie 1 of 2" in reporting
        assert "below 1.5 times 0 of 2" in reporting
        assert "3 edits of 3 networks" in every
        assert calibrating.told(found[1:]) == ""


def test_the_page_of_the_project_has_every_part(tmp_path: Path) -> None:
    page = tmp_path / "harm.md"
    page.write_text((Path(__file__).parent.parent / "docs" / "harm.md").read_text(encoding="utf-8"), encoding="utf-8")
    tables.fill(page, [TestTables.harmed], picture="harm/predicted.png")
    text = page.read_text(encoding="utf-8")
    assert "| b | classifier |" in text
    assert "](harm/predicted.png)" in text


def test_records_are_plain_json(tmp_path: Path) -> None:
    record.write(tmp_path, TestTables.harmed)
    fields = json.loads(record.path(tmp_path, "b", "").read_text(encoding="utf-8"))
    assert fields["measures"]["loss"] == 0.3
