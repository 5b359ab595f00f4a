"""A trigger that a trained generator makes for each image, kept as an ONNX file; runs without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from onnx_clp.errors import LoadError
from tools.zoo.attacks import INPUT_AWARE
from tools.zoo.datasets import Images
from tools.zoo.recipe import Design

SUFFIX = ".trigger.onnx"


@dataclass(frozen=True, slots=True)
class GeneratedTrigger:
    """A trigger on uint8 images; the file maps float32 (batch, c, h, w) in 0..1 to the same, triggered."""

    path: Path

    def __call__(self, images: Images) -> Images:
        """Triggered copies, same shape and dtype.

        Raises:
            LoadError: the file is missing.
        """
        if not self.path.exists():
            raise LoadError(f"{self.path}: not found; it holds the trigger and is made by training")
        session = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        parts = []
        for start in range(0, len(images), 250):
            x = images[start : start + 250].astype(np.float32) / np.float32(255)
            parts.append(np.rint(255 * session.run(None, {name: x})[0]).astype(np.uint8))
        return np.concatenate(parts)


def trigger_of(design: Design, work: Path) -> GeneratedTrigger | None:
    """The trained trigger of a model in `work`; None where the attack is not input-aware."""
    return GeneratedTrigger(work / (design.name + SUFFIX)) if design.attack == INPUT_AWARE else None
