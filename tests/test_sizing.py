"""The input and the result side by side: what is counted, what is timed, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from onnx_clp import CleanConfig, UsageError
from onnx_clp.cli.main import main
from onnx_clp.modelfile.census import Census, take
from onnx_clp.report import html, sizing
from onnx_clp.report.terminal import render
from onnx_clp.run.pipeline import run
from onnx_clp.validation import latency
from onnx_clp.validation.session import RunError
from tests import reports, validation_models
from tests.forms.build import bn, model, rand


def network(*, x: str = "float[1,3,8,8] x", slow: int = 0) -> ModelProto:
    """Conv > BatchNormalization > Relu > `slow` Sins."""
    given: dict[str, Any] = {"w": rand(12, 3, 3, 3)} | bn(12)
    body = "c = Conv(x, w) n = BatchNormalization(c, g, b, m, v) a0 = Relu(n) "
    body += "".join(f"a{i + 1} = Sin(a{i}) " for i in range(slow)) + f"y = Identity(a{slow})"
    proto = model(body, x=x, **given)()
    assert isinstance(proto, ModelProto)
    return proto


def saved(proto: ModelProto, path: Path) -> Path:
    onnx.save(proto, path)
    return path


# --- census -------------------------------------------------------------------------------------------


def test_nodes_and_numbers_of_nested_graphs_and_functions_count_once() -> None:
    then, other = "t () => (float t1) { s = Exp(x) t1 = Neg(s) }", "e () => (float e1) { e1 = Neg(x) }"
    proto = model(f"y = If (c) <then_branch = {then}, else_branch = {other}>", x="float[2,3] x, bool c", y="float y")()
    assert take(proto) == Census(4, 0)
    proto.graph.node[0].attribute[0].g.initializer.append(helper.make_tensor("k", 1, [2, 2], [1.0] * 4))
    nodes = [helper.make_node("Constant", [], ["q"], value=helper.make_tensor("", 1, [5], [1.0] * 5))]
    proto.functions.append(helper.make_function("local", "F", [], ["q"], nodes, [helper.make_opsetid("", 17)]))
    assert take(proto) == Census(5, 9)


def test_a_weight_that_is_not_in_the_message_counts_by_its_shape() -> None:
    proto = network()
    assert take(proto).parameters == 12 * 27 + 4 * 12
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
    assert take(proto).parameters == 12 * 27 + 4 * 12


# --- in a run -----------------------------------------------------------------------------------------


def test_a_validated_run_knows_everything_but_the_time(tmp_path: Path) -> None:
    source, out = saved(network(x="float[n,3,8,8] x"), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    change = run(source, out, CleanConfig(provider="cpu", prune=False)).change
    assert change is not None
    assert (change.before.nodes, change.after.nodes) == (4, 3)
    assert (change.before.parameters, change.after.parameters) == (12 * 27 + 48, 12 * 27 + 12)
    assert (change.before.bytes, change.after.bytes) == (source.stat().st_size, out.stat().st_size)
    assert change.before.macs == change.after.macs == 12 * 36 * 27
    assert dict(change.shapes) == {"x": (1, 3, 8, 8)}
    assert (change.before.latency, change.after.latency, change.turns) == (None, None, 0)


def test_a_run_without_a_proof_does_not_know_what_a_run_costs(tmp_path: Path) -> None:
    source, out = saved(network(), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    report = run(source, out, CleanConfig(validate=False, prune=False))
    assert report.change is not None
    assert (report.change.before.macs, report.change.after.macs) == (None, None)
    assert report.change.after.bytes == out.stat().st_size
    assert "MACs               not known >       not known" in render(report)
    dry = run(source, None, CleanConfig(validate=False, prune=False)).change
    assert dry is not None
    assert (dry.before.bytes, dry.after.bytes) == (source.stat().st_size, None)


def test_bytes_count_the_data_file(tmp_path: Path) -> None:
    source, out = saved(network(), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    change = run(source, out, CleanConfig(validate=False, prune=False, external_data="always")).change
    (data,) = tmp_path.glob("out.onnx.*.data")
    assert change is not None
    assert change.after.bytes == out.stat().st_size + data.stat().st_size


def test_times_are_in_the_document_where_they_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(network(), tmp_path / "in.onnx")
    assert main([str(source), "--measure-latency", "--json", "--provider", "cpu"]) == 0
    change = json.loads(capsys.readouterr().out)["change"]
    assert change["turns"] >= 5
    assert 0 < change["before"]["latency"] < 1
    assert 0 < change["after"]["latency"] < 1
    assert change["latency_ratio"] > 0


def test_times_need_a_validated_run() -> None:
    with pytest.raises(UsageError, match="drop --no-validate or --measure-latency"):
        CleanConfig(latency=True, validate=False)


# --- times --------------------------------------------------------------------------------------------


def test_the_slower_model_takes_longer_whichever_comes_first(tmp_path: Path) -> None:
    x = "float[8,3,64,64] x"
    fast, slow = saved(network(x=x), tmp_path / "f.onnx"), saved(network(x=x, slow=40), tmp_path / "s.onnx")
    feeds = {"x": np.ones((8, 3, 64, 64), np.float32)}
    for before, after, larger in ((fast, slow, True), (slow, fast, False)):
        found = latency.compare(before, after, feeds, 0.2)
        assert (found.after > 2 * found.before) == larger
        assert (found.ratio > 2) == larger
        assert found.turns >= 5


def test_a_model_that_does_not_run_is_an_error_and_no_time(tmp_path: Path) -> None:
    good = saved(network(), tmp_path / "in.onnx")
    bad = validation_models.text_model("g (double[1,4] x) => (double[1,4] y) { y = com.x.F(x) }", tmp_path)
    with pytest.raises(RunError):
        latency.compare(good, bad, {"x": np.ones((1, 3, 8, 8), np.float32)}, 0.1)


# --- words --------------------------------------------------------------------------------------------


def test_the_table_has_a_row_per_figure() -> None:
    assert list(sizing.rows(reports.change())) == [
        ("nodes", "69", "49", "x 0.710"),
        ("parameters", "701,466", "690,001", "x 0.984"),
        ("file", "2.8 MB", "2.8 MB", "x 0.995"),
        ("MACs", "37.12 M", "36.00 M", "x 0.970"),
        ("CPU latency", "3.21 ms", "3 ms", "x 0.925"),
    ]
    assert sizing.footnote(reports.change()) == "one run on x 1x3x32x32; times and their ratio are medians of 120 turns"


def test_what_is_not_known_is_said_and_what_was_not_asked_for_is_left_out() -> None:
    full = reports.change()
    change = replace(
        full,
        before=replace(full.before, latency=None),
        after=replace(full.after, macs=None, bytes=None, parameters=701_466),
        turns=0,
        latency_ratio=None,
    )
    assert list(sizing.rows(change))[1:] == [
        ("parameters", "701,466", "701,466", "same"),
        ("file", "2.8 MB", "not known", ""),
        ("MACs", "37.12 M", "not known", ""),
    ]
    assert sizing.footnote(change) == "one run on x 1x3x32x32"
    assert sizing.footnote(replace(change, before=replace(change.before, macs=None))) == ""


@pytest.mark.parametrize(("count", "words"), [(0, "0"), (999, "999"), (1000, "1.00 k"), (4_089_184_256, "4.09 G")])
def test_large_counts_have_a_decimal_prefix(count: int, words: str) -> None:
    assert sizing.large(count) == words


def test_every_view_shows_the_table() -> None:
    report = reports.report(change=reports.change())
    text, page = render(report), html.render(report)
    assert "  size        nodes                     69 >              49  x 0.710\n" in text
    assert "              CPU latency          3.21 ms >            3 ms  x 0.925\n" in text
    assert all(f"<td>{words}</td>" in page for words in ("37.12 M", "x 0.970", "CPU latency"))
    assert "CPU latency" not in render(reports.report())
