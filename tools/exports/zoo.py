"""Export small networks with every exporter, from scratch, and run `onnx_clp` on what they write.

    python -m tools.exports.zoo forms --work FOLDER [--only torch] …    one line per form
    python -m tools.exports.zoo carry --work FOLDER [--models models]   the infected models of TensorFlow and JAX

Each exporter set gets a virtual environment of its own in FOLDER/environments (several GB in all; made on
Python 3.11), with the pins of `tools.exports.environments`. The networks are random, with normalisation as
training leaves it, and in each one channel of the first convolution is made to stand out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_clp
from onnx_clp.errors import ClpError
from tools.exports import environments
from tools.exports.carry import carry

FORMS: dict[str, tuple[str, ...]] = {
    "torch": (
        "torchscript",
        "torchscript-preserve",
        "torchscript-training",
        "torchscript-inputs",
        "dynamo",
        "dynamo-raw",
        "dynamo-external",
    ),
    "tensorflow": ("keras-3", "keras-3-tf2onnx", "tf-keras-2", "tf-keras-2-raw"),
    "jax": ("nnx", "nnx-functions", "linen"),
    "paddle": ("paddle",),
}
"""Environment -> the forms that its module `tools.exports.forms_<environment>` writes."""

FROZEN = {"torchscript-inputs"}
"""Forms whose every initializer is also an input; run with --freeze-inputs."""

NOT_FOLDED = {"torchscript-training"}
"""Forms that must come through with every normalisation: they are in training mode."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one form; `failure` is "" when all went well."""

    form: str
    folded: int = 0
    left: int = 0
    fold_error: float | None = None
    pruned: int = 0
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return f"{self.form:22} FAILED  {self.failure}"
        error = "-" if self.fold_error is None else f"{self.fold_error:.1e}"
        return f"{self.form:22} {self.folded:6} {self.left:5} {error:>10} {self.pruned:6}"


HEADER = f"{'form':22} {'folded':>6} {'left':>5} {'fold error':>10} {'pruned':>6}"


def one(homes: Path, work: Path, name: str, form: str) -> Row:
    """Export one form and clean it, first folding only, then pruning; both are validated.

    Raises:
        UsageError: the environment cannot be made.
    """
    path = (work / f"{form}.onnx").resolve()
    if failure := environments.run(homes, name, f"tools.exports.forms_{name}", form, str(path)):
        return Row(form, failure=f"export: {failure}")
    try:
        folded, pruned = (onnx_clp.clean(path, _config(form, prune=prune)).report for prune in (False, True))
    except ClpError as error:
        return Row(form, failure=str(error))
    proof = folded.validation
    return judged(
        Row(
            form,
            folded.summary.affines_folded,
            folded.summary.affines_left,
            None if proof is None else proof.fold_error,
            pruned.summary.channels_pruned,
        )
    )


def judged(row: Row) -> Row:
    """The row, failed if a training model was folded or if the channel that stands out was not pruned."""
    if row.form in NOT_FOLDED:
        wrong = "a model in training mode was folded" if row.folded else ""
    else:
        wrong = "" if row.pruned else "the channel that stands out was not pruned"
    return Row(row.form, failure=wrong) if wrong else row


def _config(form: str, *, prune: bool) -> onnx_clp.CleanConfig:
    return onnx_clp.CleanConfig(prune=prune, provider="cpu", freeze_inputs=form in FROZEN)


def main_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.exports.zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    forms = commands.add_parser("forms", help="export every form and run onnx_clp on it")
    forms.add_argument("--only", action="append", choices=sorted(FORMS), help="this environment only (repeatable)")
    carried = commands.add_parser("carry", help="export the infected ResNet-18 and describe it in MANIFEST.json")
    carried.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER")
    for command in (forms, carried):
        command.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="of environments and files")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; 1 if a form failed."""
    given = main_parser().parse_args(arguments)
    homes = given.work.resolve() / "environments"
    homes.mkdir(parents=True, exist_ok=True)
    try:
        if given.command == "carry":
            carry(given.models, homes)
            return 0
        return _forms(given.work, homes, given.only or list(FORMS))
    except ClpError as error:
        print(f"tools.exports.zoo: {error}", file=sys.stderr)
        return error.exit_code


def _forms(work: Path, homes: Path, names: Sequence[str]) -> int:
    failed = 0
    print(HEADER)
    for name in names:
        for form in FORMS[name]:
            row = one(homes, work, name, form)
            failed += bool(row.failure)
            print(row, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
