"""The parts of the document that the verdict rests on, and what else could be done with the file."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_clp.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence.

    Attributes:
        kind: a key of `assessment.TABLE`, or the kind of a finding that has no row there.
        verdict: what it gives by itself, `suspicious` or `unusual`.
        where: the layer, node or value that it lies in; "" for the whole model.
        sentence: what it is.
        target: the class that it names; None where it names none.
    """

    kind: str
    verdict: Verdict
    where: str
    sentence: str
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What further steps would find in the file as it came.

    Attributes:
        cappable: values whose statistics tell where a cap would go.
        unsearchable: why no search for triggers can run on it; "" where one can.
        folded: layers whose bias is named as this tool names one that it adds when it folds a normalisation.
        capped: caps that are named as this tool names them.
    """

    cappable: int = 0
    unsearchable: str = ""
    folded: int = 0
    capped: int = 0
