"""onnx.checker on what will be written: only errors that the input does not already have count."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from onnx_clp.errors import ValidationFailed
from onnx_clp.text import quoted
from onnx_clp.validation.mapping import map_weights
from onnx_clp.verdicts import Finding


def check_written(original: Path, written: Path) -> tuple[Finding, ...]:
    """Check `written`: without its weights, which the check does not look into, and by its path if that finds fault.

    Returns:
        A finding when `original` already fails the check that `written` fails, else nothing.

    Raises:
        ValidationFailed: `written` fails a check that `original` passes.
    """
    if _passes_without_weights(written) or not complaint(written, full=True):
        return ()
    findings: list[Finding] = []
    for full, name in ((False, "check"), (True, "full check")):
        error = complaint(written, full)
        if not error or findings:
            continue
        before = complaint(original, full)
        if not before:
            raise ValidationFailed(
                f"{quoted(original)}: the rewritten model fails onnx's {name}, which the input "
                f"passes ({error}); please report this, with the model if you can"
            )
        findings.append(Finding("checker", "model", f"the input as it came fails onnx's {name}: {before}"))
    return tuple(findings)


def _passes_without_weights(path: Path) -> bool:
    """Whether the model passes the full check with its large initializers left in the file as external data.

    What that leaves out is whether each holds as many bytes as its shape asks for; ONNX Runtime refuses it if not.
    """
    from onnx import checker

    try:
        light = map_weights(path)
        if light is None:
            return False
        with contextlib.chdir(light.folder):  # external data is looked for in the current folder
            checker.check_model(light.model, full_check=True)
    except MemoryError:
        raise
    except Exception:
        return False
    return True


def complaint(path: Path, full: bool) -> str:
    """What onnx.checker says against the file, on one line; empty when it passes."""
    from onnx import checker

    try:
        checker.check_model(os.fspath(path), full_check=full)
    except MemoryError:
        raise
    except Exception as error:
        return quoted(error) or type(error).__name__
    return ""
