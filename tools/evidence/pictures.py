"""The figures of docs/evidence.md (matplotlib), drawn from the records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

from tools.evidence import record, scoring, settings, subject, tac
from tools.evidence.record import Found
from tools.evidence.settings import NONE
from tools.evidence.subject import Subject
from tools.evidence.tac import LayerTac

_INK, _FADED, _RED, _BLUE = "#222222", "#b8b8b8", "#c0392b", "#1f5f99"
_DPI = 110
_PANELS = (
    ("resnet18", "badnets", "decayed"),
    ("vgg-bn", "badnets", "plain"),
    ("vgg-bn", "blended", "plain"),
)
_DEPTHS = (0.0, 0.35, 0.7, 1.0)


def panels(subjects: Sequence[Subject]) -> list[str]:
    """The models whose channels are drawn one by one: of each kind in `_PANELS` the first, Fashion-MNIST, 10 %."""
    out = []
    for kind in _PANELS:
        for one in subjects:
            made = one.result.design
            if (made.architecture, made.attack, made.recipe.name) == kind and made.dataset == "fashion-mnist":
                out.append(one.name)
                break
    return out


def draw(out: Path) -> None:
    """Draw every figure of which there are records, into the folder of the records."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    subjects = subject.kept(out)
    found = tac.read(out)
    if found:
        scatter(found, panels(subjects), out / "score-and-tac.png")
        correlation(found, subjects, out / "spearman.png")
    if rates := record.read(out):
        sweep(rates, subjects, out / "threshold.png")
    if seconds := record.lines(out / scoring.LOG):
        times(seconds, out / "seconds.png")


def _saved(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    matplotlib.pyplot.close(figure)


def scatter(found: Mapping[str, Sequence[LayerTac]], names: Sequence[str], path: Path) -> None:
    """Score against TAC, a row a model, a column a depth."""
    from matplotlib import pyplot

    names = [name for name in names if found.get(name)]
    figure, axes = pyplot.subplots(
        len(names), len(_DEPTHS), figsize=(8, 2.1 * len(names)), squeeze=False, layout="constrained"
    )
    for row, name in zip(axes, names, strict=True):
        for axis, depth in zip(row, _DEPTHS, strict=True):
            layer = min(found[name], key=lambda one: abs(one.depth - depth))
            axis.scatter(layer.scores, layer.tac, s=7, color=_BLUE, alpha=0.6, linewidths=0)
            rho = "undefined" if layer.rho is None else f"{layer.rho:.2f}"
            axis.set_title(f"depth {layer.depth:.2f}: rho {rho}", fontsize=7)
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0)
        row[0].set_ylabel(f"{_short(name)}\nTAC")
    for axis in axes[-1]:
        axis.set_xlabel("score (UCLC)")
    _saved(figure, path)


def _short(name: str) -> str:
    _, architecture, attack, recipe, _ = name.split("_")
    return f"{architecture}, {recipe}\n{attack}"


def correlation(found: Mapping[str, Sequence[LayerTac]], subjects: Sequence[Subject], path: Path) -> None:
    """Spearman's rho over depth, a line a model, by group of attacks, the median of all in thick."""
    from matplotlib import pyplot

    groups = [group for group in subject.INFECTED_GROUPS if any(one.group == group for one in subjects)]
    figure, axes = pyplot.subplots(1, len(groups), figsize=(8, 2.4), sharey=True, squeeze=False, layout="constrained")
    for axis, group in zip(axes[0], groups, strict=True):
        of_group = [one for one in subjects if one.group == group and found.get(one.name)]
        for one in of_group:
            layers = [layer for layer in found[one.name] if layer.rho is not None]
            special = one.result.design.recipe.name == "decayed"
            colour = _RED if special else _BLUE
            axis.plot([e.depth for e in layers], [e.rho for e in layers], color=colour, alpha=0.45, linewidth=0.8)
        axis.axhline(0, color=_INK, linewidth=0.6)
        axis.set_title(f"{group}, {len(of_group)} models", fontsize=8)
        axis.set_xlabel("depth of the layer")
    axes[0][0].set_ylabel("Spearman's rho\nof score and TAC")
    _saved(figure, path)


def sweep(found: Found, subjects: Sequence[Subject], path: Path) -> None:
    """ACC and ASR over u on the choosing half: thin lines are models, thick ones means."""
    from matplotlib import pyplot

    us = sorted((one.options["u"], one.name) for one in settings.rules()["clp"])
    names = [name for _, name in us]
    half = [one for one in subjects if one.half == "choose" and {NONE, *names} <= found.get(one.name, {}).keys()]
    kinds = (
        ("infected: ACC", "acc", True, _BLUE),
        ("infected: ASR", "asr", True, _RED),
        ("clean controls: ACC", "acc", False, _BLUE),
    )
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(8, 2.8), sharey=True, layout="constrained")
    for axis, (title, key, infected, colour) in zip(axes, kinds, strict=True):
        of_kind = [one for one in half if (one.infected if infected else one.clean)]
        curves = [[100 * getattr(found[one.name][name], key) for name in [*names, NONE]] for one in of_kind]
        places = [u for u, _ in us] + [us[-1][0] + 0.5]
        for curve in curves:
            axis.plot(places, curve, color=_FADED, linewidth=0.6)
        if curves:
            axis.plot(places, [fmean(column) for column in zip(*curves, strict=True)], color=colour, linewidth=2)
        axis.set_title(f"{title}, {len(of_kind)} models", fontsize=8)
        axis.set_xlabel("u (rightmost: no pruning)")
        axis.set_ylim(0, 101)
    axes[0].set_ylabel("percent")
    _saved(figure, path)


def times(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """CPU seconds of scoring over the number of weights, both axes logarithmic."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 3.0), layout="constrained")
    weights = [line["weights"] for line in lines]
    for name, colour, marker in zip(lines[0]["seconds"], (_RED, _BLUE, "#5a8f3c", _INK), "osD^", strict=True):
        axis.loglog(weights, [line["seconds"][name] for line in lines], color=colour, marker=marker, ms=3, label=name)
    axis.set_xlabel(
        "weights of the convolutions (ResNet-18 of widths " + ", ".join(str(e["width"]) for e in lines) + ")"
    )
    axis.set_ylabel("CPU seconds, one thread")
    axis.legend(frameon=False, fontsize=7)
    _saved(figure, path)
