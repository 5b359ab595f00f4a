"""From a run's options to a measurement: the model with dials staged, and measured in a child process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.process.clock import Clock

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnx_clp.config import CleanConfig
    from onnx_clp.gauge.request import Controls, Dosed, Wish
    from onnx_clp.modelfile.reader import ModelFile
    from onnx_clp.run.dose import Measure

_NAME = "dials.onnx"


def gauge(file: ModelFile, source: Path | None, config: CleanConfig, clock: Clock) -> Measure | None:
    """What measures doses of models made from `file`; None where nothing may run.

    It raises NotValidated where the model does not run, and UsageError where the user's images do not fit it.
    """
    if not config.validate:
        return None

    def measure(model: ModelProto, controls: Controls, wish: Wish) -> Dosed:
        """The doses of one model with dials, in a child process."""
        from onnx_clp.gauge.child import dose
        from onnx_clp.gauge.request import DoseRequest
        from onnx_clp.modelfile.staging import scratch, staging

        with clock.stage("gauge"), scratch() as folder, staging(folder / _NAME) as stage:
            staged = stage(file, model, config.external_data).checkable()
            return dose(
                DoseRequest(
                    original=source or staged,
                    model=staged,
                    controls=controls,
                    wish=wish,
                    images=config.images,
                    pixels=config.pixel_range,
                    limits=config.limits(file.size),
                ),
                clock.tick,
            )

    return measure
