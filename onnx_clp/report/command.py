"""The command line that a report's run could have been, or another one on the same file: words that parse to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from decimal import Decimal
from typing import Any, Final

from onnx_clp.config import CleanConfig
from onnx_clp.document.run import Report
from onnx_clp.text import shown

PROGRAM: Final = "onnx-clp"
_LONGEST: Final = 400

_SPELLED: Final[Mapping[str, str]] = {
    "u": "-u",
    "eval_data": "--eval",
    "output_name": "--output",
    "latency": "--measure-latency",
    "shapes": "--shape",
}
"""Options whose name is not the field's."""


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
    return [word for field in fields(CleanConfig) if field.name in given for word in _words(field, given[field.name])]


def _words(field: Field[Any], value: Any) -> Iterator[str]:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if _plain(value) == _plain(default):
        return
    option = _SPELLED.get(field.name, f"--{field.name.replace('_', '-')}")
    if isinstance(default, bool):
        yield option if value else f"--no-{field.name}"
        return
    for text in _texts(field.name, value):
        yield from ([f"{option}={text}"] if text.startswith("-") else [option, text])


def _texts(name: str, value: Any) -> Sequence[str]:
    """One text for each time the option is given."""
    spell = _TEXTS.get(name)
    return [_number(value) if isinstance(value, float) else str(value)] if spell is None else spell(value)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _sweep(us: Sequence[float]) -> Sequence[str]:
    first, *rest = (Decimal(str(u)) for u in us)
    return [f"{first}:{rest[-1]}:{rest[0] - first}" if rest else f"{first}:{first}:1"]


_TEXTS: Final[Mapping[str, Callable[[Any], Sequence[str]]]] = {
    "include": list,
    "exclude": list,
    "shapes": lambda shapes: [f"{name}:{','.join(map(str, sizes))}" for name, sizes in shapes.items()],
    "pixel_range": lambda ends: [",".join(map(_number, ends))],
    "bound_activations": lambda times: ["auto" if times == 0 else _number(times)],
    "sweep": _sweep,
}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _replaces(report: Report, output: str | None) -> bool:
    return output is not None and report.output is not None and report.output.path == output
