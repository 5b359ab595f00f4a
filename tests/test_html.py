"""The HTML page: complete, self-contained, and deaf to what names try to be."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from onnx_clp.cli.main import main
from onnx_clp.document.run import Decision, PrunedChannel, Report
from onnx_clp.document.validation import Rates
from onnx_clp.errors import UsageError
from onnx_clp.report import html
from onnx_clp.verdicts import LayerStatus
from tests import reports

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from onnx_clp.report import pictures


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def full() -> str:
    return html.render(reports.report(evaluation=reports.evaluation()))


@pytest.fixture(scope="module")
def unnamed() -> str:
    """A page without evidence that names anything, but for the trigger that was supplied."""
    weak = replace(reports.evaluation(), before=replace(reports.evaluation().before, asr=0.4))
    return html.render(reports.report(evaluation=weak))


@pytest.fixture(scope="module")
def hostile() -> str:
    return html.render(reports.hostile())


def test_every_judged_layer_has_its_card_and_picture_the_worst_first(full: str) -> None:
    page = Page(full)
    cards = [int(name.removeprefix("layer-")) for name in page.ids if name.startswith("layer-")]
    assert sorted(cards) == [0, 1, 2, 3]
    zs = [reports.LAYERS[place].max_z for place in cards]
    assert zs == sorted(zs, reverse=True)
    assert page.tags["svg"] == 4 + 1
    assert all(layer.name in page.words for layer in reports.LAYERS)


def test_the_network_column_is_in_graph_order_and_coloured_by_z(full: str) -> None:
    column = full[full.index("<ol>") : full.index("</ol>")]
    found = re.findall(r'class="((?:row )?\w+)".*?<bdi>(.*?)</bdi></span><span class="z">(.*?)</span>', column)
    assert [name for _, name, _ in found] == [layer.name for layer in reports.LAYERS]
    assert [z for *_, z in found] == [f"{x.max_z:.1f}" for x in reports.LAYERS[:4]] + ["&ndash;"] * 3
    heats = [heat for heat, *_ in found]
    assert heats == ["calm2", "hit1", "hit2", "hit2", *["row unjudged"] * 3]


@pytest.mark.parametrize(("z", "heat"), [(1.0, "calm1"), (2.0, "calm2"), (2.6, "warm1"), (2.9, "warm2")])
def test_a_layer_without_an_outlier_is_never_red(z: float, heat: str) -> None:
    layer = reports.layer(channels=64)
    (judgement,) = layer.judgements
    report = reports.report((replace(layer, judgements=(replace(judgement, max_z=z),)),))
    assert f'<a class="{heat}" href="#layer-0"' in html.render(report)


def test_the_summary_is_a_sentence_without_jargon(full: str, unnamed: str) -> None:
    assert (
        "This file shows what a hidden trigger shows: the trigger that was supplied works. "
        "Done: 15 channels switched off; 2 values capped. On the images supplied the trigger succeeded "
        "in 100.0 % of cases before and 6.2 % after; ordinary accuracy went from 91.6 % to 91.2 %."
    ) in Page(full).words
    words = Page(unnamed).words
    assert (
        "15 channels of 352, in 3 layers, can react more strongly than the others of their layer, by over "
        "3 standard deviations, as channels that serve a hidden trigger often do, and ordinary ones too. The model "
        "that was written no longer uses them. On the images supplied the trigger succeeded in 40.0 % of cases "
        "before and 6.2 % after; ordinary accuracy went from 91.6 % to 91.2 %."
    ) in words


@pytest.mark.parametrize(
    ("report", "part"),
    [
        (reports.report((reports.layer(outliers=1),), output=None), "this was an analysis only"),
        (reports.report((reports.layer(outliers=1),), options={"prune": False}), "They were left as they are"),
        (reports.report((reports.layer(outliers=1),)), "no longer uses it."),
        (reports.report((reports.layer(outliers=0),), findings=()), "That is no proof"),
        (reports.report((reports.layer(outliers=0),)), "Something in this file is unusual"),
        (
            reports.report((reports.unjudged("c", LayerStatus.TOO_SMALL),), findings=()),
            "could judge none of its layers",
        ),
        (reports.report((), findings=()), "could judge none of its layers"),
    ],
)
def test_the_summary_fits_the_outcome(report: Report, part: str) -> None:
    assert part in html.sentence(report)
    words = re.findall(r"[a-z]+", html.sentence(report).lower())
    assert {"clean", "safe", "secure"}.isdisjoint(words)
    assert part in Page(html.render(report)).words


def test_reasons_findings_and_the_run_are_all_there(full: str) -> None:
    words = Page(full).words
    for part in (
        "the normalisation has another consumer",
        "8 channels: one outlier reaches at most 2.47 std",
        "its output only scales other channels",
        "nothing before it",
        "the input decides which branch runs",
        "1.235e-06 (allowed: 1.000e-05)",
        "predicted loss about 0.2 % of ordinary images (0.0 to 0.6 %); measured on 144 crops of photographs, pixels",
        "at most 1.0 % was allowed",
        "logits: class changes 0.4 %, divergence 0.01000",
        "0123456789abcdef" * 4,
        "CPUExecutionProvider (asked for: auto)",
        "bound = reshaped",
    ):
        assert part in words


def test_the_page_says_what_stays_and_why() -> None:
    words = Page(html.render(reports.careful())).words
    for part in (
        "no longer uses 2 of them; 4 stayed, and the predicted loss below says why.",
        "2 channels kept: with all that stood out off, about 2.0 % of ordinary images (0.3 to 6.0 %)",
        "2 channels kept: what switching them off costs cannot be measured there",
        "caps at 2.5 std: about 30.0 % of ordinary images",
        "because class 3 stands out",
    ):
        assert part in words
    cells = re.findall(r"<td>kept</td>", html.render(reports.careful()))
    assert len(cells) == 4
    assert "kept" not in Page(html.render(reports.report())).words
    none = reports.report((reports.layer(outliers=1, kept=1),))
    assert "still uses it: the predicted loss below says why." in html.sentence(none)


def test_the_page_fetches_nothing_and_runs_nothing(full: str, hostile: str) -> None:
    for text in (full, hostile):
        page = Page(text)
        assert page.tags.keys().isdisjoint({"script", "img", "iframe", "object", "base", "form"})
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        links = {value[:1] for name, value in page.attributes if name in {"href", "src"}}
        assert links <= {"#", "d"}
        assert not re.search(r"url\(|@import", text)
        assert "default-src 'none'" in text


def test_hostile_names_are_text(hostile: str) -> None:
    words = Page(hostile).words
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in words
    assert "{{ 7*7 }}" in words
    assert "[bold red]markup[/]" in words
    assert all(char.isprintable() or char == "\n" for char in hostile)
    assert len(hostile) < 200_000


@pytest.mark.slow
def test_two_hundred_layers_stay_below_three_megabytes() -> None:
    text = html.render(reports.many_layers(200))
    assert len(text.encode()) < 3_000_000
    assert Page(text).tags["svg"] == 201


def test_only_so_many_layers_are_drawn_and_the_rest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MOST_PICTURES", 2)
    page = Page(html.render(reports.report()))
    assert page.tags["svg"] == 2
    assert page.words.count("only the layers with the highest z are drawn") == 2


def test_long_tables_are_cut_off_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MOST_ROWS", 3)
    monkeypatch.setattr(html, "MOST_CHANNELS", 2)
    words = Page(html.render(reports.hostile())).words
    assert "and 7 more; the JSON report lists them all" in words
    assert "and 1 more; the JSON report lists them all" in words
    assert "The table is cut off" in words


def test_a_layer_seen_through_several_normalisations_shows_the_worst() -> None:
    calm = reports.judgement((1.0, 1.1) * 20 + (1.2,), normalisation="bn-calm")
    loud = reports.judgement((1.0, 1.1) * 20 + (9.0,), normalisation="bn-loud")
    text = Page(html.render(reports.report((reports.layer(channels=41, judgements=(calm, loud)),)))).words
    assert "Seen through 2 normalisations; the one with the highest z is drawn ( bn-loud )" in text


def test_without_the_extra_there_is_one_line_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(html, "find_spec", lambda name: None if name == "jinja2" else 1)
    with pytest.raises(UsageError, match="needs jinja2: pip install 'onnx-clp\\[report\\]'"):
        html.require_extra()
    assert main(["in.onnx", "--report", str(tmp_path / "r.html")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onnx-clp: error: an .html report needs jinja2")
    assert err.count("\n") == 1


@pytest.mark.parametrize("outliers", [0, 1, 12])
def test_a_picture_is_small_valid_and_marks_every_outlier(outliers: int) -> None:
    (judgement,) = reports.layer(channels=256, outliers=outliers).judgements
    text = pictures.of_scores(judgement)
    root = ElementTree.fromstring(text)
    strokes = [element.get("style", "") for element in root]
    assert sum("var(--hit)" in style and "stroke" in style for style in strokes) == outliers
    assert sum("var(--limit)" in style for style in strokes) == 1
    assert sum("var(--mean)" in style for style in strokes) == 1
    assert root.get("aria-label") == f"Scores of 256 channels, {outliers} beyond the threshold"
    assert len(text) < 7000
    assert "#0101" not in text
    assert " id=" not in text


def test_the_histogram_is_to_scale() -> None:
    scores = (1.0,) * 30 + (2.0,) * 10
    text = pictures.of_scores(reports.judgement(scores))
    (bars,) = [e for e in ElementTree.fromstring(text) if "var(--bars)" in e.get("style", "")]
    heights = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", bars.get("d", ""))]
    base, top = max(heights), min(heights)
    assert sorted({round((base - y) / (base - top), 2) for y in heights}) == [0.0, 0.33, 1.0]


def test_scores_that_cannot_be_drawn_do_not_break_the_page() -> None:
    (judgement,) = reports.layer(channels=16).judgements
    same = replace(judgement, scores=(1.0,) * 16, mean=1.0, std=0.0, threshold=1.0)
    assert "var(--limit)" not in pictures.of_scores(same)
    some = replace(judgement, scores=(math.nan, math.inf, *judgement.scores[2:]))
    assert ElementTree.fromstring(pictures.of_scores(some)) is not None
    none = replace(judgement, scores=(math.nan,) * 16, mean=math.nan, std=math.nan, threshold=math.nan)
    assert pictures.of_scores(none) == ""
    odd = PrunedChannel(1, math.inf, math.inf, math.inf, 1)
    layers = tuple(reports.layer(judgements=(replace(x, pruned=(odd,)),)) for x in (same, some, none))
    assert Page(html.render(reports.report(layers))).tags["svg"] == 2


def test_without_triggered_images_the_page_speaks_of_accuracy_alone() -> None:
    evaluation = replace(reports.evaluation(), before=Rates(0.9, None, None), after=Rates(0.5, None, None))
    page = html.render(reports.report(evaluation=replace(evaluation, triggered_images=0)))
    assert "On the images supplied accuracy went from 90.0 % to 50.0 %." in page
    assert "the trigger succeeded" not in page


def test_rates_show_every_share_and_a_dash_for_an_unknown_one() -> None:
    evaluation = reports.evaluation()
    evaluation = replace(evaluation, after=replace(evaluation.after, ra=None))
    texts = [e.text for e in ElementTree.fromstring(pictures.of_rates(evaluation)) if e.tag == "text"]
    assert [text for text in texts if text and re.fullmatch(r"\d+\.\d %|-", text)] == [
        "91.6 %",
        "91.2 %",
        "100.0 %",
        "6.2 %",
        "0.0 %",
        "-",
    ]


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine")
    return found


SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
]


@pytest.mark.parametrize("name", ["full", "hostile"])
def test_a_browser_shows_every_layer_and_has_no_complaint(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    command = [browser(), *SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"]
    path = tmp_path / "report.html"
    path.write_text(request.getfixturevalue(name), encoding="utf-8")
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    page = Page(done.stdout)
    layers = reports.report().layers if name == "full" else reports.hostile().layers
    judged = [place for place, layer in enumerate(layers) if layer.status is LayerStatus.JUDGED]
    assert {f"layer-{place}" for place in judged} <= set(page.ids)
    assert page.tags["li"] == len(layers)
    assert page.tags["svg"] >= len(judged)
    assert page.tags.keys().isdisjoint({"script", "img"})


def test_the_browser_test_would_see_a_complaint(tmp_path: Path) -> None:
    command = [browser(), *SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"]
    path = tmp_path / "bad.html"
    path.write_text("<script>console.error('boo')</script>", encoding="utf-8")
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" in done.stderr


def test_the_page_says_what_cleaning_up_took_out() -> None:
    page = html.render(reports.report(cleanup=reports.cleanup()))
    assert "2 dead nodes, 4 no-ops (1 Dropout, 3 Identity)" in page
    assert "(--cleanup all)" in page
    assert "cleaned up" not in html.render(reports.report())
    proof = replace(reports.report().validation, cleanup_error=5.1e-7)
    assert "<dt>cleaning up</dt><dd>5.100e-07 of cleaning up, within" in html.render(reports.report(validation=proof))


def test_the_page_says_how_far_the_run_went_and_why() -> None:
    decided = (Decision("prune", True, "as far as <b>"), Decision("search", False, "only with --effort high"))
    page = html.render(reports.report(decisions=decided))
    assert "prune: as far as &lt;b&gt; · no search: only with --effort high" in page
    assert 'id="decided"' not in html.render(reports.report())
