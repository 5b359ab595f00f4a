"""Search for triggers and repair on models of the zoo, for the tables of docs/inversion.md.

    python -m tools.trials.search ZOO RECORDS.jsonl [--half choose|report] [--only TEXT]
    python -m tools.trials.search ZOO RECORDS.jsonl --show

ZOO holds what `tools.zoo` trained. A model is searched once, by `--rule inverted` on images made from it alone; what is
noted are the class that is named, how far each form sets it and the true target apart, and ACC, ASR and RA in per cent
of the model as it came, with what the search changed, with caps on activations (C = 2.5, the setting of
docs/evidence.md) and with both. Models noted already are not searched again; --show prints the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import onnx_clp
from onnx_clp.document.run import Inversion, Report
from onnx_clp.inversion import launch
from onnx_clp.inversion.forms import KINDS
from onnx_clp.inversion.request import Found, SearchRequest
from tools.evidence.measuring import IMAGES
from tools.evidence.record import Rates
from tools.evidence.subject import Subject, read
from tools.evidence.yardsticks import STRICT
from tools.zoo import datasets, measure
from tools.zoo.datasets import Dataset

TIMES = 2.5

Record = dict[str, Any]
_HEAD = ("| model | target | before | named, z, by | search | caps | both |", "|---|---|---|---|---|---|---|")


def main() -> None:
    """Search what is missing, or show what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name holds this")
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    if given.show:
        print(*shown(records(given.records)), sep="\n")
        return
    for subject in read(given.zoo):
        known = {record["name"] for record in records(given.records)}
        wanted = subject.half == given.half and given.only in subject.name and (subject.infected or subject.clean)
        if wanted and subject.name not in known:
            line = json.dumps(trial(subject, given.zoo))
            with given.records.open("a", encoding="utf-8") as out:
                out.write(line + "\n")


def records(path: Path) -> list[Record]:
    """What is noted."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def trial(subject: Subject, zoo: Path) -> Record:
    """One model's record."""
    exam = subject.evaluation(_data(subject.result.design.dataset), zoo, IMAGES[subject.half])
    path = zoo / f"{subject.name}.onnx"
    with searched_once() as seconds:
        repaired, report = _cleaned(path, rule="inverted")
        both, _ = _cleaned(path, rule="inverted", bound_activations=TIMES)
    capped, _ = _cleaned(path, prune=False, bound_activations=TIMES)
    models = {"before": path.read_bytes(), "search": repaired, "caps": capped, "both": both}
    rates = {name: measure.measure(model, exam, threads=1) for name, model in models.items()}
    assert report.inversion is not None
    return {
        "name": subject.name,
        "half": subject.half,
        "group": subject.group,
        "target": None if subject.clean else subject.result.design.target,
        **finding(report.inversion),
        **{name: [round(100 * r, 2) for r in (found.acc, found.asr, found.ra)] for name, found in rates.items()},
        "images": exam.x_clean.shape[0],
        "seconds": round(seconds(), 1),
    }


def finding(found: Inversion) -> Record:
    """What the search said and did, in plain values."""
    repair = found.repair
    return {
        "likely": found.likely,
        "z": {str(one.target): [round(form.z, 2) for form in one.forms] for one in found.results},
        "flip": {str(one.target): [round(form.flip, 3) for form in one.forms] for one in found.results},
        "size": {str(one.target): [round(form.size, 4) for form in one.forms] for one in found.results},
        "margin": {str(one.target): round(one.margin, 3) for one in found.results},
        "repair": None if repair is None else [repair.quantile, repair.directions, repair.flip, repair.agreement],
        "after": None if repair is None or repair.z is None else round(repair.z, 2),
        "note": found.repair_note,
    }


@contextmanager
def searched_once() -> Iterator[Callable[[], float]]:
    """Let the second run take the first run's search: what it asks is the same. Yields the seconds it took."""
    real, took = launch.search, 0.0
    held: list[Found] = []

    def search(request: SearchRequest, tick: Callable[[str, int, int], None]) -> Found:
        nonlocal took
        if not held:
            start = time.monotonic()
            held.append(real(request, tick))
            took = time.monotonic() - start
        return held[0]

    launch.search = search
    try:
        yield lambda: took
    finally:
        launch.search = real


def _cleaned(path: Path, **options: Any) -> tuple[bytes, Report]:
    done = onnx_clp.clean(path, onnx_clp.CleanConfig(provider="cpu", timeout=3600.0, **options))
    return done.model.SerializeToString(), done.report


@cache
def _data(name: str) -> Dataset:
    return datasets.load(name)


def strict(record: Record, way: str) -> bool:
    """Whether the model was repaired by the strict yardstick."""
    before, after = (Rates(record["images"], *(rate / 100 for rate in record[name])) for name in ("before", way))
    return STRICT.passed(before, after)


def shown(found: list[Record]) -> Iterator[str]:
    """Tables as Markdown, a half each, and their sums."""
    for half in sorted({record["half"] for record in found}):
        rows = sorted((r for r in found if r["half"] == half), key=lambda r: (r["group"], r["name"]))
        yield from ("", f"### {half}", "", *_HEAD)
        for row in rows:
            yield (
                f"| {row['name']} | {_aim(row)} | {_rates(row, 'before')} | {_named(row)} | "
                + " | ".join(
                    _rates(row, way) + (" **✓**" if row["group"] != "clean" and strict(row, way) else "")
                    for way in ("search", "caps", "both")
                )
                + " |"
            )
        yield ""
        yield from _sums(rows)


def _rates(row: Record, way: str) -> str:
    return f"{row[way][0]:.1f}/{row[way][1]:.1f}"


def _named(row: Record) -> str:
    if row["likely"] is None:
        return "none"
    z = row["z"][str(row["likely"])]
    return f"{row['likely']}, {max(z):.1f}, {KINDS[z.index(max(z))]}"


def _aim(row: Record) -> str:
    return "all" if row["group"] == "all-to-all" else "–" if row["target"] is None else str(row["target"])


def _sums(rows: list[Record]) -> Iterator[str]:
    ill = [row for row in rows if row["group"] != "clean"]
    one = [row for row in ill if row["group"] != "all-to-all"]
    well = [row for row in rows if row["group"] == "clean"]
    yield f"- the target named: {sum(r['likely'] == r['target'] for r in one)} of {len(one)} with one target"
    yield f"- clean models in which a class is named: {sum(r['likely'] is not None for r in well)} of {len(well)}"
    for way in ("search", "caps", "both"):
        drops = [row["before"][0] - row[way][0] for row in well]
        cost = f"; clean models lose {sum(drops) / len(drops):.1f} points, at most {max(drops):.1f}" if drops else ""
        yield f"- {way}: {sum(strict(row, way) for row in ill)} of {len(ill)} repaired by the strict yardstick{cost}"


if __name__ == "__main__":
    main()
