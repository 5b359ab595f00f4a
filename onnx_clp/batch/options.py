"""The batch's command line as data: its own options, and those of the single run handed through."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_clp.batch.destinations import is_url
from onnx_clp.batch.executors import Kind
from onnx_clp.batch.fingerprint import digest
from onnx_clp.cli.arguments import ATTESTATIONS, parse
from onnx_clp.cli.options import Parser, add, add_model_options
from onnx_clp.config.options import MODEL, REPORTING
from onnx_clp.errors import ClpError, UsageError
from onnx_clp.text import shown_path
from onnx_clp.version import __version__

_FILES = ("eval", "calibrate", "images")
_FAIL_ON = next(option for option in REPORTING if option.form == "gates")
_HANDED_ON = (*(option for group in MODEL.values() for option in group), _FAIL_ON)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """One batch, checked. `words` go to every single run, `salt` is the digest of all that decides a result."""

    where: str
    out: str
    words: tuple[str, ...]
    salt: str
    views: tuple[str, ...]
    write: bool
    overwrite: bool
    retry: bool
    executor: Kind
    address: str | None
    jobs: int | None
    seconds: float
    max_size: int
    jsonl: bool
    quiet: bool
    warnings: tuple[str, ...] = ()


def batch_parser() -> argparse.ArgumentParser:
    """The parser of `onnx-clp batch IN OUT`."""
    parser = Parser(
        prog="onnx-clp batch",
        usage="%(prog)s [options] IN OUT",
        description=textwrap.fill(
            "Process many models, each in a process of its own. Outputs go to OUT with the folders of IN, a "
            "JSON report beside each. A journal in OUT lets the same command go on where an earlier one "
            "stopped: what has its result already is not run again unless the model, its external data, the "
            "options, this tool's version or the outputs have changed.",
            79,
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("where", metavar="IN", help="a folder, a glob in quotes, a list file (one path a line), a URL")
    parser.add_argument("out", metavar="OUT", help="the folder or URL for models, reports, journal and index.html")
    _add_own(parser)
    add_model_options(parser)
    return parser


_EPILOG = """exit code: that of the worst model, where 5 is worse than 4, 4 than 3, and so on:
  0              every model is done
  1              a gate that was asked for tripped (--fail-on)
  2              a model was refused or could not be written, or the batch itself makes no sense
  3              a rewritten model does not compute what it should
  4              a model could not be validated, or took too long
  5              a model's run crashed
  129, 130, 143  stopped by a signal; the same command goes on from there"""


def _add_own(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the batch")
    group.add_argument(
        "-j",
        "--jobs",
        type=_count,
        metavar="N",
        help="models at a time (default: one a processor, or a cluster's size)",
    )
    group.add_argument("--retry", action="store_true", help="also run again what failed validation in an earlier batch")
    group.add_argument(
        "--model-timeout",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="cap on the whole run of one model (default 3600)",
    )
    group.add_argument("--html", action="store_true", help="write an .html report beside each output, too")
    group.add_argument("--sarif", action="store_true", help="write a .sarif file beside each output, too")
    group.add_argument(
        "--attestation",
        choices=tuple(ATTESTATIONS),
        action="append",
        default=[],
        help="write in-toto, cyclonedx or model-card beside each output, too (repeatable)",
    )
    add(group, _FAIL_ON, _FAIL_ON.help.replace("exit with 1", "a model's code is 1"))
    group.add_argument("--jsonl", action="store_true", help="print one JSON line a model as it ends, and no table")
    group.add_argument("-q", "--quiet", action="store_true", help="print no table and no progress")
    group.add_argument(
        "--executor", choices=("local", "dask", "ray"), default="local", help="here (default), or on a cluster"
    )
    group.add_argument("--address", metavar="WHERE", help="of the Dask scheduler or the Ray cluster")


def parse_batch(argv: Sequence[str]) -> BatchOptions:
    """The options of one batch, without the words "onnx-clp batch".

    Raises:
        UsageError: they make no sense.
        SystemExit: --help was asked for and printed.
    """
    parser = batch_parser()
    given = parser.parse_intermixed_args(list(argv))
    if not given.model_timeout > 0:
        raise UsageError(f"--model-timeout must be a number of seconds above 0, not {given.model_timeout}")
    words = tuple(_words(given))
    single = parse(["in.onnx", "out.onnx", "--no-config", *words])
    if single.config.searches:
        words = (*dict.fromkeys((*words, "--skip-unsearchable")),)
    _check_view(given)
    return BatchOptions(
        where=given.where,
        out=given.out if is_url(given.out) else os.path.abspath(given.out),  # noqa: PTH100
        words=words,
        salt=_salt(words, given),
        views=(".html",) * given.html + (".sarif",) * given.sarif + _attested(given),
        write=not given.dry_run,
        overwrite=given.overwrite,
        retry=given.retry,
        executor=given.executor,
        address=given.address,
        jobs=given.jobs,
        seconds=given.model_timeout,
        max_size=single.config.max_size,
        jsonl=given.jsonl,
        quiet=given.quiet,
        warnings=single.warnings,
    )


def _check_view(given: argparse.Namespace) -> None:
    if given.html:
        from onnx_clp.report.html import require_extra

        require_extra()
    if given.address and given.executor == "local":
        raise UsageError("--address is for --executor dask or ray")


def _words(given: argparse.Namespace) -> Iterator[str]:
    """The single run's options among those given, as words it parses to the same."""
    for option in _HANDED_ON:
        value = getattr(given, option.destination)
        if option.name == "--overwrite" or value == option.start:
            continue
        if option.form == "flag":
            yield option.name
        else:
            whole = value.absolute() if isinstance(value, Path) else value
            yield from (f"{option.name}={text}" for text in option.texts(whole))


def _salt(words: tuple[str, ...], given: argparse.Namespace) -> str:
    files = [_digest(path) for path in (getattr(given, name) for name in _FILES) if path is not None]
    text = json.dumps([__version__, sorted(words), files, given.html, given.sarif, *_attested(given)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except (OSError, ValueError, ClpError) as error:
        raise UsageError(f"{shown_path(path)}: cannot be read: {error}") from error


def _attested(given: argparse.Namespace) -> tuple[str, ...]:
    """The suffixes of the attestations wanted, each once."""
    return tuple(f".{form}{ATTESTATIONS[form]}" for form in dict.fromkeys(given.attestation))


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return count
