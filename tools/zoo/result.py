"""What training one model gave: its design, its files and its measured rates, one JSON object per line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnx_clp.errors import LoadError
from tools.zoo.recipe import Design, Recipe

UNFOLDED, FOLDED = ".onnx", ".folded.onnx"
LOG = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """One trained model.

    `poisoned` counts training images (of an attack on batches: per epoch). `rates`, shares in 0..1, are the
    un-folded file's on the whole test split.
    """

    design: Design
    poisoned: int
    seconds: float
    device: str
    versions: dict[str, str]
    rates: dict[str, float]

    @property
    def name(self) -> str:
        """The stem of the files it was exported to."""
        return self.design.name

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON; `of_dict` is the way back."""
        return {"name": self.name, **asdict(self)}

    @classmethod
    def of_dict(cls, fields: dict[str, Any]) -> Result:
        """The result that `as_dict` described."""
        design = dict(fields["design"])
        design["recipe"] = Recipe(**design["recipe"])
        rest = {key: fields[key] for key in ("poisoned", "seconds", "device", "versions", "rates")}
        return cls(design=Design(**design), **rest)


def append(folder: Path, result: Result) -> None:
    """Add a line to the folder's log."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(result.as_dict()) + "\n")


def read(folder: Path) -> list[Result]:
    """All results of a folder, oldest first; none if it has no log.

    Raises:
        LoadError: a line is not a result.
    """
    path = folder / LOG
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return [Result.of_dict(json.loads(line)) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{path}: a line is not a result ({error}); remove it and train again") from error
