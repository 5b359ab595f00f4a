"""What ONNX Runtime's commonest refusals of an input model mean, and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from onnx_clp.text import quoted
from onnx_clp.validation.anatomy import InputSpec
from onnx_clp.validation.session import RunError

_WAY_OUT: Final = "go without a proof with --no-validate"
_NEWER: Final = "install a newer one"
_TEMPORARY: Final = re.compile(r"Load model from \S+ failed:\s*")
_NODE: Final = r"Name:'(?P<node>[^']*)'.*?"


class Meaning(NamedTuple):
    """Why a model does not run, and what to do about it; empty where nothing is known to help."""

    cause: str
    cure: str


_Reader = Callable[[re.Match[str], str], Meaning]
_KNOWN: Final[tuple[tuple[re.Pattern[str], _Reader], ...]] = (
    (
        re.compile(r"IR version: (\d+), max supported IR version: (\d+)"),
        lambda m, ort: Meaning(f"{ort} loads at most IR version {m[2]}, the file has {m[1]}", _NEWER),
    ),
    (
        re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)"),
        lambda m, ort: Meaning(
            f"{ort} loads at most opset {m[3]} of {m[2]}, the file has {m[1]}", "install a newer one"
        ),
    ),
    (
        re.compile(r"(\S+?)\(-?\d+\) is not a registered function/op|No Op registered for (\S+)"),
        lambda m, ort: Meaning(f"{ort} has no operator {m[1] or m[2]}", ""),
    ),
    (
        re.compile(_NODE + r"bias must be a 1D tensor of size output_channels \((?P<size>\d+)\)"),
        lambda m, _: Meaning(
            f"the bias of node '{m['node']}' must be stored as {m['size']} numbers in one dimension, and is not",
            "export it again",
        ),
    ),
    (
        re.compile(_NODE + r"Invalid input scale: NumDimensions\(\) != [2-9]"),
        lambda m, _: Meaning(
            f"BatchNormalization '{m['node']}' says spatial=0, a number for every position, and holds one a channel",
            "take the attribute spatial out of it",
        ),
    ),
)


def meaning(failure: RunError, version: str, *, sizes_open: bool = False) -> Meaning:
    """What keeps ONNX Runtime `version` from running a model; `sizes_open`: sizes of its inputs had to be guessed."""
    text, runtime = _TEMPORARY.sub("", failure.details), f"ONNX Runtime {version}"
    for pattern, reader in _KNOWN:
        if match := pattern.search(text):
            return reader(match, runtime)
    cure = "if that is about sizes, say them with --shape" if sizes_open else ""
    return Meaning(f"{runtime} does not run the input model ({quoted(text)})", cure)


def refusal(failure: RunError, version: str, *, sizes_open: bool = False) -> str:
    """One sentence for an input model that ONNX Runtime `version` does not run."""
    cause, cure = meaning(failure, version, sizes_open=sizes_open)
    return f"not validated because {cause}; {f'{cure}, or ' if cure else ''}{_WAY_OUT}"


def leaves_open(specs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the size of an input is neither in the model nor `given`."""
    return any(s.shape is None or any(not isinstance(d, int) for d in s.shape) for s in specs if s.name not in given)
