"""The child's side of the gauge: photographs at the model's size, in its pixel values, through the model with dials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_clp.document.gauge import Gauge, Ordinary, Prediction
from onnx_clp.gauge import dosing, outputs
from onnx_clp.gauge.bench import TOGETHER, Images
from onnx_clp.gauge.dosing import DialDose
from onnx_clp.gauge.loss import predicted
from onnx_clp.gauge.ordinary import Source, form_of, ordinary_inputs
from onnx_clp.gauge.request import CAPS_OFF, DOSING, Dial, DialSetting, Dosed, DoseRequest, Switch
from onnx_clp.gauge.running import capped
from onnx_clp.process.errand import model_bytes
from onnx_clp.process.serve import Send
from onnx_clp.validation import macs
from onnx_clp.validation.anatomy import anatomy_of, read_skeleton
from onnx_clp.validation.calibrating import Sums
from onnx_clp.validation.inputs import Shapes
from onnx_clp.validation.plan import AS_DEPLOYED
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.session import FailureKind, RunError, Runner, open_runner

Array = NDArray[Any]
Float64 = NDArray[np.float64]

_MOST_DOSES: Final = 16
_LOOKS: Final = 3
"""Parts of the images after which a dose that is too high is given up."""
_EVERY: Final = 1 << 20
_FEW: Final = 16
"""Images at most: on ONNX Runtime, and on ONNX's reference evaluator, which is slow."""
_FOR_HEIGHTS, _WORK = 144, 1e11
"""Photographs that heights of caps are chosen on, as far as they take so many multiply-accumulates a dose together."""
_A_BYTE: Final = 25
"""Multiply-accumulates a byte of a network for large images, where they cannot be counted."""
_LEAST: Final = 1e-30
_ELEMENTS: Final = 3 * 224 * 224
"""Elements of the input that go through at once where values inside are held."""


def dose(request: DoseRequest, cap: int, send: Send) -> Dosed:
    """Find the dose that the budget allows, within `cap` bytes of memory.

    Raises:
        NotValidated: the model does not run.
        UsageError: the provider, a shape or the images do not fit.
    """
    return capped(request, cap, DOSING.instead, lambda engine: _dosed(request, engine, send))


def _dosed(request: DoseRequest, engine: Engine, send: Send) -> Dosed:
    try:
        return _Trial(request, open_runner(request.model, engine, AS_DEPLOYED), send, _EVERY).dosed()
    except RunError as lacking:
        if lacking.kind is not FailureKind.KERNEL:
            raise
        return _Trial(request, open_runner(request.model, engine, reference=True), send, _FEW).dosed()


class _Trial:
    """One request at work: the model with dials, the images, and what they gave with every dial off."""

    def __init__(self, request: DoseRequest, runner: Runner, send: Send, most: int) -> None:
        self._request, self._send = request, send
        self._dtypes = {d.fill: np.dtype(tensor_dtype_to_np_dtype(d.switch.data_type)) for d in request.controls.dials}
        self._fills: list[Float64] = [np.zeros(len(d.switch.outlying)) for d in request.controls.dials]
        self._known: dict[DialDose, Prediction] = {}
        neutral = self._feeds(DialDose(()))
        model = read_skeleton(request.model)
        specs = [spec for spec in anatomy_of(model).inputs if spec.name not in neutral]
        form = form_of(specs, request.limits.shapes, request.limits.seed, runner, neutral)
        self._bench = form.bench(runner, request.controls.outputs)
        pixels = request.pixels or request.wish.pixels
        least = _for_heights(request, form.shapes) if request.wish.caps == 0 else 0
        source = Source(model, request.controls.landmark, request.images, pixels, most, least)
        self._images, made, self._ways = ordinary_inputs(source, form, self._bench, neutral)
        self._looks = _looks(len(self._images), self._ways)
        self._made = _said(made, request)
        self._before = self._bench.answers(self._images, neutral)
        self._places = outputs.by_place(model)

    def dosed(self) -> Dosed:
        """Fills first, then caps, then as many channels as the budget leaves room for."""
        dials, wish = self._request.controls.dials, self._request.wish
        self._fills, spreads = self._statistics()
        every = dosing.ordered(dials, spreads)
        channels = [one for one in every if one.z > wish.u]
        caps, asked = None, None
        budget = wish.budget if wish.unheard is None or self._made.source != "noise" else wish.unheard
        allowed = dosing.Allowance(budget, max(wish.changed, self._ways / len(self._images)))
        within = partial(self.measure, allowed=allowed)
        # Made-up signals do not tell which height is low enough.
        blind = self._made.source == "noise" and wish.caps == 0
        if wish.caps is not None and self._request.controls.caps_input and not blind:
            caps, _ = dosing.lowest(wish.caps, allowed, within)
            asked = self.measure(DialDose((), wish.caps)) if 0 < wish.caps != caps else None
        whole = DialDose(tuple(channels), None)
        if caps is None:
            self.measure(whole)
        chosen, prediction = dosing.longest(channels, caps, allowed, within)
        gauge = Gauge(
            ordinary=self._made,
            budget=wish.budget,
            evidence="",
            prediction=prediction,
            whole=None if len(chosen.off) == len(channels) else self.measure(whole),
            caps_asked=asked,
        )
        return Dosed(
            gauge=gauge,
            settings=self._settings(chosen),
            caps=caps,
            sweep=tuple(self._at(every, u) for u in wish.sweep),
        )

    def measure(self, chosen: DialDose, allowed: dosing.Allowance | None = None) -> Prediction:
        """What a dose does to the images, in the way in which they come that it costs most.

        Of a dose that some of them show to cost more than is `allowed` it says what it does to these.
        """
        if chosen in self._known:
            return self._known[chosen]
        after: dict[str, list[Array]] = {}
        for start, end in pairwise(self._looks):
            for name, rows in self._bench.answers(self._images[start:end], self._feeds(chosen)).items():
                after.setdefault(name, []).extend(rows)
            if allowed is not None and end < len(self._images):
                found = self._foretold(after)
                if not allowed.of_part(end / len(self._images)).holds(found):
                    return found
        self._send(f"tick gauge {len(self._known) + 1} {_MOST_DOSES}")
        self._known[chosen] = self._foretold(after)
        return self._known[chosen]

    def _foretold(self, after: dict[str, list[Array]]) -> Prediction:
        return max((self._in_one_way(after, way) for way in range(self._ways)), key=lambda one: one.loss.share)

    def _in_one_way(self, after: dict[str, list[Array]], way: int) -> Prediction:
        now = {name: rows[way :: self._ways] for name, rows in after.items()}
        before = {name: self._before[name][: len(rows)][way :: self._ways] for name, rows in after.items()}
        moved = outputs.changes(before, now, self._places, beside=self._request.wish.beside)
        images = max(map(len, after.values()), default=0)
        return Prediction(predicted(moved, images, noise=self._made.source == "noise"), moved)

    def _at(self, channels: Sequence[dosing.Channel], u: float) -> Prediction:
        return self.measure(DialDose(tuple(one for one in channels if one.z > u)))

    def _feeds(self, chosen: DialDose) -> dict[str, Array]:
        given = dosing.feeds(self._request.controls.dials, self._fills, chosen, self._dtypes)
        if self._request.controls.caps_input:
            given[self._request.controls.caps_input] = np.array(
                CAPS_OFF if chosen.caps is None else chosen.caps, np.float32
            )
        return given

    def _statistics(self) -> tuple[list[Float64], list[Float64]]:
        """By dial what its outlying channels give once off, and their variances: as known, else as measured."""
        dials = self._request.controls.dials
        measured = self._moments([d for d in dials if d.switch.fills is None or d.switch.spreads is None])
        fills, spreads = [], []
        for dial in dials:
            fill, spread = dial.switch.fills, dial.switch.spreads
            if dial.before in measured:
                mean, variance = measured[dial.before]
                chosen = np.array(dial.switch.outlying)
                fill = tuple(mean[chosen]) if fill is None else fill
                spread = tuple(variance[chosen] / max(float(variance.mean()), _LEAST)) if spread is None else spread
            fills.append(np.array(fill))
            spreads.append(np.array(spread))
        return fills, spreads

    def _moments(self, dials: Sequence[Dial]) -> dict[str, tuple[Float64, Float64]]:
        """Mean and variance of every channel before each dial, cut as the activation behind it does, over images."""
        if not dials:
            return {}
        sums, neutral = {dial.before: Sums() for dial in dials}, self._feeds(DialDose(()))
        for part in _parts(self._images):
            seen = self._bench.answers(part, neutral, tuple(sums))
            for dial in dials:
                for values in seen[dial.before]:
                    sums[dial.before].add(_as_passed_on(values, dial.switch), dial.switch.axis_from_end)
        return {name: _mean_and_variance(each) for name, each in sums.items()}

    def _settings(self, chosen: DialDose) -> tuple[DialSetting, ...]:
        found = []
        for number, (dial, fill) in enumerate(zip(self._request.controls.dials, self._fills, strict=True)):
            off = sorted(dial.switch.outlying[one.place] for one in chosen.off if one.dial == number)
            found.append(DialSetting(dial.switch.value, tuple(float(f) for f in fill), tuple(off)))
        return tuple(found)


def _looks(images: int, ways: int) -> list[int]:
    """Where the images are cut into thirds of whole runs, each image in all of its ways; fewer where they are few."""
    run = TOGETHER * ways
    return sorted({at * images // _LOOKS // run * run for at in range(_LOOKS)} | {images})


def _for_heights(request: DoseRequest, shapes: Shapes) -> int:
    """Of 48 photographs, as many as large ones usually are, one that changes class says too little of a height."""
    work = macs.count(request.model, shapes)
    if work is None:
        work = _A_BYTE * model_bytes(request)
    return min(_FOR_HEIGHTS, int(_WORK / max(work, 1)))


def _said(made: Ordinary, request: DoseRequest) -> Ordinary:
    """What to say of the images: a range that the user did not name is the path's; its class does not count."""
    told = "path" if request.pixels is None and made.told == "option" else made.told
    return replace(made, told=told, beside=request.wish.beside)


def _parts(images: Images) -> Iterator[Images]:
    """The images of one run: several where they are small, as every value before a dial is held at once."""
    size = max((array.size for array in images[0].values()), default=1)
    together = min(max(_ELEMENTS // size, 1), TOGETHER)
    for start in range(0, len(images), together):
        yield images[start : start + together]


def _as_passed_on(values: Array, switch: Switch) -> Array:
    """The values in numbers, as the activation behind the dial cuts them."""
    step, zero = switch.quantum or (1.0, 0.0)
    plain = values if switch.quantum is None else (values.astype(np.float64) - zero) * step
    return plain if switch.limits == (-math.inf, math.inf) else np.clip(plain, *switch.limits)


def _mean_and_variance(sums: Sums) -> tuple[Float64, Float64]:
    found = sums.moments()
    return np.nan_to_num(np.array(found.mean)), np.nan_to_num(np.array(found.std)) ** 2
