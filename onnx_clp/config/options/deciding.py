"""Options that decide what happens to a model."""

from __future__ import annotations

from typing import Final

from onnx_clp.config.options.option import Option
from onnx_clp.config.rules import FACTS

EFFORT: Final = (
    Option(
        name="--effort",
        form="choice",
        harmless=True,
        help=(
            "prune, and cap where a class stands out (low); also audit where something raises a question (normal, "
            "default); audit, search for a trigger, undo it and cap in any case, which takes minutes (high)"
        ),
    ),
)

JUDGED: Final = (
    Option(
        name="-u",
        form="number",
        harmless=True,
        help="prune channels above mean + u*std of their layer's scores (default 3)",
    ),
    Option(
        name="--rule",
        form="choice",
        harmless=True,
        help=(
            f"what u counts: {'; '.join(f'{row.help} ({name})' for name, row in FACTS.items())}; mean + u*std with "
            "--bound exact (exact); or nothing: undo what --invert finds instead (inverted)"
        ),
    ),
    Option(
        name="--sweep",
        form="sweep",
        metavar="START:STOP:STEP",
        harmless=True,
        help="also say what every u from START to STOP would prune, and how the model would fare",
    ),
    Option(
        name="--bound",
        form="choice",
        harmless=True,
        help="the score: the paper's sigma (default), or the operator norm on a frequency grid",
    ),
    Option(
        name="--include",
        form="text",
        metavar="PATTERN",
        repeatable=True,
        harmless=True,
        help="judge only the layers whose name matches this shell pattern (repeatable)",
    ),
    Option(
        name="--exclude",
        form="text",
        metavar="PATTERN",
        repeatable=True,
        harmless=True,
        help="never judge the layers whose name matches; wins over --include (repeatable)",
    ),
    Option(
        name="--layers",
        form="choice",
        harmless=True,
        help="judge convolutions (default), or Gemm and MatMul as well",
    ),
)

CHANGED: Final = (
    Option(
        name="--no-prune",
        sets="prune",
        harmless=True,
        help="fold only",
    ),
    Option(
        name="--fill",
        form="choice",
        harmless=True,
        help=(
            "what a channel gives once it is off: what it is on average (mean, default), or 0 as in the paper (zero)"
        ),
    ),
    Option(
        name="--budget",
        form="number",
        metavar="SHARE",
        harmless=True,
        help=(
            "the largest share of ordinary images that pruning, caps and --rule inverted may cost, as predicted "
            "(default 0.01, twice that where the file is suspicious; 1 allows everything)"
        ),
    ),
    Option(
        name="--paper",
        harmless=True,
        help="the paper's method to the letter: --rule paper -u 3 --fill zero --budget 1",
    ),
    Option(
        name="--compact",
        harmless=True,
        help=(
            "take channels that are zero out of the file, and what reads them: the same answers from a smaller model"
        ),
    ),
    Option(
        name="--compact-multiple",
        form="count",
        metavar="N",
        harmless=True,
        help=(
            "a layer that loses channels keeps a multiple of N, or all, as CPUs run blocks (default 8; 1: the fewest)"
        ),
    ),
    Option(
        name="--freeze-inputs",
        harmless=True,
        help="treat initializers that are also graph inputs as constants, and drop those inputs",
    ),
    Option(
        name="--cleanup",
        form="choice",
        harmless=True,
        help=(
            "take out what changes no output: constants this run leaves unused (own, default), all dead nodes, "
            "no-ops, Transposes that others undo, unused and duplicate initializers (all; the runtime may round "
            "otherwise), or nothing"
        ),
    ),
    Option(
        name="--bound-activations",
        form="caps",
        metavar="C",
        harmless=True,
        help=(
            "also cap every normalised channel at beta + C·|gamma| of its BatchNormalization, or higher where the "
            "budget asks for that; auto: as low as it allows; with --rule inverted only where that undid no "
            "trigger"
        ),
    ),
    Option(
        name="--calibrate",
        form="path",
        metavar="DATA.npz",
        help="a few dozen unlabelled inputs (array x): measure values without a BatchNormalization, and cap them too",
    ),
)

SEARCH: Final = (
    Option(
        name="--synthesize",
        harmless=True,
        help="make images from the model alone, for the .html report",
    ),
    Option(
        name="--audit",
        harmless=True,
        help="look for paths of kernels that read little else, for gates and for what blinds; take paths and gates out",
    ),
    Option(
        name="--patch-bound",
        form="count",
        metavar="K",
        harmless=True,
        help="also bound how far any patch of K by K pixels can move the class scores, before and after",
    ),
    Option(
        name="--invert",
        harmless=True,
        help="look for a perturbation and a patch towards every class, and say which class is a likely target",
    ),
    Option(
        name="--skip-unsearchable",
        harmless=True,
        help="go on without a search where none can run, instead of refusing the model (a batch always does)",
    ),
    Option(
        name="--images",
        form="path",
        metavar="DATA.npz",
        help=(
            "measure and search on these unlabelled images (array images, x or x_clean) instead of photographs "
            "and made-up ones"
        ),
    ),
    Option(
        name="--pixel-range",
        form="pixel range",
        metavar="LOW,HIGH",
        harmless=True,
        help="the range of pixel values that the model takes, such as 0,255 or -1,1 (default: found out)",
    ),
)
