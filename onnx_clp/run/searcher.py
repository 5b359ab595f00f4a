"""A search for triggers as a step of a run: the models staged, searched in a child process, the repair put in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.config import UNIT_RANGE, CleanConfig
from onnx_clp.document import run
from onnx_clp.judge.head_check import Head, convincing, examined
from onnx_clp.process.clock import Clock
from onnx_clp.run.effort import Searched, SearchPlan, search_plan

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.cap.bound_directions import Site
    from onnx_clp.graph.edit import GraphEdit
    from onnx_clp.inversion.request import Found
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.candidates import Candidate
    from onnx_clp.run.folding import Place

_NAME = "searched.onnx"
# A search ends by itself. A child that is still there so much later has stopped working.
_GRACE, _START = 1.5, 120.0


class Searching:
    """The search of one run.

    Attributes:
        step: what the analysis calls once the model is folded; None where no search was asked for.
    """

    def __init__(self, file: ModelFile, source: Path | None, config: CleanConfig, clock: Clock) -> None:
        self._file, self._source, self._config, self._clock = file, source, config, clock
        self._found: Found | None = None
        self._candidates: list[Candidate] = []
        self._suspects: tuple[int, ...] = ()
        self._plan = search_plan(config)
        self.step = None if self._plan is None else self._step

    def report(self) -> run.Inversion | None:
        """What was found; None where no search was asked for."""
        found = self._found
        if found is None:
            return None
        return run.Inversion(
            provider=found.provider,
            classes=found.classes,
            images=found.images,
            results=found.results,
            likely=found.likely,
            sentence=found.sentence,
            repair=self._repair(found),
            repair_note=found.repair_note,
            nearest=found.nearest,
            changes=self._changes(found),
            unfinished=found.unfinished,
        )

    def _step(self, edit: GraphEdit, folded: ModelProto | None, places: list[Place]) -> Searched:
        from onnx_clp.run.candidates import candidates, put

        assert self._plan is not None
        self._suspects = suspects(examined(edit.index, places[0].layers))
        self._candidates = candidates(edit.index, places) if self._plan.invert else []
        sites = {one.value: one.site for one in self._candidates if one.site is not None}
        with self._clock.stage("search"):
            self._found = self._search(folded, sites, self._plan)
        repair, named = self._found.repair, self._found.sentence if self._found.likely is not None else ""
        if repair is None:
            return Searched(named=named)
        for repaired in repair.sites:
            put(edit, sites[repaired.value], repaired.directions())
        return Searched(undone=not repair.stands_out, named=named, spent=repair.loss.share)

    def _search(self, folded: ModelProto | None, sites: dict[str, Site], plan: SearchPlan) -> Found:
        from onnx_clp.inversion.launch import search
        from onnx_clp.inversion.request import FOUND_BUDGET, SearchRequest
        from onnx_clp.modelfile.staging import scratch, staging

        config = self._config
        low, high = config.pixel_range or UNIT_RANGE
        with scratch() as folder, staging(folder / _NAME) as stage:
            staged = None if folded is None else stage(self._file, folded, config.external_data).checkable()
            return search(
                SearchRequest(
                    original=self._source or stage(self._file, None, "auto").checkable(),
                    folded=staged,
                    sites=tuple(sites.values()),
                    invert=plan.invert,
                    repair=plan.repair,
                    images=config.images,
                    budget=FOUND_BUDGET if config.budget is None else config.budget,
                    low=low,
                    high=high,
                    seconds=plan.seconds,
                    suspects=self._suspects,
                    output_name=config.output_name,
                    limits=replace(config.limits(self._file.size), timeout=plan.seconds * _GRACE + _START),
                ),
                self._clock.tick,
            )

    def _changes(self, found: Found) -> tuple[run.ChannelChanges, ...]:
        layers = {one.value: one.layer for one in self._candidates}
        return tuple(run.ChannelChanges(layers[one.value], one.value, one.change) for one in found.changes)

    def _repair(self, found: Found) -> run.RepairReport | None:
        repair = found.repair
        if repair is None:
            return None
        layers = {one.value: one.layer for one in self._candidates}
        return run.RepairReport(
            flip_before=repair.flip_before,
            flip=repair.flip,
            agreement=repair.agreement,
            z=repair.z if math.isfinite(repair.z) else None,
            stands_out=repair.stands_out,
            loss=repair.loss,
            quantile=repair.quantile,
            directions=sum(len(site.caps) for site in repair.sites),
            layers=tuple(run.RepairedLayer(layers[s.value], s.value, s.beyond, s.shift) for s in repair.sites),
            left=tuple(run.ValueLeft(one.layer, one.why) for one in self._candidates if one.why),
        )


def suspects(heads: Iterable[Head]) -> tuple[int, ...]:
    """The classes whose rows in the last layer are evidence, the strongest first."""
    judged = [(head.z[c], c, convincing(head.classes)) for head in heads if not head.positional for c in head.outlying]
    return tuple(c for z, c, least in sorted(judged, reverse=True) if z > least)
