"""Measured rates as JSON lines: one line a model and run, holding every setting that was measured then.

    {"model": NAME, "images": 2000, "rates": {SETTING: {"acc": …, "asr": …, "ra": …, "pruned": …, …}, …}}

A later line wins over an earlier one, setting by setting. A run that was cut off loses one model at most.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnx_clp.errors import LoadError

LOG = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Rates:
    """One model under one setting: ACC, ASR and RA as shares in 0..1, on `images` clean and as many triggered.

    `pruned` and `capped` count channels and normalisations; `verdict` is the report's, "" where the tool did not run.
    `caps` are times the std at which it capped, `foretold` the upper end of the loss that it foretold; None for none.
    """

    images: int
    acc: float
    asr: float
    ra: float
    pruned: int = 0
    capped: int = 0
    verdict: str = ""
    caps: float | None = None
    foretold: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """All but `images` and what is 0 or empty by default, rates rounded to 1e-4."""
        fields = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        del fields["images"]
        return {key: value for key, value in fields.items() if value or isinstance(value, float)}


Found = dict[str, dict[str, Rates]]
"""Rates by model, then by setting."""


def note(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a log, and make its folder if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def by_name(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of a log by their `name`, in the order in which names came; of one name put together, run by run."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines(path):
        before = found.get(line["name"], {})
        found[line["name"]] = {**before, **line, "runs": {**before.get("runs", {}), **line["runs"]}}
    return found


def append(folder: Path, model: str, rates: Mapping[str, Rates]) -> None:
    """Add a line for what was measured of one model; nothing measured adds none. All must have the same images."""
    if not rates:
        return
    images = {one.images for one in rates.values()}
    assert len(images) == 1, "one line, one number of images"
    line = {"model": model, "images": images.pop(), "rates": {name: one.as_dict() for name, one in rates.items()}}
    note(folder / LOG, line)


def read(folder: Path) -> Found:
    """Everything noted in a folder; nothing if it has no log.

    Raises:
        LoadError: a line is not such a record.
    """
    found: Found = {}
    for fields in lines(folder / LOG):
        try:
            of_model = found.setdefault(fields["model"], {})
            for name, rates in fields["rates"].items():
                of_model[name] = Rates(images=fields["images"], **rates)
        except (KeyError, TypeError, AttributeError) as error:
            raise LoadError(
                f"{folder / LOG}: a line is not a record ({error!r}); remove it and measure again"
            ) from error
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; none if it does not exist.

    Raises:
        LoadError: a line is no JSON object.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise LoadError(f"{path}: line {number} is not JSON ({error}); remove it and measure again") from error
        if not isinstance(fields, dict):
            raise LoadError(f"{path}: line {number} is not an object; remove it and measure again")
        found.append(fields)
    return found


def write(path: Path, objects: list[dict[str, Any]]) -> None:
    """Replace a JSON-lines file."""
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
