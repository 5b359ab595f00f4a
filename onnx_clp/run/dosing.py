"""Measures how far a run may go: a copy of the model with dials, and what was measured on it turned into a dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from onnx import ModelProto

from onnx_clp.cap.bound_activations import Statistic, examine
from onnx_clp.cap.ceilings import Ceiling
from onnx_clp.config import CleanConfig
from onnx_clp.gauge.dials import FLOATS, LEAST_OPSET, QUANTISED, Capped, Panel
from onnx_clp.gauge.request import Controls, Dosed, Landmark, Switch, Wish
from onnx_clp.graph.index import GraphIndex
from onnx_clp.graph.model import ModelIndex
from onnx_clp.judge.expected import Expectations, limits_of
from onnx_clp.judge.prune_channels import LayerVerdict
from onnx_clp.operators.nodes import input_name
from onnx_clp.run.dose import NO_WAY_OUT, Dose, Measure, WayOut, because, by_verdict, cut, undosed, unmeasured
from onnx_clp.run.effort import NO_SEARCH, Searched, caps_wanted
from onnx_clp.run.outlying import Outlying, standing_out

BUDGET: Final = 0.01
SUSPICIOUS_BUDGET: Final = 0.02
CHANGED_PER_BUDGET: Final = 2.0
"""Answers that may change for each one that may be lost, where nothing is suspicious: the budget of 1 % keeps 98 %."""
UNHEARD_BUDGET: Final = 1e-5
"""What may be lost by made-up signals, unasked: as good as nothing, as they do not tell what real ones lose."""
_FOUND_PATH: Final = "a path leads to a class"
_FOUND_GATE: Final = "a value from the input may be a gate"
_KEPT_GATE: Final = "a value from the input that would cost too much to replace may be a gate"
_KEPT_PATH: Final = "a path that would cost too much to take out leads to a class"


class Dosing:
    """Builds a model with dials and turns what was measured into a dose."""

    def __init__(self, index: ModelIndex, config: CleanConfig, statistics: Sequence[Statistic]) -> None:
        self._index, self._config = index, config
        self._statistics = [s for s in statistics if s.scope is index.main]
        self._expectations = Expectations(statistics)

    def decide(
        self,
        verdicts: Sequence[LayerVerdict],
        measure: Measure | None,
        evidence: str = "",
        path: WayOut = NO_WAY_OUT,
        searched: Searched = NO_SEARCH,
    ) -> Dose:
        """How far the run goes.

        Args:
            verdicts: of all layers.
            measure: runs doses; None where nothing may run.
            evidence: what makes a backdoor likely, so that more may be spent and caps are tried; "" for nothing.
            path: what takes a path out, which goes before all else where pruning is asked for.
            searched: what a search came to; what its repair costs is taken off the budget.
        """
        config = self._config
        places = standing_out(verdicts, self._expectations, config)
        if measure is None or (config.budget == 1 and not (path.switches and config.prune)):
            return undosed(places, config)
        if path.switches and config.prune:
            dose = self._without_path(verdicts, places, measure, "" if path.explains else evidence, path, searched)
            kept = _KEPT_GATE if path.target is None else _KEPT_PATH
            return dose if dose.cuts_path else self.decide(verdicts, measure, evidence or kept, searched=searched)
        wish = self._wish(evidence, searched)
        return because(self._measured(verdicts, places, wish, measure, ()), evidence)

    def _without_path(
        self,
        verdicts: Sequence[LayerVerdict],
        places: Sequence[Outlying],
        measure: Measure,
        evidence: str,
        path: WayOut,
        searched: Searched,
    ) -> Dose:
        """The path out, then what else the budget leaves room for; else the path alone, which may cost more."""
        wish = self._wish(evidence, searched, path)
        dose = because(self._measured(verdicts, places, wish, measure, path.switches), evidence)
        if evidence or self._config.budget is not None or dose.ends_path:
            return dose
        found = _FOUND_GATE if path.target is None else _FOUND_PATH
        wish = self._wish(found, searched, path)
        return because(self._measured(verdicts, (), wish, measure, path.switches), found)

    def _wish(self, evidence: str, searched: Searched, path: WayOut = NO_WAY_OUT) -> Wish:
        config = self._config
        usual = SUSPICIOUS_BUDGET if evidence and not searched.undone else BUDGET
        budget = usual if config.budget is None else config.budget
        budget = max(budget - searched.spent, 0.0)
        calm = not evidence and not path.switches
        return Wish(
            budget,
            config.u,
            caps_wanted(config, evidence, searched, bool(path.switches)),
            config.sweep,
            path.pixels,
            path.target,
            changed=min(CHANGED_PER_BUDGET * budget, 1.0) if calm else 1.0,
            unheard=UNHEARD_BUDGET if calm and config.budget is None else None,
        )

    def _measured(
        self,
        verdicts: Sequence[LayerVerdict],
        places: Sequence[Outlying],
        wish: Wish,
        measure: Measure,
        path: Sequence[Switch],
    ) -> Dose:
        switches = {(one.at, one.number): switch for one in places if (switch := self._switch(one)) is not None}
        capped = self._capped() if wish.caps is not None else []
        if not switches and not capped and not path:
            unreached = sum(len(one.chosen) for one in places)
            return Dose({}, None, gauge=unmeasured(wish.budget, unreached=unreached) if unreached else None)
        model, controls = self._model(verdicts, [*switches.values(), *path], capped)
        dosed = measure(model, controls, wish)
        return replace(self._dose(places, list(switches), dosed), path=dosed.settings[len(switches) :])

    def _model(
        self, verdicts: Sequence[LayerVerdict], switches: Sequence[Switch], capped: Sequence[Capped]
    ) -> tuple[ModelProto, Controls]:
        model, landmark = ModelProto(), self.landmark(verdicts)
        model.CopyFrom(self._index.model)
        outputs = tuple(value.name for value in model.graph.output)
        panel = Panel(model, self._index.names())
        dials = [panel.add_switch(switch) for switch in switches]
        if capped:
            panel.add_caps(capped)
        for dial in dials:
            if dial.switch.fills is None or dial.switch.spreads is None:
                panel.add_output(dial.before)
        if landmark is not None:
            panel.add_output(landmark.value)
        panel.finish()
        named = self._config.output_name
        return model, Controls(tuple(dials), panel.caps_input, landmark, outputs if named is None else (named,))

    def _switch(self, one: Outlying) -> Switch | None:
        """The channels as a switch; None where no dial can be put."""
        scope, layer = one.scope, one.verdict.rewrite.layer
        if scope is not self._index.main or scope.opset < LEAST_OPSET or scope.producer(one.value) is None:
            return None
        data_type = scope.element_type(one.value) or (layer.weight.data_type if one.branch.value == "" else None)
        quantum = quantum_of(scope, one.value)
        if data_type not in (FLOATS if quantum is None else QUANTISED):
            return None
        known, places = one.expected, one.places
        fills = None if known is None else tuple(known.mean[places].tolist())
        if self._config.fill == "zero" or not one.fills:
            fills = (0.0,) * len(places)
        return Switch(
            value=one.value,
            channels=one.channels,
            axis_from_end=one.axis_from_end,
            data_type=int(data_type or 0),
            outlying=tuple(places.tolist()),
            z=tuple(np.abs(one.branch.outliers.z[one.mask]).tolist()),
            fills=fills,
            spreads=None if known is None else tuple(known.spread[places].tolist()),
            quantum=quantum,
            limits=limits_of(scope, one.value),
        )

    def reaches(self, place: Ceiling) -> bool:
        """Whether what a cap there costs can be measured."""
        return place.scope is self._index.main and place.scope.opset >= LEAST_OPSET and place.data_type in FLOATS

    def _capped(self) -> list[Capped]:
        """Values of the main graph that caps go on, each where the cap proper would be."""
        found = []
        for statistic in self._statistics:
            place = examine(statistic, 1.0)
            if isinstance(place, Ceiling) and self.reaches(place):
                found.append(Capped(place.value, statistic.mean, statistic.std, place.rank, place.data_type))
        return found

    def landmark(self, verdicts: Sequence[LayerVerdict]) -> Landmark | None:
        """The first value whose BatchNormalization tells of it; without one, the output of the first convolution."""
        main = self._index.main
        for known in self._statistics:
            if main.producer(known.output) is not None and main.ranks.of(known.output) in (4, None):
                return Landmark(known.output, tuple(known.mean.tolist()), tuple(known.std.tolist()))
        for verdict in verdicts:
            layer = verdict.rewrite.layer
            if layer.scope is main and layer.is_convolution:
                plain = layer.rank == 4 and layer.axis_from_end == 3 and quantum_of(main, layer.output) is None
                return Landmark(layer.output, (), ()) if plain else None
        return None

    def _dose(self, places: Sequence[Outlying], keys: Sequence[tuple[int, int]], dosed: Dosed) -> Dose:
        settings = dict(zip(keys, dosed.settings, strict=False))
        chosen = {}
        for one in places:
            setting = settings.get((one.at, one.number))
            if setting is not None and setting.off:
                at = [one.places.tolist().index(channel) for channel in setting.off]
                fills = np.array(setting.fills)[at]
                chosen[one.at, one.number] = cut(one, np.array(setting.off), fills)
        unreached = sum(len(one.chosen) for one in places if (one.at, one.number) not in settings)
        return Dose(by_verdict(places, chosen), dosed.caps, dosed, replace(dosed.gauge, unreached=unreached))


def quantum_of(scope: GraphIndex, value: str) -> tuple[float, float] | None:
    """Scale and zero point of a value that a quantised operator rounds; None for other values."""
    maker = scope.producer(value)
    if maker is None or not maker.op_type.startswith("QLinear"):
        return None
    step, zero = (scope.constant(input_name(maker, slot)) for slot in (6, 7))
    if step is None or zero is None or step.size != 1 or zero.size != 1:
        return None
    return float(step.reshape(-1)[0]), float(zero.reshape(-1)[0])
