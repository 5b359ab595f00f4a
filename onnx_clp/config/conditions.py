"""Values of the types that a dataclass's fields name: taken over where they can only mean one thing, else refused.

A list stands for a tuple, text for a path, a whole number for a float. Text does not stand for a sequence of texts,
although Python could read it as one: `exclude="conv1"` would name five layers of one letter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from onnx_clp.errors import UsageError


def settle(instance: Any) -> None:
    """Give every field of a frozen dataclass a value of its own type.

    Raises:
        UsageError: a field holds something else; the sentence names field, value and what would do.
    """
    for name, hint in get_type_hints(type(instance)).items():
        if any(field.name == name for field in fields(instance)):
            object.__setattr__(instance, name, settled(name, hint, getattr(instance, name)))


def settled(name: str, hint: Any, value: Any) -> Any:
    """`value` as the type `hint` has it.

    Raises:
        UsageError: it is something else.
    """
    origin, within = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _choice(name, within, value)
    if origin in (Union, UnionType):
        return None if value is None else settled(name, next(one for one in within if one is not type(None)), value)
    if origin is tuple:
        return _sequence(name, within, value)
    if origin is not None:
        return _mapping(name, within, value)
    return _plain(name, hint, value)


def _choice(name: str, choices: tuple[str, ...], value: Any) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _sequence(name: str, within: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise UsageError(f"{name} must be a sequence, not {value!r}; write ({value!r},) for one")
    return tuple(settled(name, within[0], one) for one in value)


def _mapping(name: str, within: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} must be a mapping, not {value!r}")
    return {settled(name, within[0], key): settled(f"{name}[{key!r}]", within[1], one) for key, one in value.items()}


def _plain(name: str, wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, (str, os.PathLike)) and value:
        return Path(value)
    if wanted is str and isinstance(value, str):
        return value
    truth = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
    if wanted is bool and truth:
        return bool(value)
    if wanted is int and isinstance(value, Integral) and not truth:
        return int(value)
    if wanted is float and isinstance(value, Real) and not truth:
        return float(value)
    words = {Path: "a path", str: "text", bool: "True or False", int: "a whole number", float: "a number"}
    raise UsageError(f"{name} must be {words[wanted]}, not {value!r}")
