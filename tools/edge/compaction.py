"""The table of `docs/edge.md`: what cleaning leaves to ship, per model, threshold and way.

    python -m tools.edge.compaction [--corpus FOLDER] [--multiples 8,1] [--only NAME] [--quick] [--blocks] > table.md

Every row is one validated run with `--cleanup all --measure-latency`, so that every model in the table has been proven
against its input: once with the channels set to zero, and once with `--compact` for each multiple. The control measures
a file against itself in the same way: as far as it is off 1, a ratio may be. `--quick` takes one model of the zoo and
MobileNetV2, at one threshold. `--blocks` makes the other table, on which the default of `--compact-multiple` rests: the
time of each compacted model against the one with its channels set to zero, two at a time in turns.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from onnx_clp import CleanConfig
from onnx_clp.document.run import Change, Report
from onnx_clp.report.sizing import large, milliseconds
from onnx_clp.report.wording import size
from onnx_clp.run.pipeline import run
from onnx_clp.validation import latency
from tools.edge.models import resnet50, yolo

MODELS = Path(__file__).parents[2] / "models"
ZOO = ("resnet18_badnets", "resnet18_badnets_plain", "resnet18_clean", "resnet18_badnets.tensorflow")
MOBILENET = "exported/real_torch/torch2.13.0_ts-preserve_mobilenetv2-imagenet.onnx"
RANDOM: dict[str, Callable[[], ModelProto]] = {"ResNet-50, random": resnet50, "YOLO-like, random": yolo}
THRESHOLDS = (3.0, 1.5)
SECONDS = 5.0
QUICK = ("resnet18_badnets", "MobileNetV2, ImageNet")
HEAD = "| model | u | how | off | out | nodes | parameters | file | MACs | CPU latency | ratio | control |"


@dataclass(frozen=True)
class Subject:
    """A model of the table."""

    name: str
    path: Path


def subjects(folder: Path, corpus: Path | None) -> Iterator[Subject]:
    """The zoo's models, MobileNetV2 where the corpus is, and the random ones, which are made in `folder`."""
    for name in ZOO:
        yield Subject(name, MODELS / f"{name}.onnx")
    if corpus is not None:
        yield Subject("MobileNetV2, ImageNet", corpus / MOBILENET)
    for number, (name, make) in enumerate(RANDOM.items()):
        path = folder / f"{number}.onnx"
        onnx.save(make(), path)
        yield Subject(name, path)


def rows(subject: Subject, thresholds: Sequence[float], multiples: Sequence[int]) -> Iterator[str]:
    """The model's rows of the table."""
    for u in thresholds:
        for multiple in (0, *multiples):
            config = CleanConfig(
                u=u,
                fill="zero",
                budget=1.0,
                cleanup="all",
                compact=multiple > 0,
                compact_multiple=max(multiple, 1),
                latency=True,
                provider="cpu",
            )
            how = f"compact, multiples of {multiple}" if multiple else "zeroed"
            yield _row(subject, u, how, run(subject.path, None, config))


def _row(subject: Subject, u: float, how: str, report: Report) -> str:
    change = report.change
    assert change is not None
    before, after = change.before, change.after
    cells = [
        subject.name,
        f"{u:g}",
        how,
        f"{report.summary.channels_pruned:,}",
        f"{report.compaction.removed:,}" if report.compaction is not None else "",
        f"{before.nodes:,} > {after.nodes:,}",
        f"{before.parameters:,} > {after.parameters:,}",
        f"{size(before.bytes or 0)} > {size(after.bytes or 0)}",
        " > ".join("not known" if n is None else large(n) for n in (before.macs, after.macs)),
        *_times(subject, change),
    ]
    return f"| {' | '.join(cells)} |"


def _times(subject: Subject, change: Change) -> tuple[str, str, str]:
    before, after = change.before.latency, change.after.latency
    if before is None or after is None:
        return "not known", "", ""
    control = latency.compare(subject.path, subject.path, _feeds(change), 1.0)
    return f"{milliseconds(before)} > {milliseconds(after)}", f"{change.latency_ratio:.2f}", f"{control.ratio:.2f}"


def _feeds(change: Change) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    drawn = np.random.default_rng(0)
    return {n: drawn.standard_normal(math.prod(s), np.float32).reshape(s) for n, s in change.shapes.items()}


def ratios(subject: Subject, thresholds: Sequence[float], multiples: Sequence[int]) -> Iterator[str]:
    """The model's rows of the table of multiples: bytes, and time over that of the model set to zero."""
    with tempfile.TemporaryDirectory() as folder:
        for u in thresholds:
            zeroed = Path(folder) / f"{u}.onnx"
            change = run(
                subject.path, zeroed, CleanConfig(u=u, fill="zero", budget=1.0, cleanup="all", provider="cpu")
            ).change
            assert change is not None
            control = latency.compare(zeroed, zeroed, _feeds(change), SECONDS)
            cells = [subject.name, f"{u:g}", milliseconds(control.before), f"{control.ratio:.2f}"]
            for multiple in multiples:
                path = zeroed.with_suffix(f".{multiple}.onnx")
                config = CleanConfig(
                    u=u,
                    fill="zero",
                    budget=1.0,
                    cleanup="all",
                    compact=True,
                    compact_multiple=multiple,
                    provider="cpu",
                )
                run(subject.path, path, config)
                share = path.stat().st_size / zeroed.stat().st_size
                cells.append(f"{latency.compare(zeroed, path, _feeds(change), SECONDS).ratio:.2f} ({share:.1%})")
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table in Markdown, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="the folder with the exported and fetched models")
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--multiples", type=_numbers, default=(8, 1), help="what --compact-multiple is set to (8,1)")
    parser.add_argument("--quick", action="store_true", help="two models at one threshold")
    parser.add_argument("--blocks", action="store_true", help="the table of multiples instead")
    given = parser.parse_args()
    columns = "".join(f" | {n}" for n in given.multiples)
    head, make = (f"| model | u | zeroed | control{columns} |", ratios) if given.blocks else (HEAD, rows)
    sys.stdout.write(f"{head}\n{'|---' * head.count(' | ')}|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(Path(folder), given.corpus):
            if given.only in subject.name and (subject.name in QUICK or not given.quick):
                for row in make(subject, THRESHOLDS[-1:] if given.quick else THRESHOLDS, given.multiples):
                    sys.stdout.write(row + "\n")
                    sys.stdout.flush()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
