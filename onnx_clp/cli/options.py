"""The parser of the command line, from the table of options."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from onnx_clp.cli import words
from onnx_clp.config.options import FROM_FILE, MODEL, REPORTING
from onnx_clp.config.options.option import Form, Option
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
    reporting = parser.add_argument_group("reporting")
    for option in REPORTING:
        add(reporting, option)
    for option in FROM_FILE:
        add(parser, option)
    parser.add_argument("--version", action="version", version=f"onnx-clp {__version__}")
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add every option that decides what happens to a model."""
    # A value such as -1,1 is no option, as -1 alone is none.
    parser._negative_number_matcher = _NUMBERS
    for title, options in MODEL.items():
        group = parser.add_argument_group(title)
        for option in options:
            add(group, option)


_FORMS: Final[Mapping[Form, Callable[[str], Any]]] = {
    "text": str,
    "choice": str,
    "number": float,
    "count": int,
    "path": Path,
    "size": words.size,
    "shape": words.shape,
    "sweep": words.sweep,
    "pixel range": words.pixel_range,
    "caps": words.caps,
    "gates": words.fail_on,
}
"""What reads a value of that form; a flag has none."""


def add(group: argparse._ActionsContainer, option: Option, text: str = "") -> None:
    """Add one option of the table; `text` replaces its help."""
    names = [option.short, option.name] if option.short else [option.name]
    given: dict[str, Any] = {"default": option.start, "help": text or option.help}
    if option.form in ("flag", "level"):
        group.add_argument(*names, action="store_true" if option.form == "flag" else "count", **given)
        return
    given.update(type=_FORMS[option.form], metavar=option.metavar, choices=option.choices or None)
    action = group.add_argument(*names, action="append" if option.repeatable else "store", **given)
    if option.form == "gates":
        action.completer = lambda **_: ("never", *words.GATES)  # type: ignore[attr-defined]


def exit_code_table() -> str:
    """The exit codes for a help text."""
    rows = [f"  {code:<14} {meaning}" for code, meaning in EXIT_CODES]
    return "\n".join(["exit codes:", *rows])
