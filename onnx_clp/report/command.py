"""The command line that a report's run could have been, or another one on the same file: words that parse to it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from onnx_clp.config.options import OF_CONFIG
from onnx_clp.config.options.option import Option, field_default
from onnx_clp.document.run import Report
from onnx_clp.text import shown

PROGRAM: Final = "onnx-clp"
_LONGEST: Final = 400


def line(report: Report, output: str | None = None, **changes: Any) -> str:
    """A shell line that runs this tool on the report's file with its options, but for `changes`.

    Args:
        report: of a file, not of a model that was in memory.
        output: the model to write; None writes none.
        changes: fields of `CleanConfig` with other values; `repair` stands for --rule inverted.
    """
    assert report.input is not None
    files = [report.input.path, *([] if output is None else [output])]
    words = [*words_of({**report.options, **changes}), *(["--overwrite"] if _replaces(report, output) else [])]
    separator = ["--"] if any(name.startswith("-") for name in files) else []
    return shown(shlex.join([PROGRAM, *words, *separator, *files]), _LONGEST)


def output_of(report: Report) -> str:
    """Where a further run should write: where this one did, else beside the input."""
    if report.output is not None:
        return report.output.path
    path = "model.onnx" if report.input is None else report.input.path
    return f"{path.removesuffix('.onnx')}.repaired.onnx"


def words_of(options: Mapping[str, Any]) -> list[str]:
    """The options that differ from their defaults, as words of a command line, by the fields of `CleanConfig`."""
    given = dict(options)
    if given.get("repair"):
        given.update(repair=False, prune=True, rule="inverted", invert=False)
    return [word for name, one in OF_CONFIG.items() if name in given for word in _words(one, given[name])]


def _words(option: Option, value: Any) -> Iterator[str]:
    if _plain(value) == _plain(field_default(option.field)):
        return
    if option.form == "flag":
        yield option.name
        return
    for text in option.texts(value):
        yield from ([f"{option.name}={text}"] if text.startswith("-") else [option.name, text])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _replaces(report: Report, output: str | None) -> bool:
    return output is not None and report.output is not None and report.output.path == output
