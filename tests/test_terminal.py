"""The terminal view: what it says, how wide it is, and what it makes of hostile names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from onnx_clp.document.run import Gauge, Loss, Ordinary, OutputChange, Prediction, Rates, Report
from onnx_clp.report import gauging, layering, terminal, wording
from onnx_clp.report.advice import steps
from onnx_clp.report.terminal import render
from onnx_clp.report.wording import number
from onnx_clp.text import one_line
from onnx_clp.verdicts import LayerStatus
from tests import reports

ANSI = re.compile(r"\x1b\[\d+m")


def lines_of(report: Report, *, verbose: bool = False) -> list[str]:
    return render(report, verbose=verbose).splitlines()


def line_with(text: str, report: Report) -> str:
    (line,) = [line for line in lines_of(report) if text in line]
    return line


def test_a_judged_layer_is_a_row_of_numbers_and_its_pruned_channels_follow() -> None:
    layer = reports.layer("/layer1/conv", 16, 1)
    (judgement,) = layer.judgements
    lines = lines_of(reports.report((layer,)))
    at = next(place for place, line in enumerate(lines) if line.startswith("/layer1/conv "))
    figures = [number(x) for x in (judgement.mean, judgement.std, judgement.threshold)]
    assert lines[at].split() == ["/layer1/conv", "16", "yes", *figures, "1"]
    (channel,) = judgement.pruned
    words = f"channel 3 score 3.000 z {channel.z:.2f} upper bound 9.000"
    assert lines[at + 1].split() == words.split()


def test_pruned_channels_come_highest_first_and_are_cut_off_unless_verbose() -> None:
    report = reports.report((reports.layer("many", 512, 12),))
    scores = [float(line.split()[3]) for line in lines_of(report) if line.startswith("    channel ")]
    assert len(scores) == layering.MOST_CHANNELS
    assert scores == sorted(scores, reverse=True)
    assert "    ... and 4 more (-v lists them)" in lines_of(report)
    everything = lines_of(report, verbose=True)
    assert sum(line.startswith("    channel ") for line in everything) == 12
    assert not any("more (-v" in line for line in everything)


@pytest.mark.parametrize("status", [s for s in LayerStatus if s is not LayerStatus.JUDGED])
def test_a_layer_that_was_not_judged_says_so_in_its_row_and_why_with_v(status: LayerStatus) -> None:
    report = reports.report((reports.unjudged("/gate/conv", status, reason="only scales others"),))
    assert line_with("/gate/conv ", report).endswith(status.value)
    assert "only scales others" not in render(report)
    assert "    only scales others" in lines_of(report, verbose=True)


def test_a_fold_that_was_refused_gives_its_reason() -> None:
    layer = reports.layer("/c", folded=(), not_folded="the normalisation has another consumer")
    lines = lines_of(reports.report((layer,)))
    assert "    not folded: the normalisation has another consumer" in lines
    assert line_with("/c ", reports.report((layer,))).split()[2] == "no"
    neither = reports.report((reports.layer("/c", folded=()),))
    assert line_with("/c ", neither).split()[2] == "none"


def test_several_normalisations_get_a_row_each_the_pruning_ones_first() -> None:
    calm = tuple(reports.judgement((1.0, 1.1) * 20, normalisation=f"bn{i}") for i in range(6))
    loud = reports.judgement((1.0, 1.1) * 20 + (9.0,), normalisation="bn-loud")
    report = reports.report((reports.layer("/c", 40, judgements=(*calm, loud)),))
    text = render(report)
    assert line_with("/c ", report).split()[-1] == "1"
    assert "  via bn2 " in text
    assert "  via bn3 " not in text
    assert "... and 3 more normalisations (-v lists them)" in text
    assert "  via bn5 " in render(report, verbose=True)


def test_the_summary_has_every_figure_asked_for() -> None:
    text = render(reports.report(evaluation=reports.evaluation()))
    for part in (
        "suspicious: the trigger that was supplied works; 15 channels switched off; 2",
        "15 pruned / 352 judged / 8 too small to judge / 42 not judged",
        "3 normalisations folded, 1 left in place; nodes 69 > 49",
        "validated on CPUExecutionProvider (asked for: auto)",
        "fold error  1.235e-06 (allowed: 1.000e-05)",
        "loss        about 0.2 % of ordinary images (0.0 to 0.6 %); measured on 144",
        "at most 1.0 % was allowed\n",
        "logits: class changes 0.4 %, divergence 0.01000",
        "ACC   91.6 % >   91.2 %",
        "ASR  100.0 % >    6.2 %",
        "RA     0.0 % >   85.1 %",
        "out.onnx, 2.8 MB > 2.8 MB, sha256 fedcba987654",
        "2.8 s (read 0.1, fold 0.4, validate 2.3); peak memory 213.0 MB",
        "/bn0/BatchNormalization (BatchNormalization): nothing before it",
        "data-dependent branch at /If: the input decides which branch",
    ):
        assert part in text


def test_what_stays_is_marked_and_counted_and_said_why() -> None:
    text = render(reports.careful())
    words = " ".join(text.split())
    assert "6 of 128 channels stand out, in 2 of 2 judged layers, data-dependent branch at /If; 2 channels" in words
    assert "2 channels switched off, 4 kept" in words
    assert "2 pruned / 4 kept / 128 judged" in words
    rows = [line.split() for line in text.splitlines() if line.startswith("    channel ")]
    assert sorted(row[1] for row in rows if row[-1] == "kept") == ["10", "17", "3", "3"]
    assert len(rows) == 6
    for part in (
        "at most 1.0 % was allowed, because class 3 stands out",
        "2 channels kept: with all that stood out off, about 2.0 % of ordinary images (0.3 to 6.0 %)",
        "2 channels kept: what switching them off costs cannot be measured there",
        "caps at 2.5 std: about 30.0 % of ordinary images (5.0 to 90.0 %)",
    ):
        assert part in words
    plain = render(reports.report())
    assert " kept" not in plain
    assert "because" not in plain
    assert "with all that stood out off" not in plain


UNMEASURED = replace(reports.gauge(), ordinary=None, prediction=None)


@pytest.mark.parametrize(
    ("options", "gauge", "row"),
    [
        ({"validate": False}, UNMEASURED, "loss not known: --no-validate runs nothing, so nothing could be measured"),
        ({"budget": 1.0}, UNMEASURED, "loss not known: the budget of 1 allows everything, so nothing was measured"),
        ({}, replace(UNMEASURED, unreached=3), "loss 3 channels kept: what switching them off costs cannot be"),
        ({}, replace(reports.gauge(), prediction=Prediction(Loss(0.0, 0.0, 0.0), ())), "none of ordinary images; me"),
    ],
)
def test_a_loss_that_is_not_known_or_none_says_so(options: dict[str, object], gauge: Gauge, row: str) -> None:
    text = render(reports.report(LOUD, options={"u": 3.0, **options}, gauge=gauge))
    assert row in " ".join(text.split())
    assert "\n  loss " not in render(reports.report(LOUD, gauge=None))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("option", "(as --pixel-range says)"),
        ("file", "(as the file says)"),
        ("statistics", "(as its statistics say)"),
        ("scale", "(assumed by the scale of what it computes; --pixel-range says better)"),
        ("guess", "(assumed; --pixel-range says better)"),
        ("path", "(on which the path is still; --pixel-range says better)"),
    ],
)
def test_what_the_loss_was_measured_on_is_told(told: str, words: str) -> None:
    shown = gauging.images(Ordinary("photographs", 1, "0..255", told))
    assert shown == f"1 crop of photographs, pixels 0..255 {words}"
    assert gauging.images(Ordinary("data", 40)) == "40 images of --images"
    loss = Loss(0.002, 0.0, 0.006)
    assert gauging.spelled(loss, Ordinary("noise", 32)) == "about 0.2 % of ordinary inputs (0.0 to 0.6 %)"
    assert gauging.spelled(loss, Ordinary("data", 32)) == "about 0.2 % of ordinary images (0.0 to 0.6 %)"
    assert gauging.images(Ordinary("noise", 32)) == "32 made-up signals, as the model takes no images"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (OutputChange("y", "classes", 0.125, 0.5, 0.1), "class changes 12.5 %, divergence 0.5000"),
        (OutputChange("y", "values", relative=0.031), "moves by 3.1 % of its own variation"),
        (OutputChange("y", "values", changed=0.25), "changes for 25.0 %"),
        (OutputChange("y", "discrete", changed=0.5), "changes for 50.0 %"),
    ],
)
def test_every_output_moves_in_its_own_terms(change: OutputChange, words: str) -> None:
    assert gauging.moved(change) == words


def test_an_output_that_is_the_input_byte_for_byte_is_called_a_copy() -> None:
    before = reports.report().input
    assert before is not None
    copied = reports.report(QUIET, output=replace(before, path="out.onnx"))
    assert line_with("out.onnx, ", copied).endswith("2.8 MB, a copy of the input")


def test_a_rate_that_was_not_measurable_is_a_dash() -> None:
    evaluation = replace(reports.evaluation(), after=Rates(0.5, None, float("nan")))
    text = render(reports.report(evaluation=evaluation))
    assert re.search(r"ASR +100\.0 % > +-\n", text)
    assert re.search(r"RA +0\.0 % > +-\n", text)


def test_without_triggered_images_the_accuracy_is_all_there_is() -> None:
    alone = Rates(0.5, None, None)
    evaluation = replace(reports.evaluation(), before=alone, after=alone, triggered_images=0)
    text = render(reports.report(evaluation=evaluation))
    assert re.search(r"evaluation .* clean images\n", text)
    assert "ACC   50.0 % >   50.0 %" in text
    assert "ASR" not in text
    assert "triggered images" not in text


LOUD = (reports.layer(outliers=1),)
QUIET = (reports.layer(outliers=0),)
SMALL = (reports.unjudged("/c", LayerStatus.TOO_SMALL, 8), reports.unjudged("/d", LayerStatus.TOO_SMALL, 4))


@pytest.mark.parametrize(
    "report",
    [
        reports.report(LOUD),
        reports.report(QUIET),
        reports.report(SMALL),
        reports.report(()),
        reports.hostile(),
    ],
)
def test_no_verdict_calls_a_model_clean(report: Report) -> None:
    said = wording.headline(report) + " ".join(step.sentence for step in steps(report))
    words = re.findall(r"[a-z]+", said.lower())
    assert {"clean", "safe", "harmless", "secure"}.isdisjoint(words)
    assert wording.headline(report).startswith(report.summary.verdict.value)


def test_a_model_without_linear_layers_says_so() -> None:
    text = render(reports.report((), findings=()))
    assert "This model has no Conv, ConvTranspose, Gemm or MatMul with constant weights." in text
    assert "could not judge: the model has no linear layer" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_no_line_but_the_last_is_wider_than_the_terminal(width: int, verbose: bool) -> None:
    for report in (reports.report(evaluation=reports.evaluation()), reports.hostile(), reports.careful()):
        lines = render(report, width=width, verbose=verbose).splitlines()
        assert max(len(line) for line in lines if not line.startswith("      onnx-clp ")) <= width


def test_what_to_do_next_ends_the_table_with_a_shell_line_below_each_step_that_has_one() -> None:
    lines = lines_of(reports.report(LOUD, findings=()))
    at = next(place for place, line in enumerate(lines) if line.startswith("next: "))
    assert lines[at:] == [
        "next: look for a trigger too, and undo it (minutes):",
        "      onnx-clp --effort high --overwrite in.onnx out.onnx",
        "  or: test out.onnx on data of your own before you use it: --eval DATA.npz",
        "      measures ACC and ASR",
    ]


def test_no_two_layers_print_alike() -> None:
    names = [f"/layer{a}/layer{a}.{b}/body/body.{c}/Conv" for a in (1, 2, 3) for b in (0, 1) for c in (0, 3)]
    lines = lines_of(reports.report(tuple(reports.layer(name, 16) for name in names)))
    shown = [line.split()[0] for line in lines if line.split()[1:3] == ["16", "yes"]]
    assert len(set(shown)) == len(shown) == len(names)


@pytest.mark.parametrize("verbose", [False, True])
def test_hostile_names_cannot_leave_their_place(verbose: bool) -> None:
    report = reports.hostile()
    text = render(report, verbose=verbose)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert not re.search(r"^\s*::", text, re.MULTILINE)
    assert "##[" not in text
    assert "[bold red]" in text
    ordinary = reports.report(report.layers, findings=report.findings, affines_left=report.affines_left)
    assert len(render(ordinary)) < 30_000


def test_colour_adds_escapes_and_nothing_else() -> None:
    report = reports.hostile()
    colored = render(report, color=True)
    stripped = "\n".join(line.rstrip() for line in ANSI.sub("", colored).split("\n"))
    assert stripped == render(report)
    assert ANSI.search(colored)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (3.0, "3.000"),
        (1024.0, "1024"),
        (1.5e-7, "1.500e-07"),
        (float("nan"), "nan"),
        (None, "-"),
    ],
)
def test_numbers_have_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_812_345, "2.8 MB"), (5 * 10**15, "5,000.0 TB")],
)
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert wording.size(count) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\\x1b b", "a\\x1b b"), ("a\x1b\nb", "a\\x1b\\nb"), ("x" * 500, "x" * 399 + "…"), ("", "")],
)
def test_one_line_escapes_once(text: str, expected: str) -> None:
    assert one_line(text) == expected
    assert one_line(expected) == expected


def test_whether_cleaning_up_left_every_value_as_it_was_is_told() -> None:
    proof = reports.report().validation
    same = terminal.render(reports.report(validation=replace(proof, cleanup_error=0.0)))
    assert "cleaning up: every value is the same" in same
    rounded = terminal.render(reports.report(validation=replace(proof, cleanup_error=5.1e-7)))
    assert "5.100e-07 of cleaning up, within rounding (allowed: 1.000e-05)" in rounded
    assert "cleaning up" not in terminal.render(reports.report())


def test_cleaning_up_is_told_kind_by_kind_where_it_was_asked_for() -> None:
    text = terminal.render(reports.report(cleanup=reports.cleanup()))
    words = " ".join(text.split())
    assert (
        "cleaned up 2 dead nodes, 4 no-ops (1 Dropout, 3 Identity), 5 unused initializers, 1 duplicate initializer, "
        "1 record of values that are not there, 8 constants that this run left unused"
    ) in words
    nothing = replace(reports.cleanup(), dead_nodes=0, no_ops={}, unused_initializers=0, orphans=0)
    nothing = replace(nothing, duplicate_initializers=0, stale_records=0)
    assert "cleaned up  nothing to take out" in terminal.render(reports.report(cleanup=nothing))
    assert "cleaned up" not in terminal.render(reports.report(cleanup=replace(nothing, level="own")))
    assert "cleaned up" not in terminal.render(reports.report())
