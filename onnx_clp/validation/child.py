"""The parent's side of a validation and of a calibration: each runs in a child process."""

from __future__ import annotations

from onnx_clp.document.readings import Readings
from onnx_clp.process.child import ask
from onnx_clp.validation.request import CALIBRATION, VALIDATION, Calibration, Outcome, Request


def validate(request: Request) -> Outcome:
    """Prove `request`'s models in a child process.

    Returns:
        What was proven and measured.

    Raises:
        ValidationFailed: folding changed the outputs, pruning changed their shape or type or made them
            non-finite, or the result breaks the ONNX specification where the input does not.
        NotValidated: time or memory ran out, the child crashed, or nothing here can run the input model.
        UsageError: the provider, a shape, the output's name or the evaluation file does not fit.
    """
    return ask(VALIDATION, request)


def calibrate(request: Calibration) -> Readings:
    """Run `request`'s model on the user's inputs in a child process, and measure the values it names.

    Raises:
        NotValidated: time or memory ran out, the child crashed, or nothing here can run the model.
        UsageError: the provider does not work, or the file with inputs does not fit.
    """
    return ask(CALIBRATION, request)
