"""The report as data: frozen dataclasses, JSON in one call. Every view is made from this document alone."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from onnx_clp.document.changes import Change as Change
from onnx_clp.document.changes import ChannelsKept as ChannelsKept
from onnx_clp.document.changes import Cleanup as Cleanup
from onnx_clp.document.changes import CompactedLayer as CompactedLayer
from onnx_clp.document.changes import Compaction as Compaction
from onnx_clp.document.changes import Footprint as Footprint
from onnx_clp.document.decisions import Decision as Decision
from onnx_clp.document.evidence import Evidence as Evidence
from onnx_clp.document.evidence import Outlook as Outlook
from onnx_clp.document.layers import AffineLeft as AffineLeft
from onnx_clp.document.layers import CapLeft as CapLeft
from onnx_clp.document.layers import CappedValue as CappedValue
from onnx_clp.document.layers import Caps as Caps
from onnx_clp.document.layers import Judgement as Judgement
from onnx_clp.document.layers import LayerReport as LayerReport
from onnx_clp.document.layers import PrunedChannel as PrunedChannel
from onnx_clp.document.validation import EngineFacts as EngineFacts
from onnx_clp.document.validation import EvaluationReport as EvaluationReport
from onnx_clp.document.validation import ProviderComparison as ProviderComparison
from onnx_clp.document.validation import ProviderRun as ProviderRun
from onnx_clp.document.validation import Rates as Rates
from onnx_clp.document.validation import ValidationReport as ValidationReport
from onnx_clp.verdicts import Finding as Finding
from onnx_clp.verdicts import LayerStatus as LayerStatus
from onnx_clp.verdicts import Verdict as Verdict

if TYPE_CHECKING:
    from onnx_clp.document.audit import Audit as Audit
    from onnx_clp.document.audit import DormantLayer as DormantLayer
    from onnx_clp.document.audit import DormantPath as DormantPath
    from onnx_clp.document.audit import PathLayer as PathLayer
    from onnx_clp.document.audit import PathStart as PathStart
    from onnx_clp.document.audit import QuietValue as QuietValue
    from onnx_clp.document.gauge import Gauge as Gauge
    from onnx_clp.document.gauge import Loss as Loss
    from onnx_clp.document.gauge import Ordinary as Ordinary
    from onnx_clp.document.gauge import OutputChange as OutputChange
    from onnx_clp.document.gauge import Prediction as Prediction
    from onnx_clp.document.patches import PatchBound as PatchBound
    from onnx_clp.document.patches import PatchReach as PatchReach
    from onnx_clp.document.search import ChannelChanges as ChannelChanges
    from onnx_clp.document.search import ClassInversion as ClassInversion
    from onnx_clp.document.search import FormFound as FormFound
    from onnx_clp.document.search import Inversion as Inversion
    from onnx_clp.document.search import Picture as Picture
    from onnx_clp.document.search import RepairedLayer as RepairedLayer
    from onnx_clp.document.search import RepairReport as RepairReport
    from onnx_clp.document.search import SearchImages as SearchImages

_HOMES = {
    "Audit": "audit",
    "DormantLayer": "audit",
    "DormantPath": "audit",
    "PathLayer": "audit",
    "PathStart": "audit",
    "QuietValue": "audit",
    "Gauge": "gauge",
    "Loss": "gauge",
    "Ordinary": "gauge",
    "OutputChange": "gauge",
    "Prediction": "gauge",
    "PatchBound": "patches",
    "PatchReach": "patches",
    "ChannelChanges": "search",
    "ClassInversion": "search",
    "FormFound": "search",
    "Inversion": "search",
    "Picture": "search",
    "RepairedLayer": "search",
    "RepairReport": "search",
    "SearchImages": "search",
}
"""What few runs have; loaded where it is used."""

SCHEMA = 2


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A model file: its path as given, SHA-256 and size in bytes (external data counted in `bytes`).

    `data` says that tensors lie in data files, which `sha256` does not cover.
    """

    path: str
    sha256: str
    bytes: int
    data: bool = False


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
    """The verdict, and counts: every channel of every linear layer is judged, too small to judge, or not judged.

    `classes_judged` counts the rows of the last linear layers that were compared.
    """

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
    classes_judged: int = 0


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"onnx_clp.document.{_HOMES[name]}"), name)


def _view(name: str) -> Any:
    """A view of the document; views are made from it and lie above it, so they are reached by name."""
    return import_module(f"onnx_clp.report.{name}")


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything one run found and did.

    `evidence` is what the verdict rests on, the strongest first, and `looked_at` says what was looked at; both are put
    in by `assessment.assess`, together with the verdict.
    """

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
    evidence: tuple[Evidence, ...] = ()
    looked_at: tuple[str, ...] = ()
    outlook: Outlook = field(default_factory=Outlook)
    audit: Audit | None = None
    patch_bound: PatchBound | None = None
    decisions: tuple[Decision, ...] = ()
    schema: int = field(default=SCHEMA)

    def __repr__(self) -> str:
        source = "a model in memory" if self.input is None else self.input.path
        target = "" if self.output is None else f" > {self.output.path}"
        found = f"{len(self.evidence):,} pieces of evidence"
        return f"<Report {self.summary.verdict.value}: {source}{target}, {found}, {len(self.layers):,} layers>"

    def _repr_html_(self) -> str:
        """The verdict, the picture of a trigger and what to do next, for a notebook."""
        return str(_view("notebook").fragment(self))

    def to_html(self) -> str:
        """The report as one standalone page; needs the extra `report`.

        Raises:
            UsageError: the extra is not installed.
        """
        return str(_view("html").render(self))

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row for every channel that was scored; pandas is taken where it is installed.

        Raises:
            UsageError: pandas is not installed.
        """
        return _view("notebook").frame(self)

    def to_attestation(self, form: str) -> str:
        """The report as `in-toto`, `cyclonedx` or `model-card`, for other programs.

        Raises:
            UsageError: there is no such format.
        """
        return str(_view("attestation").render(form, self))

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
