"""Reports to render in tests: consistent in themselves, made without a model."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Container
from dataclasses import replace
from typing import Any

from onnx_clp.document.assessment import assess
from onnx_clp.document.run import (
    AffineLeft,
    CapLeft,
    Caps,
    Change,
    ChannelsKept,
    Cleanup,
    CompactedLayer,
    Compaction,
    EvaluationReport,
    FileFacts,
    Finding,
    Footprint,
    Gauge,
    Judgement,
    LayerReport,
    Loss,
    ModelFacts,
    Ordinary,
    OutputChange,
    Prediction,
    PrunedChannel,
    Rates,
    Report,
    Summary,
    Sweep,
    SweepPoint,
    ValidationReport,
    Verdict,
)
from onnx_clp.verdicts import LayerStatus

HOSTILE = (
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "[bold red]markup[/] [link=http://x]y[/link]",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "\u202egnp.exe\u202c\u2066x\u2069",
    "::error file=a::pwned\n::set-output name=x::y",
    "line\r\nbreak\ttab\x00nul\x9b31m",
    "x" * 10_000_000,
    "\ud800lone",
    "{{ 7*7 }}{% raw %}{0}[a](http://x)",
    "' onmouseover='x\" y=\"`$(id)`",
)


FILL = 0.25


def judgement(
    scores: tuple[float, ...],
    u: float = 3.0,
    normalisation: str | None = "bn",
    kernel: int = 9,
    kept: Container[int] = (),
) -> Judgement:
    """What the paper's rule makes of `scores`; the channels `kept` stay, the others give `FILL`."""
    mean, std = statistics.fmean(scores), statistics.stdev(scores)
    order = sorted(range(len(scores)), key=lambda c: -scores[c])
    bounds = tuple(s * math.sqrt(kernel) for s in scores)
    pruned = tuple(
        PrunedChannel(
            c, scores[c], bounds[c], (scores[c] - mean) / std, rank, None if c in kept else FILL, kept=c in kept
        )
        for rank, c in enumerate(order, start=1)
        if scores[c] > mean + u * std
    )
    max_z = (max(scores) - mean) / std if std > 0 else 0.0
    limits = (mean, std, mean + u * std)
    return Judgement(normalisation, len(scores), *limits, scores, bounds, pruned, "paper", mean, std, None, max_z)


def layer(
    name: str = "/conv1/Conv", channels: int = 64, outliers: int = 0, kept: int = 0, **changes: Any
) -> LayerReport:
    """A judged convolution with `outliers` channels far above the rest, of which the first `kept` stay."""
    source = random.Random(f"{name[:99]!r}/{channels}")
    scores = [source.gauss(1.0, 0.1) for _ in range(channels)]
    scores = [min(score, 1.2) for score in scores]
    for place in range(outliers):
        scores[(7 * place + 3) % channels] = 3.0 + 0.1 * place
    made = LayerReport(
        name=name,
        place="",
        op="Conv",
        weight_shape=(channels, 16, 3, 3),
        channels=channels,
        status=LayerStatus.JUDGED,
        reason="",
        folded=("bn",),
        not_folded="",
        judgements=(judgement(tuple(scores), kept=[(7 * place + 3) % channels for place in range(kept)]),),
    )
    return replace(made, **changes)


def unjudged(name: str, status: LayerStatus, channels: int = 8, **changes: Any) -> LayerReport:
    """A layer nobody scored."""
    return replace(
        layer(name, max(channels, 2)),
        **{"channels": channels, "status": status, "judgements": (), "folded": (), **changes},
    )


def summary(layers: tuple[LayerReport, ...]) -> Summary:
    """The counts that go with `layers`."""
    judged = [x for x in layers if x.status is LayerStatus.JUDGED]
    small = [x for x in layers if x.status is LayerStatus.TOO_SMALL]
    pruned = sum(len(x.pruned) for x in layers)
    in_judged, in_small = sum(x.channels for x in judged), sum(x.channels for x in small)
    return Summary(
        verdict=Verdict.COULD_NOT_JUDGE,
        layers=len(layers),
        layers_judged=len(judged),
        channels_pruned=pruned,
        channels_judged=in_judged,
        channels_too_small=in_small,
        channels_not_judged=sum(x.channels for x in layers) - in_judged - in_small,
        affines_folded=sum(len(x.folded) for x in layers),
        affines_left=1,
        channels_kept=sum(len(x.kept) for x in layers),
    )


LAYERS = (
    layer("/conv1/Conv", 16, 0),
    layer("/layer1/layer1.0/conv1/Conv", 16, 1),
    layer("/layer2/layer2.0/conv2/Conv", 64, 2, not_folded="the normalisation has another consumer", folded=()),
    layer("/layer3/layer3.0/downsample/downsample.0/Conv", 256, 12),
    unjudged("/se/Conv", LayerStatus.TOO_SMALL, reason="8 channels: one outlier reaches at most 2.47 std"),
    unjudged("/gate/Conv", LayerStatus.GATE, 32, reason="its output only scales other channels"),
    unjudged("/fc/Gemm", LayerStatus.NOT_CONVOLUTION, 10, op="Gemm", weight_shape=(10, 128)),
)


def prediction(share: float, output: str = "logits", classes: int = 10) -> Prediction:
    """A loss of that share, foretold by class scores."""
    change = OutputChange(output, "classes", 2 * share, 5 * share, share, classes=classes)
    return Prediction(Loss(share, share / 6, min(3 * share, 1.0)), (change,))


PHOTOGRAPHS = Ordinary("photographs", 144, "0..1", "statistics")


def gauge(share: float = 0.002, **changes: Any) -> Gauge:
    """A loss measured on photographs, within the usual budget; everything that stood out was done."""
    return replace(Gauge(PHOTOGRAPHS, 0.01, "", prediction(share)), **changes)


def careful(**changes: Any) -> Report:
    """A run that kept four channels of six, two of them because nothing reaches them, and raised its caps."""
    layers = (layer("/conv1/Conv", 64, 3, kept=1), layer("/conv2/Conv", 64, 3, kept=3))
    left = gauge(evidence="class 3 stands out", whole=prediction(0.02), caps_asked=prediction(0.3), unreached=2)
    given: dict[str, Any] = {"gauge": left, "options": {"u": 3.0, "bound_activations": 2.5}, **changes}
    return report(layers, **given)


def evaluation() -> EvaluationReport:
    """A backdoor that pruning broke."""
    before, after = Rates(0.916, 1.0, 0.0), Rates(0.912, 0.062, 0.851)
    return EvaluationReport("test.npz", 2000, 1800, before, after)


def change() -> Change:
    """A result that is smaller and faster; what it costs is known."""
    before = Footprint(69, 701_466, 2_812_345, 37_123_456, 0.00321)
    after = Footprint(49, 690_001, 2_799_001, 36_000_000, 0.00300)
    return Change(before, after, {"x": (1, 3, 32, 32)}, 120, 0.925)


def cleanup() -> Cleanup:
    """What a cleaning of every kind took out."""
    return Cleanup("all", 8, 2, {"Dropout": 1, "Identity": 3}, 5, 1, 1)


def sweep() -> Sweep:
    """Four thresholds: a knee, the run's own u, and one that could not be measured."""
    points = (
        SweepPoint(2.0, 1234, 20, prediction(0.4), Rates(0.5, 0.01, 0.5), ""),
        SweepPoint(2.5, 40, 9, prediction(0.02), Rates(0.9, 0.02, 0.9), ""),
        SweepPoint(3.0, 15, 3, prediction(0.002), Rates(0.91, 0.06, 0.9), ""),
        SweepPoint(4.0, 1, 1, None, None, "the runtime said no"),
    )
    return Sweep(points, 4, 2.5)


def compaction(name: str = "/layer1/layer1.0/conv1/Conv") -> Compaction:
    """A layer that lost two channels and kept three, and twelve that lost none."""
    kept = (ChannelsKept((1, 5), "it is constant and not zero where Conv b reads it"), ChannelsKept((7,), "it is tied"))
    rows = [CompactedLayer(name, "", "Conv", 16, (2, 3), kept)]
    rows += [CompactedLayer(f"conv{at}", "", "Conv", 8, (), (ChannelsKept((0,), "it is tied"),)) for at in range(12)]
    return Compaction(2, 15, tuple(rows))


def report(layers: tuple[LayerReport, ...] = LAYERS, **changes: Any) -> Report:
    """A finished run that wrote out.onnx; `changes` replace fields, and the verdict follows."""
    left = AffineLeft("/bn0/BatchNormalization", "", "BatchNormalization", "no linear layer", "nothing before it")
    made = Report(
        tool="onnx-clp 0.1.0",
        libraries={"numpy": "2.4.6", "onnx": "1.23.2"},
        options={"u": 3.0, "bound": "reshaped", "include": [], "shapes": {}},
        input=FileFacts("in.onnx", "0123456789abcdef" * 4, 2_812_345),
        output=FileFacts("out.onnx", "fedcba9876543210" * 4, 2_799_001),
        model=ModelFacts("pytorch 2.13.0", 10, {"": 20}, 701_466, 69, 49),
        summary=summary(layers),
        layers=layers,
        affines_left=(left,),
        caps=Caps(3.0, 2, (CapLeft("conv9", "no statistics"),)),
        findings=(Finding("data-dependent branch", "/If", "the input decides which branch runs"),),
        validation=ValidationReport(
            outcome="validated",
            provider_asked="auto",
            provider_used="CPUExecutionProvider",
            note="",
            tolerance=1e-5,
            fold_error=1.234567e-6,
            discrete_agreement=None,
        ),
        gauge=gauge() if summary(layers).channels_pruned else None,
        evaluation=None,
        seconds={"read": 0.11, "fold": 0.42, "validate": 2.31},
        peak_memory=213_000_000,
    )
    return assess(replace(made, **changes))


def hostile() -> Report:
    """Every text field that a model file can fill holds something nasty."""
    layers = tuple(layer(name, 64, 1 + place % 3, not_folded=name) for place, name in enumerate(HOSTILE))
    layers += tuple(unjudged(name, LayerStatus.UNJUDGEABLE, reason=name) for name in HOSTILE)
    changes = tuple(OutputChange(name, "values", relative=math.nan) for name in HOSTILE)
    return report(
        layers,
        input=FileFacts(HOSTILE[0] + ".onnx", "0" * 64, 1),
        output=FileFacts(HOSTILE[2] + ".onnx", "0" * 64, 1),
        model=ModelFacts(HOSTILE[0], 10, {HOSTILE[2]: 3, HOSTILE[1]: 1}, 1, 1, 1),
        affines_left=tuple(AffineLeft(n, n, n, "reason", n) for n in HOSTILE),
        caps=Caps(3.0, 0, tuple(CapLeft(n, n) for n in HOSTILE)),
        findings=tuple(Finding("kind", n, n) for n in HOSTILE),
        validation=replace(report().validation, note=HOSTILE[4]),
        gauge=gauge(evidence=HOSTILE[2], prediction=Prediction(Loss(0.0, 0.0, 0.01), changes)),
    )


def many_layers(count: int = 200, channels: int = 512) -> Report:
    """A large network: one layer in ten has outliers."""
    layers = tuple(layer(f"/features/block{i:03}/conv/Conv", channels, 3 if i % 10 == 4 else 0) for i in range(count))
    return report(layers, evaluation=evaluation())
