"""ACC, ASR and RA of an ONNX file, computed by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from tools.zoo.datasets import Images, Labels
from tools.zoo.evalset import EvaluationSet

DEFINITIONS = {
    "acc": "share of clean images given their true class",
    "asr": "share of triggered images given the target class, images of which it is the true class left out",
    "ra": "share of triggered images given their true class",
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares in 0..1, as `DEFINITIONS` says; `images` is how many clean images were used."""

    images: int
    acc: float
    asr: float
    ra: float

    @property
    def shares(self) -> tuple[float, float]:
        """ACC and ASR, rounded to 1e-4."""
        return round(self.acc, 4), round(self.asr, 4)

    def as_dict(self) -> dict[str, int | float]:
        """The fields, rounded to 1e-4."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def measure(model: Path | bytes, data: EvaluationSet, *, threads: int = 0) -> Rates:
    """Run both halves of `data` through the model's first output; `threads` 0 lets the runtime choose."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return rates(predict(session, data.x_clean), predict(session, data.x_triggered), data)


def predict(session: onnxruntime.InferenceSession, images: Images, batch: int = 250) -> Labels:
    """The class with the largest logit, int64 (n,), for uint8 images (n, c, h, w)."""
    return np.concatenate([logits.argmax(axis=1) for logits in outputs(session, images, batch)])


def outputs(
    session: onnxruntime.InferenceSession, images: Images, batch: int = 250
) -> Iterator[npt.NDArray[np.float32]]:
    """The first output for uint8 images (n, c, h, w), some of them after the other."""
    name = session.get_inputs()[0].name
    for start in range(0, len(images), batch):
        x = images[start : start + batch].astype(np.float32) / np.float32(255)
        yield session.run(None, {name: x})[0]


def rates(on_clean: Labels, on_triggered: Labels, data: EvaluationSet) -> Rates:
    """The three rates from predicted classes."""
    goal = data.targets
    counted = data.y_clean != goal
    return Rates(
        images=len(on_clean),
        acc=float(np.mean(on_clean == data.y_clean)),
        asr=float(np.mean((on_triggered == goal)[counted])),
        ra=float(np.mean(on_triggered == data.y_clean)),
    )
