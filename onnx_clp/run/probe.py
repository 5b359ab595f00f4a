"""From a run's options to a probe: the folded model staged, run on the user's inputs in a child process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.errors import UsageError
from onnx_clp.text import shown_path

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.config import CleanConfig
    from onnx_clp.document.readings import Readings
    from onnx_clp.modelfile.reader import ModelFile

_NAME = "calibration.onnx"


def probe(
    file: ModelFile, source: Path | None, config: CleanConfig
) -> Callable[[ModelProto, Mapping[str, int]], Readings] | None:
    """What measures values of a model made from `file` on `config.calibrate`; None where that was not asked for.

    It raises NotValidated where the model does not run, and UsageError where the data does not fit it.

    Raises:
        UsageError: there is no such file; that counts even where nothing is to be measured.
    """
    data = config.calibrate
    if data is None:
        return None
    if not data.is_file():
        trouble = "is not a file" if data.exists() else "does not exist"
        raise UsageError(f"--calibrate {shown_path(data)}: {trouble}")

    def measure(model: ModelProto, values: Mapping[str, int]) -> Readings:
        """What the user's inputs give at those values, channels on the axis beside each, in a child process."""
        from onnx_clp.modelfile.staging import scratch, staging
        from onnx_clp.validation import Calibration, calibrate

        with scratch() as folder, staging(folder / _NAME) as stage:
            staged = stage(file, model, config.external_data).checkable()
            return calibrate(
                Calibration(
                    original=source or staged,
                    model=staged,
                    data=data,
                    values=values,
                    limits=config.limits(file.size),
                )
            )

    return measure
