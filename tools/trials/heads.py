"""Measure the head check on model files: which class comes first, how far it stands out, and whether it is flagged.

    python -m tools.trials.heads MODEL.onnx...

Reads weights alone; nothing is run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_clp.config import CleanConfig
from onnx_clp.errors import ClpError
from onnx_clp.judge import head_check
from onnx_clp.modelfile import reader
from onnx_clp.run.analysis import analyse


@dataclass(frozen=True, slots=True)
class Row:
    """One head of one model; a model without a head gives one row that says so.

    Attributes:
        path: the model.
        layer: its last linear layer, "" where none was found.
        classes: how many rows that layer has, 0 without one.
        top: the class with the highest z; -1 where the head was not judged.
        z: that class's z, 0 where the head was not judged.
        limit: a z above it stands out.
        flagged: the classes that stand out, the highest z first.
        trouble: why nothing was judged, "" where it was.
    """

    path: Path
    layer: str
    classes: int
    top: int
    z: float
    limit: float
    flagged: tuple[int, ...]
    trouble: str


def measure(paths: Iterable[Path]) -> list[Row]:
    """The rows of these models, in their order; a file that cannot be read gives a row that says so."""
    return [row for path in paths for row in _rows(path)]


def _rows(path: Path) -> list[Row]:
    try:
        heads = _heads(path)
    except ClpError as error:
        return [_none(path, str(error))]
    rows = [
        Row(
            path=path,
            layer=head.layer,
            classes=head.classes,
            top=head.top,
            z=float(head.z[head.top]) if head.top >= 0 else 0.0,
            limit=head.limit,
            flagged=tuple(head.outlying),
            trouble=head.trouble,
        )
        for head in heads
    ]
    return rows or [_none(path, "no last linear layer that gives class scores")]


def _none(path: Path, trouble: str) -> Row:
    return Row(path, "", 0, -1, 0.0, 0.0, (), trouble)


def _heads(path: Path) -> list[head_check.Head]:
    with reader.read(path, CleanConfig().max_size) as file:
        analysis = analyse(file, CleanConfig(validate=False, prune=False, exclude=("*",)), lambda *_: None)
        return head_check.examined(analysis.index, analysis.places[0].layers)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for every head."""
    parser = argparse.ArgumentParser(prog="python -m tools.trials.heads", description=__doc__.split("\n")[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.onnx")
    for row in measure(parser.parse_args(argv).models):
        said = row.trouble or f"class {row.top:<4} z {row.z:5.2f} of {row.classes:,} (limit {row.limit:.2f})"
        print(f"{row.path.name:<60} {said}{'  stands out' if row.flagged else ''}")


if __name__ == "__main__":
    main()
