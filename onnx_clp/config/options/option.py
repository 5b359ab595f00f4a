"""One option as data: its name, the field that it sets, the form of its values, and whether a stranger may set it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from onnx_clp.config import CleanConfig

Form = Literal[
    "flag",
    "text",
    "number",
    "count",
    "path",
    "choice",
    "size",
    "shape",
    "sweep",
    "pixel range",
    "caps",
    "gates",
    "level",
]
"""How a value is written; a `level` is a flag that may be given more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of the command line, the same in a file with options.

    Attributes:
        name: the long one with its dashes, or the only one; `short` is another.
        help: what it does, in one sentence.
        form: how its value is written.
        sets: the field of `CleanConfig` that it sets, where that is not called as the option is.
        metavar: what its value is called.
        words: the values of a choice that sets no field.
        default: where no field holds it.
        repeatable: whether it may be given several times.
        harmless: whether the `pyproject.toml` of the current folder, which may be a stranger's, may set it.
    """

    name: str
    help: str
    form: Form = "flag"
    sets: str = ""
    short: str = ""
    metavar: str | None = None
    words: tuple[str, ...] = ()
    default: Any = None
    repeatable: bool = False
    harmless: bool = False

    @property
    def key(self) -> str:
        """Its name in a file with options: without dashes."""
        return self.name.lstrip("-")

    @property
    def destination(self) -> str:
        """Its name among parsed arguments."""
        return self.key.replace("-", "_")

    @property
    def field(self) -> str:
        """The field of `CleanConfig` that it sets; "" for what is no part of a run's configuration."""
        return self.sets or (self.destination if self.destination in _defaults() else "")

    @property
    def negates(self) -> bool:
        """Whether giving it makes its field False."""
        return self.form == "flag" and bool(self.field) and field_default(self.field) is True

    @property
    def choices(self) -> tuple[str, ...]:
        """What a choice may be: the words that its field's type lists."""
        return self.words or (literals(self.field) if self.form == "choice" else ())

    @property
    def start(self) -> Any:
        """The value where it is not given."""
        if self.form in ("flag", "level"):
            return 0 if self.form == "level" else False
        if self.repeatable:
            return []
        return field_default(self.field) if self.field else self.default

    def value(self, given: Any) -> Any:
        """The value of its field, from what was parsed."""
        if self.negates:
            return not given
        if self.form == "shape":
            return dict(given)
        return tuple(given) if self.repeatable else given

    def texts(self, value: Any) -> Sequence[str]:
        """A field's value as texts, one for each time the option is given."""
        if self.form == "shape":
            pairs = value.items() if isinstance(value, Mapping) else value
            return [f"{name}:{','.join(map(str, sizes))}" for name, sizes in pairs]
        if self.repeatable:
            return [str(one) for one in value]
        return [_text(self.form, value)]


def _text(form: Form, value: Any) -> str:
    if form == "caps" and value == 0:
        return "auto"
    if form == "sweep":
        return _sweep(value)
    if form in ("pixel range", "gates"):
        return ",".join(map(_number, value))
    return _number(value)


def _number(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _sweep(us: Sequence[float]) -> str:
    from decimal import Decimal

    first, *rest = (Decimal(str(u)) for u in us)
    return f"{first}:{rest[-1]}:{rest[0] - first}" if rest else f"{first}:{first}:1"


@cache
def _defaults() -> dict[str, Any]:
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(CleanConfig)}


def field_default(name: str) -> Any:
    """The default of a field of `CleanConfig`."""
    return _defaults()[name]


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(CleanConfig)


def literals(name: str) -> tuple[str, ...]:
    """The words that the type of a field of `CleanConfig` lists."""
    hint = _hints()[name]
    for one in (hint, *get_args(hint)):
        if get_origin(one) is Literal:
            return get_args(one)
    return ()
