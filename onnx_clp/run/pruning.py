"""Channels of all layers: judged one layer after the other, and those that are chosen switched off."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_clp.config import CleanConfig
from onnx_clp.fold import normalisations
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge import prune_channels
from onnx_clp.judge.downstream_gain import Gains
from onnx_clp.judge.prune_channels import Raw
from onnx_clp.process.progress import Tick
from onnx_clp.run.dose import Cuts
from onnx_clp.run.folding import Place


def judge(index: ModelIndex, places: list[Place], config: CleanConfig, tick: Tick, known: Sequence[Raw | None]) -> None:
    """Give every place its sights and verdicts; `known` are raw scores that need not be computed, in their order."""
    done = 0
    for place in places:
        place.sights = normalisations.look(place.scope, place.layers)
        gains = Gains(place.scope, place.layers) if config.rule == "gain" else None
        for key, rewrite in place.layers.by_node.items():
            sight = place.sights[key]
            place.verdicts.append(prune_channels.examine(index, rewrite, sight, config, known[done], gains))
            rewrite.layer.weight.release()
            done += 1
            tick("score", done, len(known))


def prune(edit: GraphEdit, places: list[Place], cuts: Cuts) -> None:
    """Switch off the channels of the cuts, which go by the place of a verdict among all."""
    numbered = iter(range(sum(len(place.verdicts) for place in places)))
    for place in places:
        for verdict in place.verdicts:
            at = next(numbered)
            if at in cuts:
                prune_channels.prune(edit, verdict, place.sights[id(verdict.rewrite.layer.node)], cuts[at])
        for verdict in place.verdicts:
            if verdict.rewrite.zeroed.any():
                verdict.rewrite.commit(edit)
    edit.finish()
