"""index.html over a batch: one row a model, the most suspicious first, linked to its report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from urllib.parse import quote

from onnx_clp.batch.record import Record
from onnx_clp.batch.summary import OUTCOMES, Tally, ranked
from onnx_clp.document.run import Verdict
from onnx_clp.report.wording import percent, plural
from onnx_clp.text import one_line, shown
from onnx_clp.version import __version__

NAME = "index.html"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page; `link` is a relative URL, empty where there is no report, `picture` a PNG's address."""

    record: Record
    link: str
    outcome: str
    hue: str
    picture: str


def available() -> bool:
    """Whether what the page is made with is installed."""
    return find_spec("jinja2") is not None


def render(tally: Tally, words: Sequence[str] = (), when: str = "") -> str:
    """The page; needs the extra `report`.

    Args:
        tally: every model.
        words: the options that every model was run with.
        when: the date, as it is to be shown.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update({"shown": shown, "one_line": one_line, "plural": plural, "percent": percent})
    source = files("onnx_clp.batch").joinpath("index.html.j2").read_text(encoding="utf-8")
    verdicts = [(verdict.value, tally.verdicts(verdict)) for verdict in Verdict]
    outcomes = [pair for pair in tally.outcomes() if pair[0] != OUTCOMES[0]]
    template = environment.from_string(source)
    return template.render(
        rows=_rows(tally),
        total=len(tally.records),
        counts=verdicts + outcomes,
        words=shlex.join(words),
        when=when,
        tool=f"onnx_clp {__version__}",
    )


def _rows(tally: Tally) -> list[Row]:
    return [Row(one, _link(one), OUTCOMES[one.exit_code], _hue(one), _picture(one)) for one in ranked(tally.records)]


def _picture(record: Record) -> str:
    # A journal may be a stranger's: nothing but a picture is put into the page.
    return record.picture if record.picture.startswith("data:image/png;base64,") else ""


def _link(record: Record) -> str:
    for suffix in (".html", ".json"):
        if record.name + suffix in record.files:
            return "./" + quote((record.name + suffix).encode("utf-8", "surrogateescape"))
    return ""


def _hue(record: Record) -> str:
    if not record.verdict:
        return "failed"
    hues = {Verdict.SUSPICIOUS.value: "bad", Verdict.COULD_NOT_JUDGE.value: "unsure", Verdict.UNUSUAL.value: "unsure"}
    return hues.get(record.verdict, "plain")
