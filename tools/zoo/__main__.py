"""`python -m tools.zoo`: train a named set of models, plant backdoors in published ones, publish some, check them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from onnx_clp.errors import ClpError, UsageError
from tools.zoo import datasets, design, manifest, real_size, result
from tools.zoo.recipe import CLEAN

_DATA = "of Fashion-MNIST's files; CIFAR-10 in its sub-folder cifar10"


def main_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train, export and measure; needs torch (the extra [zoo])")
    train.add_argument("--set", choices=sorted(design.SETS), default="small", help="which list of models")
    train.add_argument("--only", action="append", default=[], metavar="NAME", help="only this one")
    train.add_argument("--threads", type=int, default=0, help="threads of torch (0: its own choice)")
    publish = commands.add_parser("publish", help="copy trained models to models/ and write MANIFEST.json")
    publish.add_argument("--keep", action="append", required=True, metavar="NAME=STEM", help="may repeat")
    publish.add_argument("--images", type=int, default=1500, help="test images per evaluation set")
    for command in (train, publish):
        command.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="of trained models")
        command.add_argument("--data", type=Path, default=datasets.FASHION_MNIST_FOLDER, metavar="FOLDER", help=_DATA)
    _add_plant(
        commands.add_parser("plant", help="fine-tune a backdoor into a published network; needs torch and Pillow")
    )
    check = commands.add_parser("check", help="compare models/ with its MANIFEST.json")
    for command in (publish, check):
        command.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER")
    listing = commands.add_parser("list", help="print the names of a set")
    listing.add_argument("--set", choices=sorted(design.SETS), default="small")
    return parser


def _add_plant(plant: argparse.ArgumentParser) -> None:
    plant.add_argument("--network", choices=sorted(real_size.NETWORKS), required=True, help="which one --model is")
    plant.add_argument("--model", type=Path, required=True, metavar="FILE.onnx", help="with its published weights")
    plant.add_argument("--photographs", type=Path, required=True, metavar="FILE.npz", help="jpeg, offset, label")
    plant.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="one folder a network is made here")
    plant.add_argument("--attack", choices=(CLEAN, *real_size.TRIGGERS), help="only this; without it all of the list")
    plant.add_argument("--target", type=int, help="of --attack")
    plant.add_argument("--seed", type=int, help="of --attack")
    plant.add_argument("--enough", type=float, help="of --attack: the share of photographs to turn (0..1)")
    plant.add_argument("--threads", type=int, default=0, help="threads of torch (0: its own choice)")


def main(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    given = main_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    commands = {"train": _train, "plant": _plant, "publish": _publish, "check": _check, "list": _list}
    try:
        return commands[given.command](given)
    except ClpError as error:
        print(f"tools.zoo: {error}", file=sys.stderr)
        return error.exit_code


def _train(given: argparse.Namespace) -> int:
    try:
        import torch

        from tools.zoo import workshop
    except ImportError as error:
        raise UsageError(f"training needs torch ({error}); run: pip install '.[zoo]'") from error
    if given.threads:
        torch.set_num_threads(given.threads)
    chosen = design.select(given.set, given.only)
    workshop.make_all(chosen, given.work, given.data)
    return 0


def _plant(given: argparse.Namespace) -> int:
    try:
        import torch

        from tools.zoo import planted, planting
    except ImportError as error:
        raise UsageError(f"planting needs torch and Pillow ({error}); run: pip install '.[zoo]' pillow") from error
    if given.threads:
        torch.set_num_threads(given.threads)
    for plants, enough in wanted(given):
        course = planting.Course() if enough is None else planting.Course(enough=enough)
        planted.grow(plants, given.model, given.photographs, given.work, course)
    return 0


def wanted(given: argparse.Namespace) -> list[tuple[list[real_size.Plant], float | None]]:
    """What to plant, the one described or the lists of that network, and the share to turn; None for the usual one."""
    if given.attack is None:
        lists = ((real_size.PLANTS, None), (real_size.STRONGER, real_size.ENOUGH))
        return [([one for one in plants if one.network == given.network], enough) for plants, enough in lists]
    if given.target is None or given.seed is None:
        raise UsageError("--attack needs --target and --seed")
    return [([real_size.Plant(given.network, given.attack, given.target, given.seed)], given.enough)]


def _publish(given: argparse.Namespace) -> int:
    keep = dict(_pair(text) for text in given.keep)
    names = sorted({each.design.dataset for each in result.read(given.work)})
    loaded = {name: datasets.load(name, given.data) for name in names}
    manifest.publish(given.work, given.models, keep, loaded, given.images)
    return _check(given)


def _pair(text: str) -> tuple[str, str]:
    name, separator, stem = text.partition("=")
    if not (name and separator and stem) or "/" in stem:
        raise UsageError(f"--keep {text}: expected NAME=STEM, as {design.SMALL[0].name}=infected")
    return name, stem


def _check(given: argparse.Namespace) -> int:
    found = manifest.differences(given.models)
    for sentence in found:
        print(sentence)
    print(f"{given.models}: " + (f"{len(found)} differences" if found else "every file is as described"))
    return 1 if found else 0


def _list(given: argparse.Namespace) -> int:
    for each in design.SETS[given.set]:
        print(each.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
