"""Every error the package raises on purpose.

    ClpError                      base: catch this one to catch them all
    ├── LoadError                 the input cannot be read, or is refused before it is understood
    │   └── InvalidModelError     it is ONNX, but breaks the ONNX specification
    ├── UnsupportedModelError     valid ONNX that this tool cannot process
    ├── UsageError                an option, a shape or a data file does not fit the model
    ├── ValidationFailed          the rewritten model does not do what the input does
    ├── NotValidated              the rewrite could not be checked, so it was not written
    ├── Interrupted               a signal asked the run to stop
    └── SaveError                 the output cannot be written

A channel or a layer that cannot be judged, and an affine that cannot be folded, are not errors: they are
`Skipped` values in the report. An error always means that no output was written.
"""

from __future__ import annotations

from typing import Final

EXIT_CODES: Final[tuple[tuple[str, str], ...]] = (
    ("0", "done"),
    ("1", "a gate that was asked for tripped (--fail-on); output and reports are written"),
    ("2", "usage, or a file that cannot be read or written, or is refused"),
    ("3", "validation found that the rewritten model does not compute what it should"),
    ("4", "the rewritten model could not be validated"),
    ("5", "internal error: please report it"),
    ("129, 130, 143", "stopped by a signal: hang-up, interrupt (Ctrl-C), termination"),
)
"""What the command's exit status means; for all but 0 and 1 nothing was written."""

GATE_TRIPPED: Final = 1
INTERNAL_ERROR: Final = 5


class ClpError(Exception):
    """Base of the package's errors; its text is one line: the file, the cause and what to do."""

    exit_code = 2


class LoadError(ClpError):
    """The input cannot be read, or is refused before it is understood."""


class InvalidModelError(LoadError):
    """The input is an ONNX file that breaks the ONNX specification."""


class UnsupportedModelError(ClpError):
    """The input is valid, but of a kind this tool cannot process."""


class UsageError(ClpError):
    """An option, a shape or a data file does not fit."""


class SaveError(ClpError):
    """The output cannot be written; nothing of it was left behind."""


class ValidationFailed(ClpError):
    """The rewritten model does not compute what it should; it was not written."""

    exit_code = 3


class NotValidated(ClpError):
    """The rewritten model could not be checked; it was not written."""

    exit_code = 4


class Interrupted(ClpError):
    """A signal asked the run to stop; nothing was written.

    `signal_number` is the signal's number; the exit code is 128 plus it, as shells have it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted; nothing was written")
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
