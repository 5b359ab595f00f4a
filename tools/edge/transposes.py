"""The table of Transposes in `docs/edge.md`: how many a file has, and how many are left after each tool.

    python -m tools.edge.transposes FILE_OR_FOLDER... > table.md

Every row is one validated run with `--cleanup all --no-prune --measure-latency`, so what is counted has been proven
against the input. onnxslim and onnxsim get the input file too where they are installed (extra `parity`); a dash says
that one is not. Files without a Transpose are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto

from onnx_clp import CleanConfig
from onnx_clp.cleanup.transposes import count
from onnx_clp.errors import ClpError
from onnx_clp.file.store import TensorStore
from onnx_clp.graph.model import ModelIndex
from onnx_clp.run.pipeline import run

HEAD = (
    "| file | nodes | Transposes | `--cleanup all` | onnxslim | onnxsim | nodes left | error | time, of the input's |"
)
SETTINGS = CleanConfig(cleanup="all", prune=False, provider="cpu", latency=True)


def found(paths: Sequence[Path]) -> Iterator[Path]:
    """Every model named, or in a folder named."""
    for path in paths:
        yield from sorted(path.rglob("*.onnx")) if path.is_dir() else [path]


def transposes(model: ModelProto) -> int:
    """Transposes of a whole model."""
    return count(ModelIndex(model, TensorStore()))


def others(path: Path, package: str, function: str, take: Callable[[object], object]) -> str:
    """How many another tool leaves."""
    try:
        tool = getattr(importlib.import_module(package), function)
    except ImportError:
        return "–"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = take(tool(onnx.load(path)))
    except Exception as error:  # whatever another tool raises is its answer
        return type(error).__name__
    return str(transposes(made)) if isinstance(made, ModelProto) else "–"


def row(path: Path, folder: Path) -> str | None:
    """A line of the table; None for a file without a Transpose."""
    model = onnx.load(path)
    before = transposes(model)
    if not before:
        return None
    slim = others(path, "onnxslim", "slim", lambda made: made)
    sim = others(path, "onnxsim", "simplify", lambda made: made[0] if isinstance(made, tuple) else made)
    left, nodes, error, ratio = ours(path, folder)
    return (
        f"| {path.stem} | {len(model.graph.node)} | {before} | {left} | {slim} | {sim} | {nodes} | {error} | {ratio} |"
    )


def ours(path: Path, folder: Path) -> tuple[str, str, str, str]:
    """Transposes and nodes left by this tool, the error of the cleaning's proof, and the ratio of times."""
    out = folder / "out.onnx"
    out.unlink(missing_ok=True)
    try:
        report = run(path, out, SETTINGS)
    except ClpError as error:
        return str(error), "", "", ""
    made, proof = onnx.load(out), report.validation.cleanup_error
    change = report.change
    ratio = "" if change is None or change.latency_ratio is None else f"{change.latency_ratio:.2f}"
    return str(transposes(made)), str(len(made.graph.node)), "" if proof is None else f"{proof:.1e}", ratio


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    words = parser.parse_args()
    print(HEAD)
    print("|---" * HEAD.count(" | ") + "|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in found(words.paths):
            line = row(path, Path(folder))
            if line is not None:
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
