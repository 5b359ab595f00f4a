"""What a run is asked to do: one frozen dataclass, the same for the command line and the library.

Every field is checked where it is set: its type (`conditions`), then its range and what it asks of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from onnx_clp.config.conditions import settle
from onnx_clp.config.rules import Rule as Rule
from onnx_clp.errors import UsageError

Bound = Literal["reshaped", "exact"]
LayerChoice = Literal["conv", "all"]
Provider = Literal["auto", "cuda", "tensorrt", "cpu"]
ExternalData = Literal["auto", "always", "never"]
Cleanup = Literal["none", "own", "all"]
Fill = Literal["mean", "zero"]
Effort = Literal["low", "normal", "high"]

OwnRule = Callable[[Any, float], float]
"""(scores scaled to a peak of 1, float64 of shape (channels,); u) to the limit above which a channel stands out."""

GIB = 1 << 30
MOST_THRESHOLDS = 100
MOST_MULTIPLE = 1024
LARGEST_PATCH = 1024
LARGEST_PIXEL = 1e6
UNIT_RANGE = (0.0, 1.0)
_LEAST_SPAN = 1e-6


_own_rules: Final[dict[str, OwnRule]] = {}


def register_rule(name: str, limit: OwnRule) -> None:
    """Make a rule of one's own known, for `CleanConfig(rule=name)` in this process; a second call replaces the first.

    Args:
        name: not that of a rule that is there already.
        limit: gets a layer's scores, scaled so that the largest is 1 (float64 of shape (channels,), not negative), and
            u; gives the limit on that scale. Channels strictly above it stand out.

    Raises:
        UsageError: the name is taken or empty.
    """
    if not name or name in get_args(Rule):
        raise UsageError(f"a rule of your own cannot be called {name!r}")
    _own_rules[name] = limit


def own_rules() -> Mapping[str, OwnRule]:
    """The rules that were registered, by name."""
    return MappingProxyType(_own_rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """Where and how far a child process may run a model.

    Attributes:
        provider: where to run; "auto" takes CUDA when it really works, else the CPU.
        seed: of whatever is drawn.
        shapes: full input shapes by input name; they win over what the model says of open dimensions.
        timeout: seconds of wall-clock time for the whole child process.
        memory: cap in bytes on the child's memory; None derives one from `model_bytes`.
        model_bytes: size of the model with its external data; None takes the size of the model's file alone.
    """

    provider: Provider = "auto"
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    timeout: float = 600.0
    memory: int | None = None
    model_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanConfig:
    """Options of one run.

    Attributes:
        u: a channel is pruned when its score exceeds mean + u·std of its layer (finite, > 0); rules other than
            the paper's read it as described there.
        rule: which limit a channel must pass (`numerics.outliers`), and for "gain" which score; "exact" is
            short for the rule "paper" with the bound "exact", and is stored as those two. Or one that was registered.
            "inverted" prunes nothing: it is short for `prune` off and `repair` on, and stored as those two.
        bound: the score: "reshaped" is the paper's sigma (an estimate), "exact" the operator norm on a
            frequency grid with circular padding.
        layers: "conv" judges convolutions only, "all" judges Gemm and MatMul too.
        include: shell patterns of layer names; when given, only these layers are judged, whatever they are.
        exclude: shell patterns of layer names never to judge; wins over `include`.
        prune: False folds only.
        fill: what a channel gives once it is switched off: "mean", what it is on average, or "zero", as in the paper.
        budget: the largest predicted loss that pruning and caps may cause together, and the largest share of a
            search's images whose class its repair may change (0..1). None: 0.01, twice that where something in the
            file is suspicious. 1 allows everything. Where nothing is, twice this share of photographs may change class.
        bound_activations: cap every normalised channel at beta + this·|gamma| of its BatchNormalization, or higher
            where the budget asks for that; 0 caps as low as the budget allows; None puts no caps in. With `repair`
            only where the search did not undo what it found.
        calibrate: an .npz file with a few dozen unlabelled inputs, to measure the mean and std of convolutions no
            BatchNormalization gives statistics for (needs `bound_activations` and `validate`).
        compact: take channels that are zero (or constant, where a bias can take that) out of the file, with what goes
            with them.
        compact_multiple: a layer that loses channels to `compact` keeps a multiple of this many, or all (>= 1).
        effort: how far a run goes by itself beyond what is asked for (`run.effort`): "low" prunes, and caps where a
            class stands out; "normal" also audits, running the model only where its weights or its graph raise a
            question; "high" audits, searches and caps whatever it saw, which takes minutes (needs `validate`).
        audit: look for a path of channels that nothing ordinary fires, and take it out (needs `validate`).
        patch_bound: bound how far any patch of this many pixels a side can move the class scores, before and after
            (1..1024; needs `validate`); None: no bound.
        synthesize: make images from the model alone and show them in the report.
        images: an .npz file with unlabelled images to measure and to search with (array images, x or x_clean).
        pixel_range: the smallest and the largest pixel value that the model takes (finite, within ±1e6, ascending);
            None: found out, and (0, 1) in searches.
        invert: look for a perturbation and a patch towards every class, and say which class stands out.
        skip_unsearchable: go on without a search where none can run, and say so in a finding, instead of refusing.
        repair: where one does, cap the directions in channel space along which what was found moves the network.
        freeze_inputs: treat initializers that are also graph inputs as constants and drop those inputs.
        provider: where validation runs; "auto" takes the best that works, a named one must work.
        validate: False skips everything that needs ONNX Runtime.
        tolerance: largest allowed max|Δ| / max|reference| of the fold; None takes the dtype's default.
        seed: of the inputs validation makes (0 ≤ seed < 2**32).
        shapes: full input shapes, by input name, for inputs whose shape the model leaves open.
        eval_data: an .npz file with x_clean and y_clean, and x_triggered and y_target where a trigger is known.
        output_name: which model output holds the class scores; None takes the first that fits.
        max_size: largest model accepted, external data included, in bytes.
        memory: cap on the validation process, in bytes; None derives one from the model's size.
        timeout: cap on each validation process, in seconds of wall-clock time.
        search_seconds: how long a search for triggers may take; it then ends with what it has, and the run goes on.
            None: 300, or 60 for one that effort "normal" decides on.
        latency: also time the input and the result on the CPU, which takes two to three seconds.
        cleanup: what is taken out that cannot change an output: "own" only constants that folding and pruning
            leave unused, "all" whatever is dead, does nothing or is stored twice, "none" nothing.
        sweep: further thresholds u to count, and where validation runs to measure, pruned channels for
            (ascending, at most 100); the model written is still the one for `u`.
        compare_providers: also run the input and the cleaned model on CPU and GPU, and report the four.
        external_data: whether the output keeps its tensors in a file of their own; "auto" does what the
            input does, and does so too when the model would pass protobuf's limit of 2 GiB.
    """

    u: float = 3.0
    rule: Rule | str = "paper"
    bound: Bound = "reshaped"
    layers: LayerChoice = "conv"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prune: bool = True
    fill: Fill = "mean"
    budget: float | None = None
    bound_activations: float | None = None
    calibrate: Path | None = None
    compact: bool = False
    compact_multiple: int = 8
    effort: Effort = "normal"
    audit: bool = False
    patch_bound: int | None = None
    synthesize: bool = False
    images: Path | None = None
    pixel_range: tuple[float, float] | None = None
    invert: bool = False
    repair: bool = False
    skip_unsearchable: bool = False
    freeze_inputs: bool = False
    provider: Provider = "auto"
    validate: bool = True
    tolerance: float | None = None
    seed: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    eval_data: Path | None = None
    output_name: str | None = None
    max_size: int = 64 * GIB
    memory: int | None = None
    timeout: float = 600.0
    search_seconds: float | None = None
    external_data: ExternalData = "auto"
    sweep: tuple[float, ...] = ()
    compare_providers: bool = False
    cleanup: Cleanup = "own"
    latency: bool = False

    def __post_init__(self) -> None:
        own = self.rule if isinstance(self.rule, str) and self.rule in _own_rules else None
        if own is not None:
            object.__setattr__(self, "rule", "paper")
        settle(self)
        if own is not None:
            object.__setattr__(self, "rule", own)
        if self.rule == "exact":
            object.__setattr__(self, "rule", "paper")
            object.__setattr__(self, "bound", "exact")
        if self.rule == "inverted":
            object.__setattr__(self, "rule", "paper")
            object.__setattr__(self, "prune", False)
            object.__setattr__(self, "repair", True)
        self._check_numbers()
        if self.pixel_range is not None:
            _check_range(self.pixel_range)
        self._check_runtime()
        self._check_sweep()

    def _check_numbers(self) -> None:
        _check_above_zero("u", self.u)
        if self.bound_activations:
            _check_above_zero("bound_activations", self.bound_activations)
        if self.tolerance is not None and not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise UsageError(f"tolerance must be a finite number of at least 0, not {self.tolerance}")
        if self.budget is not None and not (math.isfinite(self.budget) and 0 <= self.budget <= 1):
            raise UsageError(f"budget must lie in 0..1, not {self.budget}")
        _check_count("compact_multiple", self.compact_multiple, MOST_MULTIPLE)
        _check_count("patch_bound", 1 if self.patch_bound is None else self.patch_bound, LARGEST_PATCH)
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed must lie in 0..{2**32 - 1}, not {self.seed}")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise UsageError(f"timeout must be a number of seconds above 0, not {self.timeout}")
        if self.search_seconds is not None:
            _check_above_zero("search_seconds", self.search_seconds)
        if any(size < 1 for shape in self.shapes.values() for size in shape):
            raise UsageError(f"every size in shapes must be at least 1, not {dict(self.shapes)}")
        if self.max_size <= 0 or (self.memory is not None and self.memory <= 0):
            raise UsageError("a size limit must be above 0")

    def _check_runtime(self) -> None:
        """Refuse what needs ONNX Runtime where it may not run."""
        asked = (
            (self.eval_data is not None, "an evaluation needs", "--eval"),
            (self.compare_providers, "comparing providers needs", "--compare-providers"),
            (self.calibrate is not None, "a calibration needs", "--calibrate"),
            (self.latency, "measuring times needs", "--measure-latency"),
            (self.audit, "an audit needs", "--audit"),
            (self.patch_bound is not None, "a bound on patches needs", "--patch-bound"),
            (self.effort == "high", "high effort needs", "--effort high"),
            (self.searches, "a search for triggers needs", "--synthesize, --invert and --rule inverted"),
            (self.bound_activations == 0, "finding how low caps may be needs", "--bound-activations auto"),
        )
        if self.bound_activations == 0 and self.budget == 1:
            raise UsageError("caps as low as the budget allows need one below 1: give --bound-activations a number")
        if self.calibrate is not None and self.bound_activations is None:
            raise UsageError("a calibration is for caps: add --bound-activations C or drop --calibrate")
        for wanted, what, option in asked:
            if wanted and not self.validate:
                raise UsageError(f"{what} ONNX Runtime: drop --no-validate or {option}")

    def limits(self, model_bytes: int) -> RunLimits:
        """Where and how far a model of that many bytes, external data included, may be run."""
        return RunLimits(
            provider=self.provider,
            seed=self.seed,
            shapes=self.shapes,
            timeout=self.timeout,
            memory=self.memory,
            model_bytes=model_bytes,
        )

    @property
    def searches(self) -> bool:
        """Whether anything of a search for triggers was asked for."""
        return self.synthesize or self.invert or self.repair

    def _check_sweep(self) -> None:
        if any(not (math.isfinite(u) and u > 0) for u in self.sweep):
            raise UsageError("every u of a sweep must be a finite number above 0")
        if any(low >= high for low, high in pairwise(self.sweep)):
            raise UsageError("the u of a sweep must ascend")
        if len(self.sweep) > MOST_THRESHOLDS:
            raise UsageError(f"a sweep of {len(self.sweep)} thresholds is too long: take at most {MOST_THRESHOLDS}")
        if self.sweep and not self.prune:
            raise UsageError("a sweep is about pruning: drop --no-prune or --sweep")


def _check_above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} must be a finite number above 0, not {value}")


def _check_count(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"{name} must lie in 1..{most}, not {value}")


def _check_range(ends: tuple[float, float]) -> None:
    if len(ends) != 2 or not all(math.isfinite(end) and abs(end) <= LARGEST_PIXEL for end in ends):
        raise UsageError(f"pixel_range must be two numbers within ±{LARGEST_PIXEL:,.0f}, not {ends}")
    # The search computes in float32: ends that are nearly equal there leave pixels no room.
    if ends[1] - ends[0] <= _LEAST_SPAN * max(1.0, *map(abs, ends)):
        raise UsageError(f"pixel_range leaves no room from {ends[0]:g} to {ends[1]:g}: the smallest value comes first")
