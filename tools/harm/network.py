"""What is known of a network of the bench: where its weights come from, what it takes and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CORPUS = "corpus"
"""Registry of files that lie in a folder named on the command line: exported weights, not one package's file."""


class Kind(StrEnum):
    """What the first output means, and so what agreement before and after is."""

    CLASSIFIER = "classifier"
    RECOGNISER = "recogniser"
    DETECTOR = "detector"
    EMBEDDER = "embedder"
    SEGMENTATION = "segmentation"
    REGRESSOR = "regressor"


class Scores(StrEnum):
    """What a classifier's or a detector's scores are before they are read as probabilities."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    INDEPENDENT = "independent"
    """A probability for each class of its own (sigmoid)."""


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned package of a registry (`pypi`, `npm` or `CORPUS`)."""

    registry: str
    name: str
    version: str
    licence: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


@dataclass(frozen=True, slots=True)
class Network:
    """One network; `maker` names how `member` of `package` becomes ONNX, `inputs` how its inputs are made.

    `form` is what is done to the made file: nothing, `fp16`, `qdq` or `qoperator`; `base` then names the network it
    comes from, whose inputs it shares. `detection` names how boxes are read (`detections`); `blank` is a
    recogniser's class for nothing, `ignored` are classes that no reading counts (spaces). `output` is the output
    compared by kind, the first if empty.
    """

    name: str
    kind: Kind
    package: Package
    member: str
    inputs: str
    takes: str
    gives: str
    maker: str = "copy"
    scores: Scores = Scores.LOGITS
    labelled: bool = False
    output: str = ""
    detection: str = ""
    blank: int = 0
    ignored: tuple[int, ...] = ()
    form: str = ""
    base: str = ""
