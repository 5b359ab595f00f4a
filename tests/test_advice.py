"""What to do next: steps that do something on this very file, as shell lines that parse to what they say."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnx_clp.cli.arguments import Arguments, parse
from onnx_clp.config import CleanConfig
from onnx_clp.document.audit import Audit, DormantPath, PathLayer
from onnx_clp.document.gauge import Loss
from onnx_clp.document.run import Finding, Outlook, Rates, RepairReport, Report
from onnx_clp.report import command
from onnx_clp.report.advice import MOST_STEPS, Advice, steps
from onnx_clp.report.wording import done
from onnx_clp.verdicts import LayerStatus
from tests import reports
from tests.test_assessment import search

QUIET = (reports.layer("b"),)
LOUD = (reports.layer("a", outliers=2),)
KEPT = (reports.layer("a", outliers=2, kept=2),)
ODD = (Finding("data-dependent branch", "If", "the input decides"),)
NAMED = (Finding("class that stands out", "fc", "class 3's row stands out", 3),)
OPEN = Outlook(cappable=20)
NO_SEARCH = Outlook(cappable=20, unsearchable="it takes no images")
STILL_BAD = replace(reports.evaluation(), after=Rates(0.91, 0.8, 0.1))
COSTLY = replace(reports.evaluation(), after=Rates(0.6, 0.05, 0.5))
DONE = RepairReport(1.0, 0.01, 0.99, 1.2, False, Loss(0.0, 0.0, 0.0), 0.99, 3, (), ())


def options(**changes: Any) -> dict[str, Any]:
    given = {f.name: getattr(CleanConfig(), f.name) for f in dataclasses.fields(CleanConfig)}
    return {**given, **changes}


def report(layers: Any = LOUD, **changes: Any) -> Report:
    given: dict[str, Any] = {"findings": (), "caps": None, "outlook": OPEN, "options": options(), **changes}
    return reports.report(layers, **given)


def commands(found: Report) -> list[str]:
    return [step.command for step in steps(found) if step.command]


def parsed(line: str) -> Arguments:
    program, *words = shlex.split(line)
    assert program == "onnx-clp"
    return parse([*words, "--no-config"])


# --- lines ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"u": 2.5, "rule": "mad"},
        {"rule": "inverted"},
        {"rule": "exact"},
        {"prune": False},
        {"validate": False},
        {"include": ("a*", "-b"), "exclude": ("c",)},
        {"bound_activations": 0.0},
        {"bound_activations": 2.75, "calibrate": Path("d a.npz")},
        {"pixel_range": (-1.0, 1.0)},
        {"shapes": {"x:y": (1, 3, 8, 8)}},
        {"sweep": (1.5, 1.75, 2.0)},
        {"sweep": (3.0,)},
        {"latency": True, "compact": True, "compact_multiple": 1, "synthesize": True, "invert": True},
        {"eval_data": Path("e.npz"), "output_name": "logits", "tolerance": 1e-7, "seed": 7},
        {"budget": 0.05, "fill": "zero", "layers": "all", "cleanup": "all", "external_data": "always"},
        {"max_size": 12345, "memory": 1 << 30, "timeout": 12.5, "provider": "cpu", "freeze_inputs": True},
        {"skip_unsearchable": True, "invert": True, "images": Path("i.npz"), "compare_providers": True},
    ],
    ids=str,
)
def test_a_line_parses_to_the_run_it_is_of(changes: dict[str, Any]) -> None:
    config = CleanConfig(**changes)
    given = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    found = parsed(command.line(report(options=plain), "o ut.onnx"))
    assert found.config == config
    assert (found.source, found.destination) == (Path("in.onnx"), Path("o ut.onnx"))


def test_every_option_of_the_configuration_can_be_spelled() -> None:
    odd = {"rule": "mad", "repair": True, "prune": False, "sweep": (2.0,), "bound_activations": 3.0}
    for field in dataclasses.fields(CleanConfig):
        assert command.words_of(options(**{field.name: odd[field.name]})) if field.name in odd else True


def test_a_line_replaces_what_this_run_wrote_and_nothing_else() -> None:
    assert parsed(command.line(report(), "out.onnx")).overwrite
    assert not parsed(command.line(report(), "other.onnx")).overwrite
    assert not parsed(command.line(report(output=None), command.output_of(report(output=None)))).overwrite


def test_a_path_that_looks_like_an_option_is_none() -> None:
    made = report()
    assert made.input is not None
    line = command.line(replace(made, input=replace(made.input, path="-in.onnx")))
    assert parsed(line).source == Path("./-in.onnx")


# --- steps ------------------------------------------------------------------------------------------------


def test_a_named_class_is_searched_for_where_that_can_run_and_only_there() -> None:
    found = parsed(commands(report(findings=NAMED))[0])
    assert found.config.effort == "high"
    assert found.destination == Path("out.onnx")
    assert not any("--effort" in line for line in commands(report(findings=NAMED, outlook=NO_SEARCH)))


def test_an_unusual_file_is_looked_at_with_high_effort() -> None:
    found = parsed(commands(report())[0])
    assert (found.config.effort, found.config.repair, found.destination) == ("high", False, Path("out.onnx"))


def test_a_run_that_folds_alone_is_not_promised_a_repair() -> None:
    folds, prunes = (steps(report(options=options(prune=prune)))[0] for prune in (False, True))
    assert "undo" not in folds.sentence
    assert "undo" in prunes.sentence
    assert "--no-prune" in folds.command


def test_a_path_is_taken_out_by_pruning_and_is_a_change_worth_writing() -> None:
    path = DormantPath((PathLayer("a", (5,)), PathLayer("b", (7,), 0.93)), 3, 1.0, 0.25, 2.0, 0.5)
    audit = Audit(None, (), 1, path)
    left = steps(report(QUIET, findings=NAMED, audit=audit, options=options(prune=False)))
    (line,) = [step.command for step in left if step.sentence == "take the path out"]
    assert parsed(line).config.prune
    dry = [
        [step.sentence for step in steps(report(QUIET, findings=NAMED, output=None, audit=one))]
        for one in (replace(audit, removed=2), audit)
    ]
    assert ["write the repaired model" in sentences for sentences in dry] == [True, False]
    assert "2 kernels of the path zeroed" in list(done(report(QUIET, audit=replace(audit, removed=2))))


def test_high_effort_is_not_advised_again_after_a_run_that_took_it() -> None:
    found = replace(search(3), repair=None)
    plain, high = (steps(report(inversion=found, options=options(effort=one))) for one in ("normal", "high"))
    assert "undo the trigger that was found" in [step.sentence for step in plain]
    assert not any("undo" in step.sentence for step in high)


def test_a_trigger_that_was_found_is_undone_once() -> None:
    found = replace(search(3), repair=None)
    assert parsed(commands(report(inversion=found))[0]).config.repair
    repaired = report(inversion=replace(found, repair=DONE), options=options(prune=False, repair=True))
    assert commands(repaired) == []
    assert "test out.onnx on data of your own" in steps(repaired)[0].sentence


@pytest.mark.parametrize(
    ("changes", "advised"),
    [
        ({}, True),
        ({"outlook": replace(NO_SEARCH, cappable=0)}, False),
        ({"options": options(bound_activations=2.5)}, False),
        ({"options": options(budget=1.0)}, False),
        ({"options": options(validate=False)}, False),
        ({"caps": reports.report().caps}, False),
        ({"gauge": reports.gauge(evidence="class 3")}, False),
    ],
)
def test_caps_are_advised_where_they_would_be_put_and_only_there(changes: dict[str, Any], advised: bool) -> None:
    given = {"findings": NAMED, "outlook": NO_SEARCH, **changes}
    assert any("bound-activations auto" in line for line in commands(report(**given))) == advised


def test_a_lower_u_is_advised_where_a_further_channel_passes_it_and_only_there() -> None:
    given: dict[str, Any] = {"evaluation": STILL_BAD, "outlook": replace(NO_SEARCH, cappable=0)}
    scores = (1.0, 1.1, 0.9, 1.05, 0.95) * 8
    near = reports.layer("a", 41, judgements=(reports.judgement((*scores, 1.32)),))
    (judgement,) = near.judgements
    assert judgement.max_z > 2
    u = judgement.max_z + 0.01
    found = steps(report((near,), **given, options=options(u=u)))
    assert [parsed(step.command).config.u for step in found] == [max(x for x in (2.5, 2.0, 1.5) if x < judgement.max_z)]
    flat = reports.layer("a", 40, judgements=(reports.judgement(scores),))
    (step,) = steps(report((flat,), **given))
    assert step == Advice("the trigger still works (80.0 % ASR): retrain the model, or do not use it")


def test_outputs_of_this_tool_are_recognised() -> None:
    folded = steps(report(outlook=Outlook(folded=20)))[0]
    assert folded.sentence.startswith("folded by onnx_clp (20 biases named as it names them)")
    assert "give the file as it came" in folded.sentence
    assert "give the file as it came" in steps(report(outlook=Outlook(cappable=2, capped=3)))[0].sentence
    assert not any("as it came" in step.sentence for step in steps(report()))


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (report(output=None, outlook=NO_SEARCH), "write the repaired model"),
        (report(options=options(prune=False), outlook=NO_SEARCH), "switch the channels that stand out off"),
        (report(outlook=NO_SEARCH), "--eval DATA.npz measures ACC and ASR"),
        (report(validation=replace(reports.report().validation, outcome="not asked for")), "was not validated"),
        (report(evaluation=replace(STILL_BAD, after=Rates(0.91, 0.0, 0.9))), "further data of your own"),
        (report(evaluation=STILL_BAD), "the trigger still works (80.0 % ASR): look for it and undo it"),
        (report(evaluation=COSTLY), "accuracy fell to 60.0 %: prune less"),
        (report(evaluation=COSTLY, caps=reports.report().caps), "accuracy fell to 60.0 %: cap higher"),
        (report(QUIET, evaluation=COSTLY), "accuracy fell to 60.0 %: fine-tune the model"),
        (report(QUIET), "look for a trigger too, and undo it (minutes)"),
        (report(QUIET, outlook=NO_SEARCH), "silence is no proof"),
        (report((reports.unjudged("c", LayerStatus.TOO_SMALL),)), "reaches at most 2.47 std: choose -u below that"),
        (report((reports.unjudged("c", LayerStatus.NOT_CONVOLUTION),)), "judge Gemm and MatMul too"),
        (report((reports.unjudged("c", LayerStatus.GATE),)), "--include PATTERN"),
        (report((), outlook=NO_SEARCH), "no layer of a kind that is judged"),
        (report(KEPT, output=None, outlook=NO_SEARCH), "what stands out was kept"),
        (report(QUIET, output=None, outlook=NO_SEARCH, findings=ODD), "nothing would change"),
    ],
)
def test_the_first_step_fits_what_was_found(found: Report, advice: str) -> None:
    assert advice in steps(found)[0].sentence
    assert 1 <= len(steps(found)) <= MOST_STEPS


def test_a_model_in_memory_gets_sentences_alone() -> None:
    assert commands(report(input=None, findings=NAMED)) == []
    assert steps(report(input=None, findings=NAMED))


def test_every_line_of_every_step_parses() -> None:
    for found in (report(), report(QUIET), report(findings=NAMED), report(evaluation=STILL_BAD), report(output=None)):
        for line in commands(found):
            parsed(line)


def test_what_onnx_runtime_made_for_itself_is_asked_for_as_it_was() -> None:
    unread = (
        "com.microsoft.QLinearConv is ONNX Runtime's own and not read; give the file as it was before it optimised it"
    )
    other = "its weight is not a constant"
    layers = [
        replace(reports.layer(name), status=LayerStatus.UNJUDGEABLE, reason=reason, judgements=())
        for name, reason in (("a", unread), ("b", unread), ("c", other))
    ]
    said = [step.sentence for step in steps(report(tuple(layers)))]
    assert said[0].startswith("2 layers not read, because ONNX Runtime optimised this file")
    assert not any("ONNX Runtime" in step.sentence for step in steps(report(tuple(layers[2:]))))
