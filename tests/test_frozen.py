"""`onnx_clp.frozen.dataclass` beside the standard library's: what one does, the other does."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from onnx_clp import frozen

MAKERS = [dataclasses.dataclass, frozen.dataclass]


class Plain:
    """Fields of every kind."""

    first: int
    second: str = "two"
    third: list[int] = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(default=0, repr=False)
    aside: int = dataclasses.field(default=0, compare=False)


class Named:
    """A class that checks what it is given."""

    size: int
    doubled: bool = False

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("below 0")


def _both(kind: type, **options: bool) -> list[Any]:
    """The class as each maker makes it."""
    return [maker(frozen=True, slots=True, **options)(_copy(kind)) for maker in MAKERS]


def _copy(kind: type) -> type:
    left_out = ("__dict__", "__weakref__")
    return type(kind.__name__, (), {k: copy.copy(v) for k, v in vars(kind).items() if k not in left_out})


def _told(act: Callable[[], object]) -> object:
    """What becomes of it, errors as their type and words."""
    try:
        return act()
    except Exception as error:
        return type(error), str(error)


ACTS: dict[str, Callable[[Any], object]] = {
    "shown": lambda kind: repr(kind(1, "b", [3], 4, 5)),
    "defaults": lambda kind: dataclasses.astuple(kind(1)),
    "by name": lambda kind: repr(kind(first=1, third=[2])),
    "equal": lambda kind: (kind(1) == kind(1), kind(1) == kind(2), kind(1, aside=1) == kind(1), kind(1) == 1),
    "hash": lambda kind: len({kind(1, third=()), kind(1, third=()), kind(2, third=())}),
    "no hash": lambda kind: hash(kind(1)),
    "set": lambda kind: setattr(kind(1), "first", 2),
    "delete": lambda kind: delattr(kind(1), "first"),
    "missing": lambda kind: kind(),
    "too many": lambda kind: kind(1, 2, 3, 4, 5, 6),
    "unknown": lambda kind: kind(1, sixth=1),
    "replaced": lambda kind: repr(dataclasses.replace(kind(1), second="c")),
    "copied": lambda kind: repr(copy.deepcopy(kind(1, third=[1]))),
    "as a dict": lambda kind: dataclasses.asdict(kind(1)),
    "fields": lambda kind: [(f.name, f.type, f.kw_only) for f in dataclasses.fields(kind)],
    "matched": lambda kind: kind.__match_args__,
    "slots": lambda kind: (kind.__slots__, hasattr(kind(1), "__dict__")),
    "signature": lambda kind: list(inspect.signature(kind).parameters),
    "own list": lambda kind: kind(1).third is kind(1).third,
    "documentation": lambda kind: (kind.__doc__, kind.__name__, kind.__qualname__),
}


@pytest.mark.parametrize("act", ACTS)
def test_it_does_what_the_standard_library_does(act: str) -> None:
    standard, own = (_told(lambda kind=kind: ACTS[act](kind)) for kind in _both(Plain))  # type: ignore[misc]
    assert own == standard


OPTION_ACTS: list[Callable[[Any], object]] = [
    lambda kind: kind(first=1) == kind(first=1),
    lambda kind: isinstance(hash(kind(first=1, third=())), int),
    lambda kind: repr(kind(first=1)).startswith("Plain(first=1"),
    lambda kind: kind(1).first,
]


@pytest.mark.parametrize("act", OPTION_ACTS)
@pytest.mark.parametrize("options", [{"eq": False}, {"kw_only": True}, {"repr": False}], ids=str)
def test_its_options_do_what_they_do_there(options: dict[str, bool], act: Callable[[Any], object]) -> None:
    standard, own = (_told(lambda kind=kind: act(kind)) for kind in _both(Plain, **options))  # type: ignore[misc]
    assert own == standard


def test_nothing_else_can_be_set() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="'other'"):
        Parent(1).other = 2  # type: ignore[attr-defined]


def test_what_follows_the_initialiser_runs() -> None:
    for kind in _both(Named):
        assert kind(2).size == 2
        with pytest.raises(ValueError, match="below 0"):
            kind(-1)


def test_a_child_has_its_parents_fields() -> None:
    @frozen.dataclass(frozen=True, slots=True)
    class Child(Parent):
        more: int = 3

    assert repr(Child(1)).endswith("Child(size=1, more=3)")
    assert Child(1) != Parent(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Child(1).size = 2  # type: ignore[misc]


@frozen.dataclass(frozen=True, slots=True)
class Parent:
    """At the top, as what is pickled has to be found."""

    size: int


def test_it_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Parent(3))) == Parent(3)


def test_its_own_methods_stay() -> None:
    @frozen.dataclass(frozen=True, slots=True)
    class Own:
        size: int

        def __repr__(self) -> str:
            return "mine"

        def __hash__(self) -> int:
            return 7

    assert (repr(Own(1)), hash(Own(1))) == ("mine", 7)
    assert Own(1) == Own(1)


def test_what_is_not_frozen_is_the_standard_librarys() -> None:
    @frozen.dataclass(slots=True)
    class Open:
        size: int

    one = Open(1)
    one.size = 2
    assert one == Open(2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
