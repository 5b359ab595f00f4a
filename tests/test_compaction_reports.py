"""What the report's views say of the channels that were taken out, and of those that stayed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from onnx_clp.cli.main import main
from onnx_clp.compaction import cuts
from onnx_clp.report import terminal
from tests import reports
from tests.compact_rows import ROWS


def test_the_terminal_counts_and_gives_each_layers_reason() -> None:
    text = terminal.render(reports.report(compaction=reports.compaction()), width=120)
    assert "compacted   2 channels taken out, 15 that do nothing stayed" in text
    assert "2 channels stayed: it is constant and not zero where Conv b reads it" in text
    assert "... and 6 more (-v lists them)" in text
    assert "conv11: 1 channel stayed: it is tied" not in text
    everything = terminal.render(reports.report(compaction=reports.compaction()), width=120, verbose=True)
    assert "conv11: 1 channel stayed: it is tied" in everything
    assert "compacted" not in terminal.render(reports.report())


def test_a_name_cannot_break_the_terminals_lines() -> None:
    text = terminal.render(reports.report(compaction=reports.compaction(reports.HOSTILE[0] + reports.HOSTILE[4])))
    assert "\x1b" not in text
    assert not any(line.startswith("::") for line in text.splitlines())


def test_the_page_has_a_row_for_each_layer() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from onnx_clp.report import html

    page = html.render(reports.report(compaction=reports.compaction(reports.HOSTILE[2])))
    assert "2: it is constant and not zero where Conv b reads it; 1: it is tied" in page
    assert "<script" not in page
    assert page.count("1: it is tied") == 13
    assert 'id="compaction"' not in html.render(reports.report())


def test_the_command_line_compacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(ROWS[0].model(), source)
    assert main([str(source), str(out), "--compact", "--compact-multiple", "1", "--no-prune", "--provider", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "2 channels taken out, 0 that do nothing stayed" in text
    assert "of taking channels out" in text
    assert [tuple(t.dims) for t in onnx.load(out).graph.initializer] == [(6, 3, 3, 3), (6,), (4, 6, 3, 3)]


def test_a_wrong_cut_is_a_mismatch_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(ROWS[0].model(), source)
    take = cuts.AxisPick.take
    monkeypatch.setattr(cuts.AxisPick, "take", lambda self, values: take(self, values)[::-1])
    assert main([str(source), str(out), "--compact", "--compact-multiple", "1", "--no-prune", "--provider", "cpu"]) == 3
    assert "compaction changed output y" in capsys.readouterr().err
    assert not out.exists()
