"""Proof that the rewritten model still does what it should, made in a process of its own.

Importing this package imports neither ONNX Runtime nor onnx: both live in the child. The names are loaded on
first use, so that the child does not import the parent's side.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_clp.validation.child import calibrate as calibrate
    from onnx_clp.validation.child import validate as validate
    from onnx_clp.validation.request import Calibration as Calibration
    from onnx_clp.validation.request import Candidate as Candidate
    from onnx_clp.validation.request import Outcome as Outcome
    from onnx_clp.validation.request import Request as Request

_HOMES = {
    "calibrate": "child",
    "validate": "child",
    "Calibration": "request",
    "Candidate": "request",
    "Outcome": "request",
    "Request": "request",
}

__all__ = ["Calibration", "Candidate", "Outcome", "Request", "calibrate", "validate"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
