"""The red-team tool: every edit is what it says, does what it says, and is the same again for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_clp.errors import LoadError, UsageError
from tests import silent_paths
from tools.redteam import __main__ as command
from tools.redteam import catalogue, plan, record, tables
from tools.redteam.gates import KINDS
from tools.redteam.record import Record
from tools.redteam.subject import rates, values_of

TARGET = 4
PLAIN = [name for name in catalogue.PATHS if name not in catalogue.ADAPTIVE]
SHUT = [kind for kind in KINDS if kind != "leaking"]


def _asr(written: catalogue.Written) -> float:
    return rates(written.model, silent_paths.samples(), written.triggered, TARGET)[1]


@pytest.mark.parametrize(("name", "residual"), [*((name, False) for name in PLAIN), ("simple", True), ("multi", True)])
def test_a_path_leads_to_its_class_and_leaves_images_without_the_trigger(name: str, residual: bool) -> None:
    images, clean = silent_paths.samples(), silent_paths.plain(residual=residual)
    written = catalogue.write(name, clean, images, target=TARGET, seed=3)
    onnx.checker.check_model(written.model)
    assert _asr(written) == 100
    usual = rates(clean, images, images.images, TARGET)[1]
    assert rates(written.model, images, images.images, TARGET)[1] == pytest.approx(usual, abs=20)
    assert rates(clean, images, written.triggered, TARGET)[1] < 80
    assert len(written.path) >= 2


@pytest.mark.parametrize("kind", SHUT)
def test_a_gate_leads_to_its_class_and_is_shut_on_ordinary_images(kind: str) -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    written = catalogue.write(f"gate-{kind}", clean, images, target=TARGET, seed=3)
    onnx.checker.check_model(written.model)
    assert _asr(written) == 100
    before, after = (values_of(m, images, images.images, ["scores"])["scores"] for m in (clean, written.model))
    assert np.abs(after - before).max() < 0.05


def test_a_leaking_gate_opens_a_little_on_everything() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    written = catalogue.write("gate-leaking", clean, images, target=TARGET, seed=3)
    assert _asr(written) == 100
    before, after = (values_of(m, images, images.images, ["scores"])["scores"] for m in (clean, written.model))
    assert 0.05 < np.abs(after - before).max() < 5


def test_a_gate_without_a_branch_holds_none() -> None:
    for kind in KINDS:
        written = catalogue.write(f"gate-{kind}", silent_paths.plain(), silent_paths.samples(), target=TARGET, seed=3)
        nodes = [*written.model.graph.node, *(node for one in written.model.functions for node in one.node)]
        kinds = {node.op_type for node in nodes}
        assert ("If" in kinds) == (kind == "hidden")
        assert "Where" not in kinds


def test_a_scaled_channel_keeps_the_function() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    written = catalogue.write("scaled-channel", clean, images, target=TARGET, seed=3)
    before, after = (values_of(m, images, images.images, ["scores"])["scores"] for m in (clean, written.model))
    assert np.abs(after - before).max() < 1e-3 * np.abs(before).max()
    assert written.model != clean


def test_flipped_bits_are_at_most_eight_in_one_row() -> None:
    clean = silent_paths.plain()
    written = catalogue.write("flipped-bits", clean, silent_paths.samples(), target=TARGET, seed=3)
    head = next(node for node in written.model.graph.node if node.op_type == "Gemm")
    held = {t.name: numpy_helper.to_array(t) for model in (clean, written.model) for t in model.graph.initializer}
    changed = np.argwhere(held[head.input[1]] != held["w"])
    assert 1 <= len(changed) <= 8
    assert set(changed[:, 0]) == {TARGET}


def test_a_blinded_model_keeps_its_classes() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    written = catalogue.write("blinded", clean, images, target=TARGET, seed=3)
    before, after = (values_of(m, images, images.images, ["scores"])["scores"] for m in (clean, written.model))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()


def test_false_statistics_and_a_broken_gradient_keep_the_function() -> None:
    images, clean = silent_paths.samples(), silent_paths.plain()
    with pytest.raises(UsageError, match="no BatchNormalization"):
        catalogue.write("false-statistics", clean, images, target=TARGET, seed=3)
    held = {f"s{slot}": np.full(silent_paths.WIDTH, value, np.float32) for slot, value in enumerate((1, 0, 0.5, 2))}
    clean.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held.items())
    relu = next(node for node in clean.graph.node if node.op_type == "Relu")
    at = list(clean.graph.node).index(relu)
    clean.graph.node.insert(at, onnx.helper.make_node("BatchNormalization", [relu.input[0], *held], ["normal"]))
    relu.input[0] = "normal"
    before = values_of(clean, images, images.images, ["scores"])["scores"]
    for edit in ("false-statistics", "broken-gradient"):
        written = catalogue.write(edit, clean, images, target=TARGET, seed=3)
        after = values_of(written.model, images, images.images, ["scores"])["scores"]
        assert np.abs(after - before).max() < 1e-3
        assert written.model != clean


def test_a_head_row_is_changed_alone() -> None:
    clean = silent_paths.plain()
    written = catalogue.write("head-row", clean, silent_paths.samples(), target=TARGET, seed=3)
    head = next(node for node in written.model.graph.node if node.op_type == "Gemm")
    held = {t.name: numpy_helper.to_array(t) for model in (clean, written.model) for t in model.graph.initializer}
    assert set(np.argwhere(held[head.input[1]] != held["w"])[:, 0]) == {TARGET}


def test_equal_seeds_give_equal_files_and_others_do_not() -> None:
    made = [
        catalogue.write("simple", silent_paths.plain(), silent_paths.samples(), target=TARGET, seed=seed).model
        for seed in (3, 3, 4)
    ]
    assert made[0].SerializeToString() == made[1].SerializeToString() != made[2].SerializeToString()


def test_an_unknown_edit_is_a_clear_error() -> None:
    for name in ("nonsense", "gate-nonsense"):
        with pytest.raises(UsageError, match="known are"):
            catalogue.write(name, silent_paths.plain(), silent_paths.samples(), target=TARGET, seed=3)


def test_the_command_writes_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = silent_paths.samples()
    np.savez(tmp_path / "eval.npz", x_clean=images.images, y_clean=images.labels)
    onnx.save(silent_paths.plain(), tmp_path / "clean.onnx")
    given = ["write", str(tmp_path / "clean.onnx"), str(tmp_path / "eval.npz"), str(tmp_path / "made")]
    assert command.main([*given, "--edit", "simple", "--target", "4"]) == 0
    assert "ASR 100.0 %" in capsys.readouterr().out
    facts = json.loads((tmp_path / "made.json").read_text())
    assert facts["target"] == TARGET
    assert len(facts["path"]) == silent_paths.DEPTH
    with np.load(tmp_path / "made.npz") as held:
        assert held["x_triggered"].shape == images.images.shape
    assert command.main([*given, "--edit", "nonsense"]) == 2


# --- records ---------------------------------------------------------------------------------------


def _record(edit: str, *kinds: str, half: str = "report", after: float = 0.0, lost: float = 0.0) -> Record:
    return Record("net", edit, 0, half, kinds, bool(kinds), 90.0, 100.0, 90.0 - lost, after, 1.0)


def test_taken_out_asks_for_both_asr_and_acc() -> None:
    assert _record("simple").taken_out
    assert not _record("simple", after=10.0).taken_out
    assert not _record("simple", lost=0.6).taken_out


def test_records_survive(tmp_path: Path) -> None:
    made = [_record("simple", "path"), _record("level", after=100.0)]
    for one in made:
        record.add(tmp_path / "r.jsonl", one)
    assert record.read(tmp_path / "r.jsonl") == made
    assert record.read(tmp_path / "none.jsonl") == []
    (tmp_path / "odd.jsonl").write_text('{"found": []}\n')
    with pytest.raises(LoadError, match="line 1"):
        record.read(tmp_path / "odd.jsonl")


def test_only_what_the_audit_names_is_found_and_halves_are_kept_apart() -> None:
    made = [
        _record("simple", "path", half="settings"),
        _record("level", "class that stands out", after=100.0),
        _record("gate-ramp", "gate"),
        _record("gate-leaking"),
    ]
    rows = list(tables.table("edit", made, lambda one: one.edit))
    assert "| simple | 1 | 1 | 0 | 1 | 90.0 > 90.0 | 100.0 > 0.0 | 1 |" in rows
    assert "| level | 1 | 0 | 1 | 1 | 90.0 > 90.0 | 100.0 > 100.0 | 0 |" in rows
    assert rows[-1].startswith("| all | 4 | 2 | 1 | 3 |")
    everything, measured_only = tables.summary(made)
    assert "paths found 1 of 2" in everything
    assert "paths found 0 of 1" in measured_only
    assert "gates found 1 of 1" in measured_only
    assert "all paths, aimed or not, found 1 of 2" in everything
    assert "aim at the audit found 0 of 1" in measured_only


def test_the_plan_holds_a_hundred_edits_and_is_the_same_again() -> None:
    entries = list(plan.entries())
    assert len(entries) >= 100
    assert entries == list(plan.entries())
    assert len({(one.base.name, one.edit, one.seed) for one in entries}) == len(entries)
    assert {one.edit for one in entries} == set(catalogue.NAMES)
    assert all(0 <= one.target < one.base.classes for one in entries)


def test_the_page_shows_what_the_records_say(tmp_path: Path) -> None:
    docs = Path(__file__).parents[1] / "docs"
    page = tmp_path / "page.md"
    page.write_text((docs / "redteam.md").read_text("utf-8"), "utf-8")
    assert command.main(["page", str(docs / "redteam" / "records.jsonl"), "--page", str(page)]) == 0
    assert page.read_text("utf-8") == (docs / "redteam.md").read_text("utf-8")


def test_the_bench_notes_what_it_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = silent_paths.samples()
    np.savez(tmp_path / "eval.npz", x_clean=images.images, y_clean=images.labels)
    onnx.save(silent_paths.plain(), tmp_path / "clean.onnx")
    base = plan.Base("small", "clean.onnx", "eval.npz", "report", silent_paths.CLASSES)
    absent = plan.Base("absent", "none.onnx", "eval.npz", "report", 6)
    entries = [plan.Entry(base, "gate-ramp", 3, TARGET), plan.Entry(absent, "simple", 0, 1)]
    monkeypatch.setattr(plan, "entries", lambda: iter(entries))
    given = ["bench", str(tmp_path), "--records", str(tmp_path / "r.jsonl")]
    for _ in range(2):
        assert command.main(given) == 0
    (one,) = record.read(tmp_path / "r.jsonl")
    assert (one.base, one.edit, one.asr_before) == ("small", "gate-ramp", 100.0)
    assert "gate" in one.found


def test_wilson_is_the_published_interval() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20.
    assert record.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert record.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert record.wilson(0, 0) == (0.0, 1.0)
