"""index.html over a batch: one row a model, the worst first, linked to its report."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from urllib.parse import quote

from onnx_clp.batch.record import WORST_FIRST, Record
from onnx_clp.batch.summary import OUTCOMES, Tally
from onnx_clp.document.run import Verdict
from onnx_clp.report.wording import plural
from onnx_clp.text import one_line, shown

NAME = "index.html"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page; `link` is a relative URL, empty where there is no report."""

    record: Record
    link: str
    outcome: str
    hue: str


def available() -> bool:
    """Whether what the page is made with is installed."""
    return find_spec("jinja2") is not None


def render(tally: Tally) -> str:
    """The page; needs the extra `report`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update({"shown": shown, "one_line": one_line, "plural": plural})
    source = files("onnx_clp.batch").joinpath("index.html.j2").read_text(encoding="utf-8")
    verdicts = [(verdict.value, tally.verdicts(verdict)) for verdict in Verdict]
    outcomes = [pair for pair in tally.outcomes() if pair[0] != OUTCOMES[0]]
    template = environment.from_string(source)
    return template.render(rows=_rows(tally), total=len(tally.records), counts=verdicts + outcomes)


def _rows(tally: Tally) -> list[Row]:
    ordered = sorted(tally.records, key=lambda r: (WORST_FIRST.index(r.exit_code), -r.pruned, r.name))
    return [Row(record, _link(record), OUTCOMES[record.exit_code], _hue(record)) for record in ordered]


def _link(record: Record) -> str:
    for suffix in (".html", ".json"):
        if record.name + suffix in record.files:
            return "./" + quote((record.name + suffix).encode("utf-8", "surrogateescape"))
    return ""


def _hue(record: Record) -> str:
    if not record.verdict:
        return "failed"
    return {Verdict.STOOD_OUT.value: "bad", Verdict.COULD_NOT_JUDGE.value: "unsure"}.get(record.verdict, "plain")
