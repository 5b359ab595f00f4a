"""`python -m tools.redteam`: write a backdoor into a model of one's own, and measure whether the tool takes it out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from onnx_clp.errors import ClpError

_SUFFIXES: Final = (".onnx", ".npz", ".json")


def main_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.redteam", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write one edited model with its evaluation file and what was done")
    write.add_argument("model", type=Path)
    write.add_argument("samples", type=Path, help="an evaluation file (x_clean, y_clean)")
    write.add_argument("out", type=Path, metavar="STEM", help="STEM.onnx, STEM.npz and STEM.json are written")
    write.add_argument("--edit", required=True, metavar="NAME", help="which (an unknown one lists them)")
    write.add_argument("--target", type=int, default=1)
    write.add_argument("--seed", type=int, default=0)
    write.add_argument("--most", type=int, default=300, help="images taken (default 300)")
    measure = commands.add_parser("measure", help="audit edited models (STEM.onnx) and note what came of it")
    measure.add_argument("stems", type=Path, nargs="+", metavar="STEM")
    measure.add_argument("--records", type=Path, required=True, metavar="FILE.jsonl")
    measure.add_argument("--half", choices=("settings", "report"), default="report")
    bench = commands.add_parser("bench", help="write and measure every edit of the plan that is not noted yet")
    bench.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="where the networks of the plan lie")
    bench.add_argument("--records", type=Path, required=True, metavar="FILE.jsonl")
    bench.add_argument("--only", action="append", default=[], metavar="NAME", help="one network, repeatable")
    page = commands.add_parser("page", help="rewrite the page's tables from the records")
    page.add_argument("records", type=Path, metavar="FILE.jsonl")
    page.add_argument("--page", type=Path, default=Path("docs/redteam.md"), metavar="FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    given = main_parser().parse_args(arguments)
    try:
        {"write": _write, "measure": _measure, "bench": _bench, "page": _page}[given.command](given)
    except ClpError as error:
        print(f"tools.redteam: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _write(given: argparse.Namespace) -> None:
    import numpy as np
    import onnx

    from tools.redteam import catalogue
    from tools.redteam.subject import Samples, load, rates

    model, samples = load(given.model), Samples.read(given.samples, given.most)
    written = catalogue.write(given.edit, model, samples, target=given.target, seed=given.seed)
    acc, asr = rates(written.model, samples, written.triggered, given.target)
    onnx_path, npz_path, json_path = (given.out.parent / f"{given.out.name}{suffix}" for suffix in _SUFFIXES)
    onnx.save(written.model, onnx_path)
    np.savez_compressed(
        npz_path,
        x_clean=samples.images,
        y_clean=samples.labels,
        x_triggered=written.triggered,
        y_target=np.int64(given.target),
        scale=samples.scale,
        offset=samples.offset,
    )
    facts = {"base": given.model.name, "edit": given.edit, "seed": given.seed, "target": given.target}
    json_path.write_text(json.dumps({**facts, "acc": acc, "asr": asr, "path": written.path}) + "\n", encoding="utf-8")
    print(f"{onnx_path}: {given.edit}, ACC {acc:.1f} %, ASR {asr:.1f} %")


def _measure(given: argparse.Namespace) -> None:
    from tools.redteam import record
    from tools.redteam.measuring import measured, written

    for stem in given.stems:
        record.add(given.records, measured(written(stem, given.half)))


def _bench(given: argparse.Namespace) -> None:
    from tools.redteam import bench

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    bench.run(given.folders, given.records, given.only)


def _page(given: argparse.Namespace) -> None:
    from tools.redteam import record, tables

    tables.fill(given.page, record.read(given.records))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
