"""A descent towards a small form of a trigger, and the smallest that it came by."""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

from onnx_clp.inversion.portions import Portions

ENOUGH: Final = 0.9
"""Forms judged by their size shrink as long as they turn this share of the images."""


class Sized(Protocol):
    """A form with a share of images that it turns and a size."""

    @property
    def flip(self) -> float:
        """The share."""

    @property
    def area(self) -> float:
        """The size, in the form's own unit."""


_Form = TypeVar("_Form", bound=Sized)
_Found = TypeVar("_Found", covariant=True)


class Descent(Protocol[_Found]):
    """Something that gets nearer to a form with every step."""

    def step(self) -> None:
        """One step."""

    @property
    def form(self) -> _Found:
        """What was found by now; at least one step must have been taken."""


class Smallest(Generic[_Form]):
    """The smallest form met on the way that turns enough of all images; where none does, the last one."""

    def __init__(self, images: Portions) -> None:
        self._images = images
        self._best: _Form | None = None
        self._last: _Form | None = None

    def meet(self, form: _Form) -> None:
        """A form as it is after another step."""
        self._last = form
        if self._images.seen and form.flip >= ENOUGH and (self._best is None or form.area < self._best.area):
            self._best = form

    @property
    def form(self) -> _Form:
        """The smallest, or the last."""
        found = self._best or self._last
        assert found is not None
        return found


class Best(Generic[_Form]):
    """Several descents towards one form that differ in where they begin: the smallest that any of them comes by."""

    def __init__(self, *descents: Descent[_Form]) -> None:
        self._descents = descents

    def step(self) -> None:
        """One step of each."""
        for descent in self._descents:
            descent.step()

    @property
    def form(self) -> _Form:
        """Of the forms that turn enough of all images the smallest; where none does, the one that turns most."""
        return min((descent.form for descent in self._descents), key=_rank)


def _rank(form: Sized) -> tuple[bool, float]:
    works = form.flip >= ENOUGH
    return not works, form.area if works else -form.flip


def descended(descent: Descent[_Found], steps: int) -> _Found:
    """What a descent has found after so many steps."""
    for _ in range(steps):
        descent.step()
    return descent.form
