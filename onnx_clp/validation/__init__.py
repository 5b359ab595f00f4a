"""Proof that the rewritten model still does what it should, made in a process of its own.

Importing this package imports neither ONNX Runtime nor onnx: both live in the child.
"""

from __future__ import annotations

from onnx_clp.validation.child import validate
from onnx_clp.validation.request import Candidate, Outcome, Request

__all__ = ["Candidate", "Outcome", "Request", "validate"]
