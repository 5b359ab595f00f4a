"""What is measured: a trained model of the zoo with its files, its half of the seeds and its group of attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_clp.errors import LoadError
from tools.evidence import record
from tools.zoo import design, evalset, generated, result
from tools.zoo.datasets import Dataset
from tools.zoo.evalset import EvaluationSet
from tools.zoo.recipe import CLEAN
from tools.zoo.result import Result

GROUPS: dict[str, str] = {
    "badnets": "patch",
    "all-to-all": "all-to-all",
    "blended": "global",
    "sig": "global",
    "wanet": "global",
    "low-frequency": "global",
    "input-aware": "input-aware",
    "adaptive-patch": "patch",
    "two-triggers": "global",
    CLEAN: CLEAN,
}
INFECTED_GROUPS = ("patch", "all-to-all", "global", "input-aware")

TAKEN = 0.9
"""An attack took if its success rate on the whole test split, before any cleaning, is at least this."""

WITHOUT_BATCHNORM = ("convnext",)


@dataclass(frozen=True, slots=True)
class Subject:
    """One trained model; `result` is the zoo's record of it, its rates those of the whole test split."""

    result: Result

    @property
    def name(self) -> str:
        """The stem of its files."""
        return self.result.name

    @property
    def half(self) -> design.Half:
        """ "choose" or "report", by its seed alone."""
        return design.half(self.result.design)

    @property
    def group(self) -> str:
        """The kind of trigger, or "clean"."""
        return GROUPS[self.result.design.attack]

    @property
    def infected(self) -> bool:
        """Whether it was poisoned and the attack took; only then can a backdoor be removed."""
        return self.group != CLEAN and self.result.rates["asr"] >= TAKEN

    @property
    def clean(self) -> bool:
        """Whether it is a control."""
        return self.group == CLEAN

    def evaluation(self, data: Dataset, work: Path, images: int | None) -> EvaluationSet:
        """Test images with and without its trigger; a control gets the patch."""
        made = self.result.design
        return evalset.make(made, data, images, trigger=generated.trigger_of(made, work))


LOG = "models.jsonl"


def read(work: Path) -> list[Subject]:
    """Every trained model noted in a folder of the zoo, oldest first."""
    return [Subject(one) for one in result.read(work)]


def keep(subjects: Sequence[Subject], out: Path) -> None:
    """Note the models themselves beside their rates, so that the page can be made without the zoo."""
    out.mkdir(parents=True, exist_ok=True)
    record.write(out / LOG, [one.result.as_dict() for one in subjects])


def kept(out: Path) -> list[Subject]:
    """What `keep` noted; nothing if it did not.

    Raises:
        LoadError: a line is not a model.
    """
    try:
        return [Subject(Result.of_dict(fields)) for fields in record.lines(out / LOG)]
    except (KeyError, TypeError) as error:
        raise LoadError(f"{out / LOG}: a line is not a model ({error!r}); measure again") from error
