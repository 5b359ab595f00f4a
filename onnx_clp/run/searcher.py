"""A search for triggers as a step of a run: the models staged, searched in a child process, the repair put in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.config import UNIT_RANGE, CleanConfig
from onnx_clp.judge.head_check import Head, convincing
from onnx_clp.process.clock import Clock
from onnx_clp.run.effort import Searched, SearchPlan, search_plan

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.cap.bound_directions import Site
    from onnx_clp.document.search import Inversion
    from onnx_clp.gauge.request import Landmark
    from onnx_clp.graph.edit import GraphEdit
    from onnx_clp.inversion.request import Found
    from onnx_clp.modelfile.reader import ModelFile
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
        self._plan = search_plan(config)
        self.step = None if self._plan is None else self._step

    def report(self) -> Inversion | None:
        """What was found; None where no search was asked for."""
        return None if self._found is None else self._found.inversion

    def _step(
        self,
        edit: GraphEdit,
        folded: ModelProto | None,
        places: list[Place],
        heads: Sequence[Head],
        landmark: Landmark | None,
    ) -> Searched:
        from onnx_clp.cap.bound_directions import Site
        from onnx_clp.document.layers import CapLeft
        from onnx_clp.inversion.request import directions
        from onnx_clp.run.candidates import candidates, put

        assert self._plan is not None
        looked = candidates(edit.index, places) if self._plan.invert else {}
        sites = {value: one for value, one in looked.items() if isinstance(one, Site)}
        with self._clock.stage("search"):
            self._found = found = self._search(folded, sites, suspects(heads), self._plan, landmark)
        inversion, named = found.inversion, found.inversion.sentence if found.inversion.likely is not None else ""
        if inversion.repair is None:
            return Searched(named=named)
        left = tuple(one for one in looked.values() if isinstance(one, CapLeft))
        self._found = replace(found, inversion=replace(inversion, repair=replace(inversion.repair, left=left)))
        for value, caps in found.caps.items():
            put(edit, sites[value], directions(caps))
        return Searched(undone=not inversion.repair.stands_out, named=named, spent=inversion.repair.loss.share)

    def _search(
        self,
        folded: ModelProto | None,
        sites: dict[str, Site],
        suspected: tuple[int, ...],
        plan: SearchPlan,
        landmark: Landmark | None,
    ) -> Found:
        from onnx_clp.inversion.launch import search
        from onnx_clp.inversion.request import SearchRequest
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
                    budget=config.budget,
                    low=low,
                    high=high,
                    asked_range=config.pixel_range is not None,
                    landmark=landmark,
                    seconds=plan.seconds,
                    suspects=suspected,
                    least_classes=plan.least_classes,
                    output_name=config.output_name,
                    limits=replace(config.limits(self._file.size), timeout=plan.seconds * _GRACE + _START),
                ),
                self._clock.tick,
            )


def suspects(heads: Iterable[Head]) -> tuple[int, ...]:
    """The classes whose rows in the last layer are evidence, the strongest first."""
    judged = [(head.z[c], c, convincing(head.classes)) for head in heads if not head.positional for c in head.outlying]
    return tuple(c for z, c, least in sorted(judged, reverse=True) if z > least)
