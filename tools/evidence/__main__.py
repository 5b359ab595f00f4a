"""`python -m tools.evidence`: measure the tool on a trained zoo, and write what was found into docs/evidence.md."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from onnx_clp.errors import ClpError
from tools.evidence import subject
from tools.zoo import datasets


def main_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure", help="ACC, ASR and RA of every model and setting that is missing")
    measure.add_argument("--half", choices=("choose", "report", "both"), default="both", help="even or odd seeds")
    measure.add_argument("--images", type=int, help="test images a model (default: 1,000 to choose, 3,000 to report)")
    measure.add_argument("--processes", type=int, default=1, help="models measured at a time")
    aside = commands.add_parser(
        "experiments", help="scores against TAC, scoring time, latency, evasion: what is missing"
    )
    effort = commands.add_parser("effort", help="default, caps, high effort and the paper's method: what is missing")
    effort.add_argument("--run", action="append", default=[], metavar="NAME", help="only this one (may repeat)")
    effort.add_argument("--search-seconds", type=float, default=300.0, help="cap of a search; more on a busy machine")
    effort.add_argument(
        "--case", nargs=4, metavar=("NAME", "ATTACK", "MODEL", "EXAM"), help="this file instead of a zoo"
    )
    effort.add_argument("--target", type=int, help="of --case")
    effort.add_argument("--pixels", type=float, nargs=2, metavar=("LOW", "HIGH"), help="that --case takes (0 and 1)")
    defaults = commands.add_parser(
        "defaults", help="the default and caps of auto beside the paper's method: what is missing"
    )
    defaults.add_argument("--images", type=int, default=2000, help="test images a model (default 2,000)")
    real = commands.add_parser(
        "realsize", help="planted networks at real size: what is missing; --work is their folder"
    )
    real.add_argument("--photographs", type=Path, required=True, metavar="FILE.npz", help="jpeg, offset, label")
    real.add_argument("--only", default="", metavar="NAME", help="this network alone")
    real.add_argument("--run", action="append", default=[], metavar="NAME", help="only this one (may repeat)")
    real.add_argument("--search-seconds", type=float, default=300.0, help="cap of a search; more on a busy machine")
    again = commands.add_parser(
        "reactivation", help="cleaned networks trained further, with and without the trigger: what is missing (torch)"
    )
    again.add_argument("--search-seconds", type=float, default=300.0, help="cap of a search; more on a busy machine")
    tuning = commands.add_parser(
        "finepruning",
        help="fine-pruning with 5 %% of the training images, for what `effort` noted: what is missing (torch)",
    )
    for command in (measure, aside, effort, defaults, real, again, tuning):
        command.add_argument("--work", type=Path, default=Path("zoo"), metavar="FOLDER", help="of the trained zoo")
        command.add_argument("--data", type=Path, default=datasets.FASHION_MNIST_FOLDER, metavar="FOLDER")
    report = commands.add_parser("report", help="rewrite the page's tables and the pictures from the records")
    report.add_argument("--page", type=Path, default=Path("docs/evidence.md"), metavar="FILE")
    for command in (measure, aside, effort, defaults, real, again, tuning, report):
        command.add_argument("--out", type=Path, default=Path("docs/evidence"), metavar="FOLDER", help="of records")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    given = main_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    commands = {
        "measure": _measure,
        "experiments": _experiments,
        "effort": _effort,
        "defaults": _defaults,
        "realsize": _realsize,
        "reactivation": _reactivation,
        "finepruning": _fine_pruning,
        "report": _report,
    }
    try:
        commands[given.command](given)
    except ClpError as error:
        print(f"tools.evidence: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _measure(given: argparse.Namespace) -> None:
    from tools.evidence import measuring

    bench = measuring.Bench(given.work, given.data, given.images)
    halves = ("choose", "report") if given.half == "both" else (given.half,)
    subjects = subject.read(given.work)
    subject.keep(subjects, given.out)
    measuring.measure_all(bench, subjects, given.out, halves, given.processes)


def _experiments(given: argparse.Namespace) -> None:
    from tools.evidence import evasion, latency, pictures, scoring, tac

    subjects = subject.read(given.work)
    subject.keep(subjects, given.out)
    tac.measure(subjects, given.work, given.data, given.out, pictures.panels(subjects))
    evasion.measure_all(subjects, given.work, given.data, given.out)
    scoring.measure(given.out)
    latency.measure(subjects, given.work, given.out)


def _effort(given: argparse.Namespace) -> None:
    from tools.evidence import effort

    runs = given.run or list(effort.RUNS)
    if given.case is None:
        effort.measure_all(given.work, given.data, given.out, runs, given.search_seconds)
        return
    name, attack, model, exam = given.case
    pixels = None if given.pixels is None else (given.pixels[0], given.pixels[1])
    case = effort.Case(name, "", "report", attack, given.target, Path(model), Path(exam), pixels)
    effort.note(given.out, effort.measure(case, runs, given.search_seconds))


def _defaults(given: argparse.Namespace) -> None:
    from tools.evidence import defaults

    defaults.measure_all(given.work, given.data, given.out, given.images)


def _realsize(given: argparse.Namespace) -> None:
    from tools.evidence import real_size

    runs = given.run or list(real_size.RUNS)
    real_size.measure_all(given.work, given.photographs, given.out, runs, given.search_seconds, given.only)


def _reactivation(given: argparse.Namespace) -> None:
    from tools.evidence import reactivation

    reactivation.measure_all(subject.read(given.work), given.work, given.data, given.out, given.search_seconds)


def _fine_pruning(given: argparse.Namespace) -> None:
    from tools.evidence import fine_pruning

    fine_pruning.measure_all(subject.read(given.work), given.work, given.data, given.out)


def _report(given: argparse.Namespace) -> None:
    from tools.evidence import page, parts, pictures

    made = parts.all_parts(given.out)
    page.fill(given.page, made)
    pictures.draw(given.out)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
