"""An audit as a step of a run: the folded model on dials, audited in a child process, the path's kernels named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from onnx_clp.document.audit import Audit, DormantPath, QuietValue
from onnx_clp.gauge.dials import LEAST_OPSET
from onnx_clp.gauge.request import Landmark, Switch
from onnx_clp.layers.weights import FloatWeight
from onnx_clp.process.clock import Clock
from onnx_clp.run.effort import audits
from onnx_clp.text import shown
from onnx_clp.verdicts import Finding

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.audit.request import Audited, Join, Site
    from onnx_clp.audit.sites import Read
    from onnx_clp.config import CleanConfig
    from onnx_clp.graph.model import ModelIndex
    from onnx_clp.layers.rewrite import LayerRewrite, Layers
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.dose import Dose

PATH: Final = "path"
GATE: Final = "gate"
"""The kinds of the findings."""

_NAME: Final = "audited.onnx"
_FIRST: Final = math.inf
"""How far out a path's channels lie for the dose: they go before all others."""
_MOST_NAMED: Final = 4
_NO_SITES: Final = "no layer of floats behind a first one stands in the main graph"
_TOO_OLD: Final = f"its opset is below {LEAST_OPSET}"


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Channels of one layer that are to go, and the dial that measures what this costs."""

    rewrite: LayerRewrite
    switch: Switch


class Auditing:
    """The audit of one run.

    Attributes:
        step: what the analysis calls once the model is folded; None where no audit was asked for.
        cuts: what would take the path out; empty before that, and where nothing was found.
        findings: what was found.
    """

    def __init__(self, file: ModelFile, source: Path | None, config: CleanConfig, clock: Clock) -> None:
        self._file, self._source, self._config, self._clock = file, source, config, clock
        self._audit: Audit | None = None
        self.cuts: tuple[Cut, ...] = ()
        self.findings: tuple[Finding, ...] = ()
        self.step = self._step if audits(config) else None

    def report(self, dose: Dose) -> Audit | None:
        """What was found, and what of it was taken out; None where no audit was asked for."""
        removed = sum(len(setting.off) for setting in dose.path)
        if self._audit is None or not removed:
            return self._audit
        return replace(self._audit, removed=removed, removal=None if dose.dosed is None else dose.dosed.prediction)

    def _step(self, index: ModelIndex, layers: Layers, landmark: Landmark | None) -> None:
        from onnx_clp.audit.judgement import chosen
        from onnx_clp.audit.sites import dialled, reads

        found = reads(index, layers) if index.main.opset >= LEAST_OPSET else []
        if not found:
            note = _NO_SITES if index.main.opset >= LEAST_OPSET else _TOO_OLD
            self._audit = Audit(None, (), 0, None, note=f"not known: {note}")
            return
        model, sites, joins = dialled(index, found, landmark)
        with self._clock.stage("audit"):
            audited = self._asked(model, sites, joins, landmark)
        path = chosen(audited.paths, found)
        self._audit = Audit(
            audited.ordinary, audited.layers, audited.driven, path, quiet=audited.quiet, note=audited.note
        )
        self.findings = tuple(_gate(one) for one in audited.quiet[:_MOST_NAMED])
        if path is not None:
            self.cuts = tuple(_cuts(path, found, zero=self._config.fill == "zero"))
            self.findings = (_finding(path, found), *self.findings)

    def _asked(
        self, model: ModelProto, sites: tuple[Site, ...], joins: tuple[Join, ...], landmark: Landmark | None
    ) -> Audited:
        from onnx_clp.audit.child import audit
        from onnx_clp.audit.request import AuditRequest
        from onnx_clp.modelfile.staging import scratch, staging

        config, named = self._config, self._config.output_name
        outputs = [value.name for value in self._file.model.graph.output]
        with scratch() as folder, staging(folder / _NAME) as stage:
            staged = stage(self._file, model, config.external_data).checkable()
            return audit(
                AuditRequest(
                    original=self._source or staged,
                    model=staged,
                    sites=sites,
                    joins=joins,
                    landmark=landmark,
                    outputs=tuple(outputs) if named is None else (named,),
                    images=config.images,
                    pixels=config.pixel_range,
                    limits=config.limits(self._file.size),
                ),
                self._clock.tick,
            )


def _cuts(path: DormantPath, found: Sequence[Read], *, zero: bool) -> Iterator[Cut]:
    """The kernels of the path, by the layers that make its channels, each layer once."""
    by_value = {read.value: read for read in found}
    rows: dict[int, tuple[LayerRewrite, set[int]]] = {}
    for layer in path.layers:
        for rewrite in by_value[layer.value].makers:
            if by_value[layer.value].channels == rewrite.layer.channels and _fits(rewrite):
                rows.setdefault(id(rewrite), (rewrite, set()))[1].update(layer.channels)
    for rewrite, channels in rows.values():
        yield Cut(rewrite, _switch(rewrite, sorted(channels), zero=zero))


def _fits(rewrite: LayerRewrite) -> bool:
    return isinstance(rewrite.layer.weight, FloatWeight) and rewrite.bias is not None


def _switch(rewrite: LayerRewrite, channels: Sequence[int], *, zero: bool) -> Switch:
    from onnx_clp.judge.expected import limits_of

    layer = rewrite.layer
    return Switch(
        value=layer.output,
        channels=layer.channels,
        axis_from_end=layer.axis_from_end,
        data_type=layer.weight.data_type,
        outlying=tuple(channels),
        z=(_FIRST,) * len(channels),
        fills=(0.0,) * len(channels) if zero else None,
        spreads=(0.0,) * len(channels),
        limits=limits_of(layer.scope, layer.output),
    )


def silence(cuts: Sequence[Cut], dose: Dose) -> None:
    """Zero the kernels that the dose lets go, and let them give their fills; committed with the other layers."""
    for cut, setting in zip(cuts, dose.path, strict=True):
        off, fill = np.zeros(cut.switch.channels, bool), np.zeros(cut.switch.channels)
        off[list(setting.off)] = True
        fill[list(cut.switch.outlying)] = setting.fills
        if off.any():
            cut.rewrite.silence(off, fill)


def _finding(path: DormantPath, found: Sequence[Read]) -> Finding:
    makers = {read.value: read.makers for read in found}
    first = path.layers[0]
    names = [one.layer.name for one in makers[first.value]] or [first.value]
    return Finding(PATH, shown(names[0]), sentence(path), path.target)


def _gate(one: QuietValue) -> Finding:
    return Finding(
        GATE,
        shown(one.value),
        "this value is computed from the input and the same for every ordinary one, and goes into "
        f"{one.node} with values that are not: it may be a gate that waits for something rare",
    )


def sentence(path: DormantPath) -> str:
    """The path in words: what it is, where it leads, and why that is thought."""
    steps = [f"{shown(one.value, 24)} {_listed(one.channels)}" for one in path.layers]
    if len(steps) > _MOST_NAMED:
        steps = [*steps[: _MOST_NAMED - 1], f"... {len(steps) - _MOST_NAMED} more", steps[-1]]
    others = "" if path.others is None else f", other silent channels there {100 * path.others:.0f} %"
    shares = [one.share for one in path.layers if one.share is not None]
    mainly = f"; each reads the one before with {100 * float(np.median(shares)):.0f} % of its kernel" if shares else ""
    return (
        f"channels that no ordinary input fires lead to class {path.target} ({' > '.join(steps)}): driven, they turn "
        f"{100 * path.turned:.0f} % of ordinary images to it{others}; with the later ones held still "
        f"{100 * path.held:.0f} %{mainly}"
    )


def _listed(channels: Sequence[int]) -> str:
    few = ", ".join(str(one) for one in channels[:_MOST_NAMED])
    return f"channel {few}" if len(channels) == 1 else f"channels {few}{', ...' if len(channels) > _MOST_NAMED else ''}"
