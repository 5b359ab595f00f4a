"""The report as data: frozen dataclasses, JSON in one call. Every view is made from this document alone."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_clp.document.audit import Audit as Audit
from onnx_clp.document.audit import DormantLayer as DormantLayer
from onnx_clp.document.audit import DormantPath as DormantPath
from onnx_clp.document.audit import PathLayer as PathLayer
from onnx_clp.document.audit import QuietValue as QuietValue
from onnx_clp.document.changes import Change as Change
from onnx_clp.document.changes import ChannelsKept as ChannelsKept
from onnx_clp.document.changes import Cleanup as Cleanup
from onnx_clp.document.changes import CompactedLayer as CompactedLayer
from onnx_clp.document.changes import Compaction as Compaction
from onnx_clp.document.changes import Footprint as Footprint
from onnx_clp.document.gauge import Gauge as Gauge
from onnx_clp.document.gauge import Loss as Loss
from onnx_clp.document.gauge import Ordinary as Ordinary
from onnx_clp.document.gauge import OutputChange as OutputChange
from onnx_clp.document.gauge import Prediction as Prediction
from onnx_clp.document.search import ChannelChanges as ChannelChanges
from onnx_clp.document.search import ClassInversion as ClassInversion
from onnx_clp.document.search import FormFound as FormFound
from onnx_clp.document.search import Inversion as Inversion
from onnx_clp.document.search import Picture as Picture
from onnx_clp.document.search import RepairedLayer as RepairedLayer
from onnx_clp.document.search import RepairReport as RepairReport
from onnx_clp.document.search import SearchImages as SearchImages
from onnx_clp.document.search import ValueLeft as ValueLeft
from onnx_clp.document.validation import EngineFacts as EngineFacts
from onnx_clp.document.validation import EvaluationReport as EvaluationReport
from onnx_clp.document.validation import ProviderComparison as ProviderComparison
from onnx_clp.document.validation import ProviderRun as ProviderRun
from onnx_clp.document.validation import Rates as Rates
from onnx_clp.document.validation import ValidationReport as ValidationReport
from onnx_clp.verdicts import Finding as Finding
from onnx_clp.verdicts import LayerStatus as LayerStatus

SCHEMA = 2


class Verdict(enum.StrEnum):
    """The one-word outcome; there is no "clean", because no weight-only score can say that."""

    STOOD_OUT = "stood out"
    NOTHING_STOOD_OUT = "nothing stood out"
    COULD_NOT_JUDGE = "could not judge"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A model file: its path as given, SHA-256 and size in bytes (external data counted in `bytes`)."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the model says of itself, and its size before and after."""

    producer: str
    ir_version: int
    opsets: Mapping[str, int]
    parameters: int
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True, slots=True)
class PrunedChannel:
    """A channel that stands out: `z` is its distance by the rule (the paper's: stds from the mean), `rank` 1 the top.

    A negative z lies below the lower limit, which only the rule "two-sided" has. `fill` is what the channel gives once
    it is switched off; None where it was not. `kept`: pruning was asked for and it stays, as the gauge asks for that.
    """

    channel: int
    score: float
    upper_bound: float
    z: float
    rank: int
    fill: float | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of one layer seen through one normalisation (None: none is visible).

    `scores[c]` is channel c's UCLC stand-in (times how strongly it is read, by the rule "gain"); `upper_bounds[c]` a
    true bound of its l2 gain. `mean` and `std` are those of the scores; `centre` and `spread` are what `rule` measures
    from and in: mean and std, or the median and 1.4826 times the median absolute deviation. Scores above `threshold`
    stand out, and those below `lower` where that is not None. `max_z` is the largest z, by its size for those below.
    `pruned` are the channels that stand out, those included that stay.
    """

    normalisation: str | None
    n: int
    mean: float
    std: float
    threshold: float
    scores: tuple[float, ...]
    upper_bounds: tuple[float, ...]
    pruned: tuple[PrunedChannel, ...]
    rule: str
    centre: float
    spread: float
    lower: float | None
    max_z: float


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One linear layer: `folded` names the affines folded into it, `not_folded` says why others were not."""

    name: str
    place: str
    op: str
    weight_shape: tuple[int, ...]
    channels: int
    status: LayerStatus
    reason: str
    folded: tuple[str, ...]
    not_folded: str
    judgements: tuple[Judgement, ...]

    @property
    def pruned(self) -> tuple[int, ...]:
        """Channels that stand out under any of the layer's normalisations, ascending."""
        return tuple(sorted({p.channel for j in self.judgements for p in j.pruned}))

    @property
    def kept(self) -> tuple[int, ...]:
        """Those of them that stay because the budget does not allow for them, ascending."""
        return tuple(sorted({p.channel for j in self.judgements for p in j.pruned if p.kept}))

    @property
    def max_z(self) -> float:
        """The largest distance by the rule, such as stds above the mean; 0 where nothing was judged or all equal."""
        return max((judgement.max_z for judgement in self.judgements), default=0.0)


@dataclass(frozen=True, slots=True)
class AffineLeft:
    """A normalisation or channel affine that stayed in the graph, and why (`reason` is a SkipReason)."""

    name: str
    place: str
    op: str
    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class CapLeft:
    """A value or layer that got no cap, and why."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class CappedValue:
    """A value that got a cap; `source` is "normalisation" or "calibration (n inputs)"."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Caps:
    """Caps at mean + `times`·std: how many values got one, which and on whose word, and what got none.

    Where a BatchNormalization tells, the mean is beta and the std |gamma|.
    """

    times: float
    capped: int
    left: tuple[CapLeft, ...]
    values: tuple[CappedValue, ...] = ()


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What the threshold `u` prunes without a budget: channels, and in how many layers; what the model would be like.

    `prediction` is what it is predicted to cost, `rates` what was measured of it.

    `failure` says why that model could not be measured; it is empty otherwise.
    """

    u: float
    channels: int
    layers: int
    prediction: Prediction | None
    rates: Rates | None
    failure: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Pruning at several thresholds, ascending: `distinct` counts the different sets of channels among them.

    `knee` is the u whose count lies farthest below the straight line from the first point to the last, both axes
    scaled to 0..1; None where no point lies below it.
    """

    points: tuple[SweepPoint, ...]
    distinct: int
    knee: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Channel counts: every channel of every linear layer is judged, too small to judge, or not judged."""

    verdict: Verdict
    layers: int
    layers_judged: int
    channels_pruned: int
    channels_judged: int
    channels_too_small: int
    channels_not_judged: int
    affines_folded: int
    affines_left: int
    channels_kept: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run found and did."""

    tool: str
    libraries: Mapping[str, str]
    options: Mapping[str, Any]
    input: FileFacts | None
    output: FileFacts | None
    model: ModelFacts
    summary: Summary
    layers: tuple[LayerReport, ...]
    affines_left: tuple[AffineLeft, ...]
    caps: Caps | None
    findings: tuple[Finding, ...]
    validation: ValidationReport
    evaluation: EvaluationReport | None
    seconds: Mapping[str, float]
    peak_memory: int | None
    sweep: Sweep | None = None
    compaction: Compaction | None = None
    cleanup: Cleanup | None = None
    change: Change | None = None
    inversion: Inversion | None = None
    gauge: Gauge | None = None
    audit: Audit | None = None
    schema: int = field(default=SCHEMA)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; non-finite floats become None, as JSON has none."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return {"schema": plain.pop("schema"), **plain}

    def to_json(self) -> str:
        """The document as JSON text, two-space indented, ASCII only, ending in a newline."""
        import json

        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
