"""`dataclass` as in the standard library, which makes frozen ones with slots in a third of the time.

A run makes about 150 dataclasses as its modules are loaded. For each frozen one the standard library compiles six
methods, which comes to a tenth of what a small run takes in all. Here `__init__` alone is compiled; the others are the
same functions for all, and look the fields up.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Hashable, Sequence
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        slots: bool = False,
        eq: bool = True,
        repr: bool = True,
        kw_only: bool = False,
    ) -> Any:
        """`dataclasses.dataclass`, with those of its options that the package uses."""

        def made(cls: type) -> type:
            if frozen and slots:
                return _frozen(cls, eq=eq, repr=repr, kw_only=kw_only)
            return dataclasses.dataclass(frozen=frozen, slots=slots, eq=eq, repr=repr, kw_only=kw_only)(cls)

        return made if cls is None else made(cls)


__all__ = ["dataclass"]


def _frozen(cls: type, *, eq: bool, repr: bool, kw_only: bool) -> Any:
    own, types = set(cls.__dict__), inspect.get_annotations(cls)
    # What is text is searched three times for words that make it no field; here nothing is but ClassVar.
    cls.__annotations__ = {name: told if "ClassVar" in str(told) else object for name, told in types.items()}
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    made.__annotations__ = types
    for name in types.keys() & made.__dataclass_fields__.keys():
        made.__dataclass_fields__[name].type = types[name]
    methods: dict[str, Any] = {"__init__": _initialiser(made), "__getstate__": _state, "__setstate__": _restore}
    methods |= {"__repr__": _shown} if repr else {}
    methods |= {"__eq__": _equal, "__hash__": _hash} if eq else {}
    methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


class _Left:
    """Stands for a field that was not given and whose default is made anew each time."""

    def __repr__(self) -> str:
        return "<factory>"


_LEFT = _Left()


def _initialiser(cls: Any) -> Any:
    """The `__init__` of a class with fields: the one method that is compiled, as it runs most."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_LEFT": _LEFT}
    plain, named, lines = ["self"], list[str](), list[str]()
    for one in dataclasses.fields(cls):
        name = one.name
        value, start = name, ""
        if one.default is not dataclasses.MISSING:
            known[f"_default_{name}"], start = one.default, f"=_default_{name}"
        elif one.default_factory is not dataclasses.MISSING:
            known[f"_make_{name}"], start = one.default_factory, "=_LEFT"
            value = f"_make_{name}() if {name} is _LEFT else {name}"
        (named if one.kw_only else plain).append(name + start)
        lines.append(f" _set(self, {name!r}, {value})")
    lines += [" self.__post_init__()"] if hasattr(cls, "__post_init__") else []
    given = ", ".join([*plain, *(["*", *named] if named else [])])
    exec("\n".join([f"def __init__({given}):", *lines, " return None"]), known)
    made = known["__init__"]
    made.__qualname__, made.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    made.__annotations__ = {one.name: one.type for one in dataclasses.fields(cls)} | {"return": None}
    return made


def _names(cls: Any) -> tuple[str, ...]:
    return tuple(one.name for one in dataclasses.fields(cls))


@cache
def _values(cls: Hashable) -> Any:
    """What gives the values of an instance's fields: those that count when instances are compared."""
    known: Any = cls
    names = tuple(one.name for one in dataclasses.fields(known) if one.compare)
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


@recursive_repr()
def _shown(self: Any) -> str:
    parts = (f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _compared(self: Any) -> Any:
    return _values(self.__class__)(self)


def _equal(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in _names(self)]


def _restore(self: Any, state: Sequence[Any]) -> None:
    for name, value in zip(_names(self), state, strict=True):
        object.__setattr__(self, name, value)


def _refuse_to_set(_: object, name: str, __: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
