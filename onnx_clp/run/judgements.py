"""From the verdicts of a run to the rows of its report, a layer each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_clp.document.run import (
    Judgement,
    LayerReport,
    PrunedChannel,
)
from onnx_clp.judge.prune_channels import Branch, Cut, LayerVerdict
from onnx_clp.operators.nodes import identity, operator
from onnx_clp.run.analysis import Analysis
from onnx_clp.run.folding import Place
from onnx_clp.verdicts import LayerStatus


def layer_reports(analysis: Analysis, prune: bool) -> list[LayerReport]:
    """A row for every linear layer, in graph order; `prune` says whether outlying channels go."""
    reports, numbered = [], iter(range(len(analysis.verdicts)))
    for place in analysis.places:
        reports += [_layer_report(place, one, _cuts(analysis, next(numbered)), prune) for one in place.verdicts]
        for node, skipped in place.layers.refused:
            reports.append(
                LayerReport(
                    name=node.name or identity(node),
                    place=place.scope.place,
                    op=operator(node),
                    weight_shape=(),
                    channels=0,
                    status=LayerStatus.UNJUDGEABLE,
                    reason=skipped.sentence,
                    folded=(),
                    not_folded="",
                    judgements=(),
                )
            )
    return reports


def _cuts(analysis: Analysis, at: int) -> Sequence[Cut | None]:
    """One cut a branch of the verdict at that place; None where nothing of it is switched off."""
    branches = analysis.verdicts[at].branches
    return analysis.dose.cuts.get(at, (None,) * len(branches))


def _layer_report(place: Place, verdict: LayerVerdict, cuts: Sequence[Cut | None], prune: bool) -> LayerReport:
    rewrite = verdict.rewrite
    layer = rewrite.layer
    return LayerReport(
        name=layer.name,
        place=place.scope.place,
        op=layer.operator,
        weight_shape=tuple(layer.weight_shape),
        channels=layer.channels,
        status=verdict.status,
        reason=verdict.reason,
        folded=tuple(rewrite.folded),
        not_folded="" if rewrite.folded else _not_folded(place, verdict),
        judgements=tuple(
            _judgement(branch, verdict.status, cut, prune) for branch, cut in zip(verdict.branches, cuts, strict=True)
        ),
    )


def _not_folded(place: Place, verdict: LayerVerdict) -> str:
    sight = place.sights[id(verdict.rewrite.layer.node)]
    for run, *_ in sight.normalisations:
        for node, _ in run.steps:
            if id(node) in place.left:
                return place.left[id(node)][1].sentence
    return ""


def _judgement(branch: Branch, status: LayerStatus, cut: Cut | None, prune: bool) -> Judgement:
    found = branch.outliers
    order = np.argsort(-branch.scores, kind="stable")
    ranks = np.empty(len(order), dtype=int)
    ranks[order] = np.arange(1, len(order) + 1)
    marked: list[int] = np.flatnonzero(found.outlying).tolist() if status is LayerStatus.JUDGED else []
    return Judgement(
        normalisation=None if branch.normalisation is None else branch.normalisation.name,
        n=len(branch.scores),
        mean=found.mean,
        std=found.std,
        threshold=found.threshold,
        scores=tuple(float(s) for s in branch.scores),
        upper_bounds=tuple(float(b) for b in branch.bounds),
        pruned=tuple(
            PrunedChannel(
                channel=branch.first + c,
                score=float(branch.scores[c]),
                upper_bound=float(branch.bounds[c]),
                z=float(found.z[c]),
                rank=int(ranks[c]),
                fill=float(cut.fill[c]) if cut is not None and cut.off[c] else None,
                kept=prune and not (cut is not None and cut.off[c]),
            )
            for c in marked
        ),
        rule=found.rule,
        centre=found.centre,
        spread=found.spread,
        lower=found.lower,
        max_z=found.max_z,
        first=branch.first,
    )
