"""The benchmark's own arithmetic, and what it does about tools that are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.bench import runs as benchmark
from tools.bench.processes import Cost
from tools.bench.scoring import shapes


def table(cpu: float) -> benchmark.Table:
    return [
        benchmark.Row("onnx.save(onnx.load())", Cost(9.0, 9.0, 1), 1, 1, 1),
        benchmark.Row("onnx_clp --no-validate", Cost(cpu, 9.0, 1), 1, 1, 1),
    ]


def test_the_line_is_the_slope_between_the_smallest_and_the_largest_model() -> None:
    # 180 MB are four times 45 MB, so these two are 135 MB apart
    found = {"ResNet-18 of 180 MB": table(1.75), "ResNet-18 of 45 MB": table(0.4), "Start-up: three nodes": table(0.1)}
    assert benchmark.per_100_mb(found) == "Beyond start-up: 1.00 CPU seconds per 100 MB, without validation.\n"
    assert benchmark.per_100_mb({"ResNet-18 of 180 MB": table(1.75)}) == ""


def test_the_widths_have_the_sizes_they_are_called_by() -> None:
    for name, width in benchmark._WIDTHS.items():
        number, unit = name.split()
        size = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
        weights = sum(a * b * c for a, b, c in shapes(width)) + 8 * width * 1000
        assert 4 * weights == pytest.approx(size, rel=0.12)


def test_a_tool_that_is_nowhere_is_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = benchmark.Bench(tmp_path, 1)
    assert bench.having("numpy", "onnx") == sys.executable
    assert bench.having("no_such_package") is None
    assert capsys.readouterr().out == "no_such_package: not installed, left out\n\n"


def test_a_tool_of_another_interpreter_is_found(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    assert benchmark.Bench(tmp_path, 1, [str(other)]).having("no_such_package") == str(other)


@pytest.mark.parametrize(("words", "sizes"), [(["--sizes", "1 MB, 1 GB"], ["1 MB", "1 GB"]), (["--quick"], ["1 MB"])])
def test_sizes_are_chosen(words: list[str], sizes: list[str]) -> None:
    assert benchmark.parse(words).sizes == sizes


def test_an_unknown_size_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        benchmark.parse(["--sizes", "7 MB"])
    assert stop.value.code == 2
    assert "7 MB is none of 1 MB, 12 MB" in capsys.readouterr().err
