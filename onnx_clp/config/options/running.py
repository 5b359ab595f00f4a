"""Options that say how a run proves, limits, writes and reports what it does."""

from __future__ import annotations

from typing import Final

from onnx_clp.config.options.option import Option

VALIDATION: Final = (
    Option(
        name="--provider",
        form="choice",
        harmless=True,
        help="where ONNX Runtime runs: the best that works (default), or this one or none",
    ),
    Option(
        name="--compare-providers",
        harmless=True,
        help="also run the model before and after on CPU and GPU, and set the four side by side",
    ),
    Option(
        name="--no-validate",
        sets="validate",
        help="do not run ONNX Runtime at all",
    ),
    Option(
        name="--tolerance",
        form="number",
        metavar="X",
        help="largest relative error the fold may make (default: by data type)",
    ),
    Option(
        name="--seed",
        form="count",
        metavar="N",
        harmless=True,
        help="of the inputs made up (default 0)",
    ),
    Option(
        name="--shape",
        sets="shapes",
        form="shape",
        metavar="NAME:1,3,224,224",
        repeatable=True,
        harmless=True,
        help="full shape of an input the model leaves open (repeatable)",
    ),
    Option(
        name="--eval",
        sets="eval_data",
        form="path",
        metavar="DATA.npz",
        help="arrays x_clean and y_clean: report ACC before and after; with x_triggered and y_target ASR and RA too",
    ),
    Option(
        name="--measure-latency",
        sets="latency",
        harmless=True,
        help="also time both models on the CPU, in turns, for 2 seconds",
    ),
    Option(
        name="--output",
        sets="output_name",
        form="text",
        metavar="NAME",
        harmless=True,
        help="the model output that holds the class scores",
    ),
)

LIMITS: Final = (
    Option(
        name="--dry-run",
        help="analyse and report, write no model",
    ),
    Option(
        name="--overwrite",
        help="replace OUT.onnx if it exists",
    ),
    Option(
        name="--external-data",
        form="choice",
        harmless=True,
        help="tensors in a file of their own: as the input has it (default), always, never",
    ),
    Option(
        name="--max-size",
        form="size",
        metavar="SIZE",
        help="refuse larger models; SIZE is bytes or has a suffix K, M, G, T (default 64G)",
    ),
    Option(
        name="--memory",
        form="size",
        metavar="SIZE",
        help="cap on the validation process (default: by the model's size)",
    ),
    Option(
        name="--timeout",
        form="number",
        metavar="SECONDS",
        help="cap on each validation process (default 600)",
    ),
    Option(
        name="--search-seconds",
        form="number",
        metavar="SECONDS",
        help="how long a search for triggers may take before it ends with what it has (default 300)",
    ),
)

REPORTING: Final = (
    Option(
        name="--report",
        form="path",
        metavar="PATH",
        repeatable=True,
        help="write the report; .json or .html by suffix (repeatable)",
    ),
    Option(
        name="--json",
        help="print the JSON report instead of the table",
    ),
    Option(
        name="--sarif",
        form="path",
        metavar="PATH",
        help="write the pruned channels as SARIF 2.1.0",
    ),
    Option(
        name="--attestation",
        form="text",
        metavar="FORMAT=PATH",
        repeatable=True,
        help=(
            "write what was found in a form to file beside the model: in-toto=A.json, cyclonedx=B.json or "
            "model-card=C.md (repeatable); nothing is signed"
        ),
    ),
    Option(
        name="--fail-on",
        form="gates",
        metavar="WORD[,WORD]",
        default=(),
        harmless=True,
        help=(
            "exit with 1 if the file is suspicious; if anything is unusual, too (unusual); if a layer or the "
            "model could not be judged, too (unjudged); never is the default"
        ),
    ),
    Option(
        name="--baseline",
        form="path",
        metavar="OLD.json",
        help="an earlier --report: --fail-on counts only what is not in it",
    ),
    Option(
        name="--color",
        form="choice",
        words=("auto", "always", "never"),
        default="auto",
        harmless=True,
        help="auto (default) colours terminals only, and honours NO_COLOR",
    ),
    Option(
        name="--quiet",
        short="-q",
        help="print no table and no progress",
    ),
    Option(
        name="--verbose",
        short="-v",
        form="level",
        help="log to stderr, list everything; -vv says more",
    ),
)

FROM_FILE: Final = (
    Option(
        name="--config",
        form="path",
        metavar="FILE.toml",
        help="take options from this file (default: [tool.onnx-clp] in ./pyproject.toml)",
    ),
    Option(
        name="--no-config",
        help="do not look into ./pyproject.toml",
    ),
)
