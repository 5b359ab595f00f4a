"""What ONNX Runtime's commonest refusals of an input model mean, and what to do about them."""

from __future__ import annotations

import re

from onnx_clp.validation.session import RunError

_IR = re.compile(r"IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)")
_UNKNOWN = re.compile(r"(\S+?)\(-?\d+\) is not a registered function/op|No Op registered for (\S+)")
_WAY_OUT = "or go without a proof with --no-validate"


def refusal(failure: RunError, version: str) -> str:
    """One sentence for an input model that ONNX Runtime `version` does not run."""
    text, runtime = failure.details, f"ONNX Runtime {version}"
    if ir := _IR.search(text):
        limit = f"{runtime} loads at most IR version {ir[2]}, the file has {ir[1]}"
        return f"not validated because {limit}; install a newer one, {_WAY_OUT}"
    if opset := _OPSET.search(text):
        limit = f"{runtime} loads at most opset {opset[3]} of {opset[2]}, the file has {opset[1]}"
        return f"not validated because {limit}; install a newer one, {_WAY_OUT}"
    if unknown := _UNKNOWN.search(text):
        return f"not validated because {runtime} has no operator {unknown[1] or unknown[2]}; go {_WAY_OUT[3:]}"
    return (
        f"not validated because {runtime} does not run the input model ({failure}); if that is about sizes, "
        f"say them with --shape, {_WAY_OUT}"
    )
