"""Every setting that is compared: a rule, and the options of one run of `onnx_clp`.

A *rule* is a way of deciding that is offered as one; its settings differ in numbers only, and `choice` picks
one of them on the choosing half. To compare another rule, add its settings to `TABLE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from onnx_clp.config import CleanConfig

Form = Literal["plain", "folded"]

NONE = "none"
PAPER = "clp u=3"
CAPS = "caps C=3"
BOTH = "clp u=3 + caps C=3"
FIXED = (NONE, PAPER, CAPS, BOTH)
"""Settings that both halves are measured with, whatever is chosen."""

FOLDED = ("folded file, clp u=3", "folded file, caps C=3")
CALIBRATED = ("calibrated caps C=3", "folded file, calibrated caps C=3")
"""With those of `FOLDED`: nothing to choose among; only the reporting half is measured with them."""


_OPTIONS = {"u": "-u", "rule": "--rule", "bound": "--bound", "bound_activations": "--bound-activations"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One run of the tool.

    `form` says which of a model's two files it takes: BatchNormalization kept or folded. One that is `calibrated`
    is also given a few unlabelled training images (`measuring.CALIBRATION`); all others need no data.
    """

    name: str
    rule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "plain"
    calibrated: bool = False

    def config(self, images: Path | None = None) -> CleanConfig:
        """The options as the library takes them; nothing is validated where it need not be: rates are measured."""
        if self.calibrated:
            return CleanConfig(calibrate=images, provider="cpu", **self.options)
        return CleanConfig(validate=False, **self.options)

    @property
    def command(self) -> str:
        """The options of the command line that do the same."""
        words = [f"{_OPTIONS[key]} {value}" for key, value in self.options.items() if key in _OPTIONS]
        words += ["--calibrate IMAGES.npz"] if self.calibrated else []
        return " ".join([*words, *([] if self.prunes else ["--no-prune"])])

    @property
    def prunes(self) -> bool:
        """Whether it switches channels off; one that does not caps only."""
        return bool(self.options.get("prune", True))


def _pruning(rule: str, us: Iterable[float], /, **options: Any) -> list[Setting]:
    return [Setting(f"{rule} u={u:g}", rule, {"u": u, **options}) for u in us]


def _caps(rule: str, times: Iterable[float], form: Form = "plain", *, calibrated: bool = False) -> list[Setting]:
    return [
        Setting(f"{rule} C={each:g}", rule, {"prune": False, "bound_activations": each}, form, calibrated)
        for each in times
    ]


def _both(pairs: Iterable[tuple[float, float]]) -> list[Setting]:
    return [
        Setting(f"clp u={u:g} + caps C={each:g}", "clp + caps", {"u": u, "bound_activations": each})
        for u, each in pairs
    ]


TABLE: tuple[Setting, ...] = (
    *_pruning("clp", (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)),
    *_pruning("exact", (3.0, 3.5), rule="exact"),
    *_pruning("gain", (2.5, 3.0, 4.0), rule="gain"),
    *_pruning("loo", (3.0, 4.0, 5.0), rule="loo"),
    *_pruning("exact loo", (3.5,), rule="loo", bound="exact"),
    *_pruning("mad", (3.0, 5.0, 8.0), rule="mad"),
    *_pruning("two-sided", (3.0, 4.0), rule="two-sided"),
    *_caps("caps", (2.0, 2.5, 3.0, 4.0, 5.0)),
    *_both([(3.0, 2.5), (3.0, 3.0), (3.0, 4.0), (4.0, 2.5), (4.0, 3.0), (5.0, 2.5), (2.5, 3.0)]),
    *_caps("calibrated caps", (3.0,), calibrated=True),
    Setting("folded file, clp u=3", "folded file, clp", {"u": 3.0}, "folded"),
    *_caps("folded file, caps", (3.0,), "folded"),
    *_caps("folded file, calibrated caps", (3.0,), "folded", calibrated=True),
)

DATA_FREE: tuple[Setting, ...] = tuple(one for one in TABLE if one.form == "plain" and not one.calibrated)
"""The settings among which one is chosen for everything: no data, and the file as it was trained."""

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in TABLE}


def rules(settings: Iterable[Setting] = TABLE) -> dict[str, tuple[Setting, ...]]:
    """The settings of each rule, in the order of the table."""
    found: dict[str, tuple[Setting, ...]] = {}
    for setting in settings:
        found[setting.rule] = (*found.get(setting.rule, ()), setting)
    return found
