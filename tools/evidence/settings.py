"""Every setting that is compared: a rule, and the options of one run of `onnx_clp`.

A *rule* is a way of deciding that is offered as one; its settings differ in numbers only, and `choice` picks
one of them on the choosing half. To compare another rule, add its settings to `TABLE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from onnx_clp.config import CleanConfig

Form = Literal["plain", "folded"]

NONE = "none"
PAPER = "clp u=3"
CAPS = "caps C=3"
BOTH = "clp u=3 + caps C=3"
FIXED = (NONE, PAPER, CAPS, BOTH)
"""Settings that both halves are measured with, whatever is chosen."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One run of the tool. `form` says which of a model's two files it takes: BatchNormalization kept or folded."""

    name: str
    rule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "plain"

    @property
    def config(self) -> CleanConfig:
        """The options as the library takes them; nothing is validated, rates are measured instead."""
        return CleanConfig(validate=False, **self.options)


def _number(value: float) -> str:
    return f"{value:g}"


def _pruning(rule: str, us: Iterable[float], **options: Any) -> list[Setting]:
    return [Setting(f"{rule} u={_number(u)}", rule, {"u": u, **options}) for u in us]


def _caps(form: Form = "plain") -> list[Setting]:
    prefix = "folded file, " if form == "folded" else ""
    return [
        Setting(
            f"{prefix}caps C={_number(times)}",
            f"{prefix}caps",
            {"prune": False, "bound_activations": times},
            form,
        )
        for times in ((3.0,) if form == "folded" else (2.0, 2.5, 3.0, 4.0, 5.0))
    ]


_PAIRS = (
    *((3.0, times) for times in (2.0, 2.5, 3.0, 4.0, 5.0)),
    *((2.5, times) for times in (2.5, 3.0, 4.0)),
    (2.0, 3.0),
)


def _both() -> list[Setting]:
    return [
        Setting(f"clp u={_number(u)} + caps C={_number(times)}", "clp + caps", {"u": u, "bound_activations": times})
        for u, times in _PAIRS
    ]


TABLE: tuple[Setting, ...] = (
    *_pruning("clp", (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)),
    *_pruning("clp exact", (2.0, 2.5, 3.0, 3.5), bound="exact"),
    *_caps(),
    *_both(),
    Setting("folded file, clp u=3", "folded file, clp", {"u": 3.0}, "folded"),
    *_caps("folded"),
)

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in TABLE}


def rules(settings: Iterable[Setting] = TABLE) -> dict[str, tuple[Setting, ...]]:
    """The settings of each rule, in the order of the table."""
    found: dict[str, tuple[Setting, ...]] = {}
    for setting in settings:
        found[setting.rule] = (*found.get(setting.rule, ()), setting)
    return found
