"""The side experiments as Markdown tables: scores against TAC, scoring time, latency of caps, evasion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from tools.evidence import settings
from tools.evidence.record import Rates
from tools.evidence.settings import NONE
from tools.evidence.subject import INFECTED_GROUPS, Subject
from tools.evidence.tables import markdown, percent
from tools.evidence.tac import LayerTac
from tools.evidence.yardsticks import STRICT

Line = Mapping[str, Any]


def spearman(found: Mapping[str, Sequence[LayerTac]], subjects: Iterable[Subject]) -> str:
    """Per recipe and group: rho of score and TAC over all layers, and where the score puts the top TAC channel."""
    known = {one.name: one for one in subjects}
    kinds: dict[str, list[LayerTac]] = {}
    models: dict[str, int] = {}
    for name, layers in sorted(found.items(), key=lambda item: _kind_order(known, item[0])):
        kind = _kind(known[name])
        kinds.setdefault(kind, []).extend(layers)
        models[kind] = models.get(kind, 0) + 1
    rows = [[kind, str(models[kind]), *_spearman_cells(layers)] for kind, layers in kinds.items()]
    head = ["models", "count", "median rho", "rho > 0.5", "median place", "z > 3", "z > 2"]
    return markdown(head, rows) if rows else ""


def _kind(one: Subject) -> str:
    recipe = one.result.design.recipe.name
    return one.group + ("" if recipe == "plain" else f", {recipe}")


def _kind_order(known: Mapping[str, Subject], name: str) -> tuple[int, str, str]:
    return (INFECTED_GROUPS.index(known[name].group), known[name].result.design.recipe.name, name)


def _spearman_cells(layers: Sequence[LayerTac]) -> list[str]:
    rhos = [layer.rho for layer in layers if layer.rho is not None]
    return [
        f"{median(rhos):.2f}" if rhos else "–",
        f"{percent(fmean(rho > 0.5 for rho in rhos))} %" if rhos else "–",
        f"{percent(median(layer.percentile for layer in layers))} %",
        f"{percent(fmean(layer.best_z > 3 for layer in layers))} %",
        f"{percent(fmean(layer.best_z > 2 for layer in layers))} %",
    ]


def seconds(lines: Sequence[Line]) -> str:
    """CPU seconds of scoring and of the loops of SVDs, and how many times longer each loop takes."""
    if not lines:
        return ""
    own, *loops = lines[0]["seconds"]
    rows = []
    for line in lines:
        base = line["seconds"][own]
        size = [str(line["width"]), f"{line['channels']:,}", f"{line['weights']:,}"]
        slower = [f"{line['seconds'][name]:.3f} ({line['seconds'][name] / base:.1f}×)" for name in loops]
        rows.append([*size, f"{base:.4f}", *slower])
    return markdown(["width", "channels", "weights", own, *loops], rows)


def latency(lines: Sequence[Line]) -> str:
    """Milliseconds of one batch without and with caps, and the ratio, by kind of model and batch size."""
    rows = []
    for line in lines:
        cells = [line["kind"], str(next(iter(line["batches"].values()))["caps"])]
        for found in line["batches"].values():
            ratio = found["capped"] / found["folded"]
            cells += [f"{found['folded']:.3g}", f"{found['capped']:.3g}", f"**{ratio:.2f}**"]
        rows.append(cells)
    if not rows:
        return ""
    head = ["network", "caps"]
    for batch in lines[0]["batches"]:
        head += [f"batch {batch}: ms", "with caps", "ratio"]
    return markdown(head, rows)


def evasion(lines: Sequence[Line]) -> str:
    """Strict successes, and mean ASR left, under each rewrite and fixed setting."""
    if not lines:
        return ""
    rows = []
    for name in lines[0]["rewrites"]:
        cells = [name, f"{fmean(line['rewrites'][name]['layers'] for line in lines):.1f}"]
        for setting in settings.FIXED:
            pairs = [_pair(line, name, setting) for line in lines]
            asr = percent(fmean(after.asr for _, after in pairs))
            repaired = sum(STRICT.passed(before, after) for before, after in pairs)
            cells.append(asr if setting == NONE else f"{repaired} of {len(pairs)}, ASR {asr}")
        rows.append(cells)
    return markdown(["rewrite", "layers", "ASR before", *settings.FIXED[1:]], rows)


def _pair(line: Line, rewrite: str, setting: str) -> tuple[Rates, Rates]:
    found = line["rewrites"][rewrite]
    return Rates(images=line["images"], **found[NONE]), Rates(images=line["images"], **found[setting])
