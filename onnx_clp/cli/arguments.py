"""The command line as data: what a parsed line comes to, checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from onnx_clp.cli import cautions
from onnx_clp.cli.options import main_parser
from onnx_clp.cli.settings import Settings, load
from onnx_clp.cli.words import OLD_GATES
from onnx_clp.config import CleanConfig
from onnx_clp.config.options import OF_CONFIG
from onnx_clp.errors import UsageError

Color = Literal["auto", "always", "never"]
FailOn = Literal["suspicious", "unusual", "unjudged"]

PAPER = {"rule": "paper", "u": 3.0, "fill": "zero", "budget": 1.0}
PAPER_WORDS = "--rule paper -u 3 --fill zero --budget 1"
REPORT_SUFFIXES = (".json", ".html")
SARIF_SUFFIXES = (".sarif", ".json")
_STREAM = Path("-")
"""What other programs take for standard input or output."""
ATTESTATIONS = {"in-toto": ".json", "cyclonedx": ".json", "model-card": ".md"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One command line, checked: the run's configuration, its files, and how to speak of it.

    `destination` is where the model goes (None with --dry-run or without a second file name). `configured` says
    which options came from a file, and `warnings` what is to be said of options before the run.
    """

    source: Path
    destination: Path | None
    config: CleanConfig
    overwrite: bool
    reports: tuple[Path, ...]
    sarif: Path | None
    json: bool
    fail_on: tuple[FailOn, ...]
    baseline: Path | None
    color: Color
    quiet: bool
    verbosity: int
    attestations: tuple[tuple[str, Path], ...] = ()
    configured: str = ""
    warnings: tuple[str, ...] = ()


def parse(argv: Sequence[str]) -> Arguments:
    """The arguments of one run, without the program's name.

    Raises:
        UsageError: they make no sense.
        SystemExit: --help or --version was asked for and printed.
    """
    given, settings = _given(_without_separator(argv))
    if given.quiet and given.verbose:
        raise UsageError("-q and -v contradict each other: drop one")
    arguments = Arguments(
        source=given.source,
        destination=None if given.dry_run else given.destination,
        config=_config(given),
        overwrite=given.overwrite,
        reports=tuple(given.report),
        sarif=given.sarif,
        attestations=tuple(map(_attestation, given.attestation)),
        json=given.json,
        fail_on=_gates(given.fail_on),
        baseline=given.baseline,
        color=given.color,
        quiet=given.quiet,
        verbosity=given.verbose,
        configured="" if settings is None else settings.notice,
        warnings=tuple(cautions.of(given)),
    )
    _check_outputs(arguments, given.destination)
    return arguments


def _given(words: list[str]) -> tuple[argparse.Namespace, Settings | None]:
    """The command line, filled up from the file with options where it leaves an option out."""
    given = main_parser().parse_intermixed_args(words)
    if given.no_config and given.config is not None:
        raise UsageError("--config and --no-config contradict each other: drop one")
    settings = None if given.no_config else load(given.config)
    if settings is None:
        return given, None
    parser = main_parser()
    options = settings.words(parser)
    from_file = _parsed_file(settings.path, [word for words in options.values() for word in words])
    for action in parser._actions:
        if action.dest in options:
            action.default = argparse.SUPPRESS
    given = parser.parse_intermixed_args(words)
    for name in options:
        if not hasattr(given, name):
            setattr(given, name, getattr(from_file, name))
    return given, settings


def _parsed_file(path: Path, words: list[str]) -> argparse.Namespace:
    try:
        return main_parser().parse_args([*words, "model"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _without_separator(argv: Sequence[str]) -> list[str]:
    # Options may stand between the two files, and that kind of parsing does not know "--".
    words = list(argv)
    if "--" not in words:
        return words
    at = words.index("--")
    return words[:at] + [f"./{word}" if word.startswith("-") else word for word in words[at + 1 :]]


def _config(given: argparse.Namespace) -> CleanConfig:
    if len(dict(given.shape)) < len(given.shape):
        raise UsageError("--shape names the same input twice: give each input once")
    _spell_paper_out(given)
    return CleanConfig(**{name: one.value(getattr(given, one.destination)) for name, one in OF_CONFIG.items()})


def _gates(names: tuple[str, ...]) -> tuple[FailOn, ...]:
    return cast("tuple[FailOn, ...]", tuple(dict.fromkeys(OLD_GATES.get(name, name) for name in names)))


def _spell_paper_out(given: argparse.Namespace) -> None:
    """Give --paper the options it stands for; what contradicts it is refused."""
    if not given.paper:
        return
    parser = main_parser()
    for name, value in PAPER.items():
        if getattr(given, name) not in (parser.get_default(name), value):
            raise UsageError(f"--paper means {PAPER_WORDS}: drop it, or the option that says otherwise")
        setattr(given, name, value)


def _check_outputs(arguments: Arguments, destination: Path | None) -> None:
    for path in arguments.reports:
        if path.suffix.lower() not in REPORT_SUFFIXES:
            raise UsageError(f"--report {path}: the name must end in .json or .html")
    sarif = arguments.sarif
    if sarif is not None and sarif.suffix.lower() not in SARIF_SUFFIXES:
        raise UsageError(f"--sarif {sarif}: the name must end in .sarif or .json")
    if _STREAM in (arguments.source, destination):
        raise UsageError("-: a model is not read from or written to a stream; name a file")
    taken = [(arguments.source, "the input model")]
    if destination is not None:
        taken.append((destination, "the output model"))
    config = arguments.config
    data = ((config.eval_data, "evaluation data"), (config.calibrate, "calibration data"), (config.images, "images"))
    taken += [(read, f"the {what}") for read, what in data if read is not None]
    attested = [path for _, path in arguments.attestations]
    for path in (*arguments.reports, *([sarif] if sarif is not None else []), *attested):
        for other, what in taken:
            if _same_file(path, other):
                raise UsageError(f"{path}: a report there would overwrite {what}; choose another name")
        taken.append((path, "another report"))


def _attestation(word: str) -> tuple[str, Path]:
    form, _, path = word.partition("=")
    if form not in ATTESTATIONS:
        raise UsageError(f"--attestation {word}: write FORMAT=PATH; the formats are {', '.join(ATTESTATIONS)}")
    if Path(path).suffix.lower() != ATTESTATIONS[form]:
        raise UsageError(f"--attestation {word}: the name must end in {ATTESTATIONS[form]}")
    return form, Path(path)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return one.absolute() == other.absolute() or _resolved(one) == _resolved(other)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()
