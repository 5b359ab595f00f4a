"""The options of the command line: the parser, group by group."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import NoReturn

from onnx_clp.cli import words
from onnx_clp.cli.reporting import add_reporting
from onnx_clp.config import GIB, UNIT_RANGE
from onnx_clp.errors import EXIT_CODES, UsageError
from onnx_clp.version import __version__

_NUMBERS = re.compile(r"-\.?\d[\d.eE+-]*(,[\d.eE+-]*)?$")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UsageErrors."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, naming the option or the choice that was probably meant."""
        meant = self._meant(message)
        hint = f"; did you mean {meant}?" if meant else ""
        raise UsageError(f"{message}{hint} (see {self.prog} --help)")

    def _meant(self, message: str) -> str:
        """The known word nearest to the one an error message complains of; "" where none is near."""
        from difflib import get_close_matches

        unknown = re.match(r"unrecognized arguments: (?:.* )?(--[^\s=]+)", message)
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if unknown is not None:
            word, known = unknown[1], [name for action in self._actions for name in action.option_strings]
        elif choice is not None:
            word, known = choice[1], re.findall(r"[\w-]+", choice[2])
        else:
            return ""
        return next(iter(get_close_matches(word, known, 1)), "")


def main_parser() -> argparse.ArgumentParser:
    """The parser of `onnx-clp IN [OUT]`; its errors are UsageErrors."""
    parser = Parser(
        prog="onnx-clp",
        usage="%(prog)s [options] IN.onnx [OUT.onnx]",
        description=(
            "Fold normalisation into the linear layers of an ONNX model, score every output channel by its "
            "Lipschitz constant, switch off the channels that stand out, check the new model with ONNX "
            "Runtime and write it. Without OUT.onnx nothing is written: the analysis is printed."
        ),
        epilog=exit_code_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.description = textwrap.fill(parser.description or "", 79)
    parser.add_argument("source", type=Path, metavar="IN.onnx", help="the model to read; it is never changed")
    parser.add_argument("destination", type=Path, nargs="?", metavar="OUT.onnx", help="the model to write")
    add_model_options(parser)
    add_reporting(parser)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="take options from this file (default: [tool.onnx-clp] in ./pyproject.toml)",
    )
    parser.add_argument("--no-config", action="store_true", help="do not look into ./pyproject.toml")
    parser.add_argument("--version", action="version", version=f"onnx-clp {__version__}")
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add every option that decides what happens to a model."""
    # A value such as -1,1 is no option, as -1 alone is none.
    parser._negative_number_matcher = _NUMBERS
    _add_effort(parser)
    _add_judging(parser)
    _add_changing(parser)
    _add_search(parser)
    _add_validation(parser)
    _add_limits(parser)


def _add_effort(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how far it goes by itself")
    group.add_argument(
        "--effort",
        choices=("low", "normal", "high"),
        default="normal",
        help="prune, and cap where a class stands out (low, normal); also audit, cap anyway, search for a trigger and "
        "undo it, which takes minutes (high)",
    )


def _add_judging(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is judged")
    group.add_argument(
        "-u",
        type=float,
        default=3.0,
        help="prune channels above mean + u*std of their layer's scores (default 3)",
    )
    group.add_argument(
        "--rule",
        choices=("paper", "exact", "gain", "loo", "mad", "two-sided", "inverted"),
        default="paper",
        help="what u counts: mean + u*std (paper, default); the same with --bound exact (exact) or with scores "
        "times how strongly the next layers read the channel (gain); stds of the other channels (loo); median "
        "+ u*MAD (mad); mean - u*std too (two-sided); or nothing: undo what --invert finds instead (inverted)",
    )
    group.add_argument(
        "--sweep",
        type=words.sweep,
        default=(),
        metavar="START:STOP:STEP",
        help="also say what every u from START to STOP would prune, and how the model would fare",
    )
    group.add_argument(
        "--bound",
        choices=("reshaped", "exact"),
        default="reshaped",
        help="the score: the paper's sigma (default), or the operator norm on a frequency grid",
    )
    for option, text in (
        ("--include", "judge only the layers whose name matches this shell pattern (repeatable)"),
        ("--exclude", "never judge the layers whose name matches; wins over --include (repeatable)"),
    ):
        group.add_argument(option, action="append", default=[], metavar="PATTERN", help=text)
    group.add_argument(
        "--layers",
        choices=("conv", "all"),
        default="conv",
        help="judge convolutions (default), or Gemm and MatMul as well",
    )


def _add_changing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is changed")
    group.add_argument("--no-prune", action="store_true", help="fold only")
    group.add_argument(
        "--fill",
        choices=("mean", "zero"),
        default="mean",
        help="what a channel gives once it is off: what it is on average (mean, default), or 0 as in the paper (zero)",
    )
    group.add_argument(
        "--budget",
        type=float,
        metavar="SHARE",
        help="the largest share of ordinary images that pruning, caps and --rule inverted may cost, as predicted "
        "(default 0.01, twice that where the file is suspicious; 1 allows everything)",
    )
    group.add_argument(
        "--paper",
        action="store_true",
        help="the paper's method to the letter: --rule paper -u 3 --fill zero --budget 1",
    )
    group.add_argument(
        "--compact",
        action="store_true",
        help="take channels that are zero out of the file, and what reads them: the same answers from a smaller model",
    )
    group.add_argument(
        "--compact-multiple",
        type=int,
        default=8,
        metavar="N",
        help="a layer that loses channels keeps a multiple of N, or all, as CPUs run blocks (default 8; 1: the fewest)",
    )
    group.add_argument(
        "--freeze-inputs",
        action="store_true",
        help="treat initializers that are also graph inputs as constants, and drop those inputs",
    )
    group.add_argument(
        "--cleanup",
        choices=("none", "own", "all"),
        default="own",
        help="take out what changes no output: constants this run leaves unused (own, default), all dead nodes, "
        "no-ops, unused and duplicate initializers (all; the runtime may round otherwise), or nothing",
    )
    group.add_argument(
        "--bound-activations",
        type=words.caps,
        metavar="C",
        help="also cap every normalised channel at beta + C·|gamma| of its BatchNormalization, or higher where the "
        "budget asks for that; auto: as low as it allows; with --rule inverted only where that undid no trigger",
    )
    group.add_argument(
        "--calibrate",
        type=Path,
        metavar="DATA.npz",
        help="a few dozen unlabelled inputs (array x): measure what no BatchNormalization tells, and cap it too",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search for triggers")
    group.add_argument(
        "--synthesize", action="store_true", help="make images from the model alone, for the .html report"
    )
    group.add_argument(
        "--audit",
        action="store_true",
        help="look for a path of channels that nothing ordinary fires and that leads to one class, and take it out",
    )
    group.add_argument(
        "--invert",
        action="store_true",
        help="look for a perturbation and a patch towards every class, and say which class is a likely target",
    )
    group.add_argument(
        "--skip-unsearchable",
        action="store_true",
        help="go on without a search where none can run, instead of refusing the model (a batch always does)",
    )
    group.add_argument(
        "--images",
        type=Path,
        metavar="DATA.npz",
        help="measure and search on these unlabelled images (array images, x or x_clean) instead of photographs and "
        "made-up ones",
    )
    group.add_argument(
        "--pixel-range",
        type=words.pixel_range,
        default=UNIT_RANGE,
        metavar="LOW,HIGH",
        help="the range of pixel values that the model takes, such as 0,255 or -1,1 (default: found out; 0,1 in "
        "searches)",
    )


def _add_validation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("validation and evaluation")
    group.add_argument(
        "--provider",
        choices=("auto", "cuda", "tensorrt", "cpu"),
        default="auto",
        help="where ONNX Runtime runs: the best that works (default), or this one or none",
    )
    group.add_argument(
        "--compare-providers",
        action="store_true",
        help="also run the model before and after on CPU and GPU, and set the four side by side",
    )
    group.add_argument("--no-validate", action="store_true", help="do not run ONNX Runtime at all")
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest relative error the fold may make (default: by data type)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the inputs made up (default 0)")
    group.add_argument(
        "--shape",
        type=words.shape,
        action="append",
        default=[],
        metavar="NAME:1,3,224,224",
        help="full shape of an input the model leaves open (repeatable)",
    )
    group.add_argument(
        "--eval",
        type=Path,
        metavar="DATA.npz",
        help="arrays x_clean, y_clean, x_triggered, y_target: report ACC, ASR and RA before and after",
    )
    group.add_argument(
        "--measure-latency", action="store_true", help="also time both models on the CPU, in turns, for 2 seconds"
    )
    group.add_argument("--output", metavar="NAME", help="the model output that holds the class scores")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("writing and limits")
    group.add_argument("--dry-run", action="store_true", help="analyse and report, write no model")
    group.add_argument("--overwrite", action="store_true", help="replace OUT.onnx if it exists")
    group.add_argument(
        "--external-data",
        choices=("auto", "always", "never"),
        default="auto",
        help="tensors in a file of their own: as the input has it (default), always, never",
    )
    group.add_argument(
        "--max-size",
        type=words.size,
        default=64 * GIB,
        metavar="SIZE",
        help="refuse larger models; SIZE is bytes or has a suffix K, M, G, T (default 64G)",
    )
    group.add_argument(
        "--memory",
        type=words.size,
        metavar="SIZE",
        help="cap on the validation process (default: by the model's size)",
    )
    group.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="cap on each validation process (default 600)",
    )
    group.add_argument(
        "--search-seconds",
        type=float,
        metavar="SECONDS",
        help="how long a search for triggers may take before it ends with what it has (default 300)",
    )


def exit_code_table() -> str:
    """The exit codes for a help text."""
    rows = [f"  {code:<14} {meaning}" for code, meaning in EXIT_CODES]
    return "\n".join(["exit codes:", *rows])
