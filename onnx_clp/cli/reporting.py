"""The options that say what is reported, and when the exit status is 1."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnx_clp.cli import words


def add_reporting(parser: argparse.ArgumentParser) -> None:
    """Add reports, the gate, colours and how much is said."""
    group = parser.add_argument_group("reporting")
    group.add_argument(
        "--report",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="write the report; .json or .html by suffix (repeatable)",
    )
    group.add_argument("--json", action="store_true", help="print the JSON report instead of the table")
    group.add_argument("--sarif", type=Path, metavar="PATH", help="write the pruned channels as SARIF 2.1.0")
    group.add_argument(
        "--attestation",
        nargs=2,
        action="append",
        default=[],
        metavar=("FORMAT", "PATH"),
        help="write what was found in a form to file beside the model: in-toto, cyclonedx (.json) or model-card (.md); "
        "repeatable; nothing is signed",
    )
    add_fail_on(group, "exit with 1")
    group.add_argument(
        "--baseline",
        type=Path,
        metavar="OLD.json",
        help="an earlier --report: --fail-on counts only what is not in it",
    )
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto (default) colours terminals only, and honours NO_COLOR",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print no table and no progress")
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="log to stderr, list everything; -vv says more"
    )


def add_fail_on(group: argparse._ArgumentGroup, what: str) -> None:
    """Add --fail-on; `what` says what happens then."""
    action = group.add_argument(
        "--fail-on",
        type=words.fail_on,
        default=(),
        metavar="WORD[,WORD]",
        help=f"{what} if the file is suspicious; if anything is unusual, too (unusual); if a layer or the model could "
        "not be judged, too (unjudged); never is the default",
    )
    action.completer = lambda **_: ("never", *words.GATES)  # type: ignore[attr-defined]
