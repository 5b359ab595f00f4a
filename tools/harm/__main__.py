"""`python -m tools.harm`: what the tool does to real networks that carry no backdoor."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from onnx_clp.errors import ClpError
from tools.zoo import datasets

SETTINGS = ("", "--bound-activations auto", "--effort high")
"""What is measured if nothing is named: the default run, and what README recommends."""

_PICTURE, _EDITS = "predicted.png", "edits.png"
_FORETOLD = "foretold"


def main_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.harm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="fetch the packages, write the networks and their inputs")
    make.add_argument(
        "--corpus", type=Path, metavar="FOLDER", help="of exported files, for the networks that lie there"
    )
    make.add_argument("--photographs", type=Path, metavar="FILE.npz", help="labelled photographs (jpeg, offset, label)")
    make.add_argument("--fonts", type=Path, metavar="FOLDER", help="of .ttf and .otf files (default: matplotlib's)")
    make.add_argument("--most", type=int, default=500, help="inputs a network (default 500)")
    measure = commands.add_parser("measure", help="run the tool on every network and compare answers")
    measure.add_argument(
        "--setting",
        action="append",
        metavar="OPTIONS",
        help="options of one run, repeatable (default: the default run and README's settings)",
    )
    measure.add_argument("--most", type=int, default=sys.maxsize, help="inputs a network (default: all)")
    measure.add_argument("--out", type=Path, default=Path("docs/harm"), metavar="FOLDER", help="of records")
    foretell = commands.add_parser("foretell", help="set what is foretold beside what comes, on labelled networks")
    foretell.add_argument("--published", type=Path, metavar="FOLDER", help="of folders with model.onnx and eval.npz")
    foretell.add_argument("--trained", type=Path, metavar="FOLDER", help="that tools.zoo trained networks into")
    foretell.add_argument(
        "--data",
        type=Path,
        default=datasets.FASHION_MNIST_FOLDER,
        metavar="FOLDER",
        help="of the data sets of --trained",
    )
    foretell.add_argument("--cifar", type=Path, metavar="FILE.npz", help="CIFAR-10 images (jpeg, offset, label)")
    foretell.add_argument("--most", type=int, default=2000, help="images a network (default 2000)")
    foretell.add_argument("--out", type=Path, default=Path("docs/harm"), metavar="FOLDER", help="of records")
    renew = commands.add_parser("renew", help="foretell again, from what records hold, as the tool does now")
    renew.add_argument("--out", type=Path, default=Path("docs/harm"), metavar="FOLDER", help="of records")
    for command in (make, measure):
        command.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for networks and inputs")
        command.add_argument("--only", action="append", metavar="NAME", help="one network, repeatable (default: all)")
    page = commands.add_parser("page", help="rewrite the page's table and the picture from the records")
    page.add_argument("--page", type=Path, default=Path("docs/harm.md"), metavar="FILE")
    page.add_argument("--out", type=Path, default=Path("docs/harm"), metavar="FOLDER", help="of records")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    given = main_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    commands = {"make": _make, "measure": _measure, "foretell": _foretell, "renew": _renew, "page": _page}
    try:
        return commands[given.command](given)
    except ClpError as error:
        print(f"tools.harm: {error}", file=sys.stderr)
        return error.exit_code


def _make(given: argparse.Namespace) -> int:
    from tools.harm import catalogue
    from tools.harm.making import Workshop

    shop = Workshop(given.work, given.corpus, given.photographs, given.fonts, given.most)
    return int(bool(shop.make_all(catalogue.chosen(given.only))))


def _measure(given: argparse.Namespace) -> int:
    from tools.harm import catalogue, measuring

    measuring.measure_all(catalogue.chosen(given.only), given.setting or SETTINGS, given.work, given.out, given.most)
    return 0


def _foretell(given: argparse.Namespace) -> int:
    from tools.harm import measuring, published, record, trained
    from tools.harm.network import Network

    out = given.out / _FORETOLD

    def done(network: Network) -> bool:
        return all(record.path(out, network.name, setting).exists() for setting in published.SETTINGS)

    if given.published is not None:
        for network, model, real in published.networks(given.published, given.cifar, given.most):
            measuring.measure_one(network, published.SETTINGS, model, real, out)
    if given.trained is not None:
        for network, model, real in trained.networks(given.trained, given.data, given.most, done):
            measuring.measure_one(network, published.SETTINGS, model, real, out)
    return 0


def _renew(given: argparse.Namespace) -> int:
    from tools.harm import calibrating, record

    for folder in (given.out, given.out / _FORETOLD):
        for one in record.read(folder):
            record.write(folder, calibrating.renewed(one))
    return 0


def _page(given: argparse.Namespace) -> int:
    from tools.harm import calibrating, coverage, picture, record, tables

    found, more = record.read(given.out), record.read(given.out / _FORETOLD)
    first, second = (
        f"{given.out.name}/{name}" if picture.draw(runs, given.out / name) else ""
        for runs, name in ((found, _PICTURE), (coverage.edits([*found, *more]), _EDITS))
    )
    every = [*found, *more]
    tables.fill(given.page, found, first, second, coverage.told(every), calibrating.told(every))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
