"""Dataclasses as JSON text and back, by their type hints: the wire between a process and those it starts.

Known are dataclasses, enums, literals, None and one other type, tuples, mappings with text for keys, paths (made
absolute, as a child works in another folder), text, whole numbers, floats and truth values. Non-finite floats keep
their value (Python's JSON dialect).
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_Kind = TypeVar("_Kind")


def encode(value: object) -> str:
    """A dataclass as JSON text on one line; `decode` gives an equal one back."""
    return json.dumps(plain(value))


def decode(kind: type[_Kind], text: str) -> _Kind:
    """An instance of the dataclass `kind` from its JSON text.

    Raises:
        ValueError, TypeError, KeyError: the text is no such thing.
    """
    return restored(kind, json.loads(text))


def plain(value: object) -> Any:
    """A value in what JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def restored(kind: type[_Kind], value: Any) -> _Kind:
    """The inverse of `plain` for a dataclass.

    Raises:
        ValueError, TypeError, KeyError: the value is no such thing.
    """
    made: _Kind = _restored(kind, value)
    return made


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _restored(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return None if value is None else _restored(_other_than_none(hint), value)
    if origin is Literal:
        return _require(value in get_args(hint), hint, value)
    if origin is tuple:
        return _tuple(hint, value)
    if origin is not None:
        return {key: _restored(get_args(hint)[1], one) for key, one in _require_kind(dict, hint, value).items()}
    return _instance(hint, value) if dataclasses.is_dataclass(hint) else _scalar(hint, value)


def _instance(kind: Any, value: Any) -> Any:
    hints = _hints(kind)
    return kind(**{name: _restored(hints[name], one) for name, one in _require_kind(dict, kind, value).items()})


def _other_than_none(hint: Any) -> Any:
    return next(one for one in get_args(hint) if one is not NoneType)


def _tuple(hint: Any, value: Any) -> tuple[Any, ...]:
    parts, given = get_args(hint), _require_kind(list, hint, value)
    if parts[-1] is Ellipsis:
        return tuple(_restored(parts[0], one) for one in given)
    return tuple(_restored(part, one) for part, one in zip(parts, given, strict=True))


def _scalar(hint: Any, value: Any) -> Any:
    if issubclass(hint, (Path, enum.Enum)):
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _require(type(value) is hint, hint, value)


def _require_kind(kind: type[_Kind], hint: Any, value: Any) -> _Kind:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {hint}")
    return value


def _require(holds: bool, hint: Any, value: Any) -> Any:
    if not holds:
        raise TypeError(f"{value!r} is no {hint}")
    return value
