"""Looks at a model that change nothing: its scores, or a search for triggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from onnx_clp.config import CleanConfig
from onnx_clp.process.clock import Listener
from onnx_clp.run.pipeline import clean

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.document.run import Report


_CHANGES_NOTHING: Final[Mapping[str, Any]] = {
    "prune": False,
    "compact": False,
    "bound_activations": None,
    "calibrate": None,
    "repair": False,
    "sweep": (),
    "effort": "low",
}
"""What keeps a run from changing the model."""


def score(
    source: Path | str | bytes | bytearray | ModelProto,
    config: CleanConfig | None = None,
    *,
    progress: Listener | None = None,
) -> Report:
    """The verdict, the evidence and every channel's score, without running the model: weights and graph alone.

    Args:
        source: as `clean` takes it.
        config: the options; whatever changes or runs the model is switched off.
        progress: as `clean` takes it.

    Raises:
        ClpError: the class tells why.
    """
    given = config or CleanConfig()
    chosen = replace(
        given,
        **_CHANGES_NOTHING,
        validate=False,
        eval_data=None,
        compare_providers=False,
        latency=False,
        synthesize=False,
        invert=False,
        audit=False,
    )
    with clean(source, chosen, progress=progress) as result:
        return result.report


def search(
    source: Path | str | bytes | bytearray | ModelProto,
    config: CleanConfig | None = None,
    *,
    progress: Listener | None = None,
) -> Report:
    """The report of a search for triggers (`Report.inversion`) besides the scores; it takes minutes.

    Args:
        source: as `clean` takes it; a classifier of images.
        config: the options; whatever changes the model is switched off.
        progress: as `clean` takes it.

    Raises:
        UsageError: the model is no classifier of images, unless `skip_unsearchable` is set.
        ClpError: the class tells why.
    """
    given = config or CleanConfig()
    chosen = replace(given, **_CHANGES_NOTHING, validate=True, invert=True)
    with clean(source, chosen, progress=progress) as result:
        return result.report
