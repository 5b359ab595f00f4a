"""A form of one kind looked for towards many classes at once, in two heats.

Most classes are ordinary, and half of the steps show it. So all of them run a first heat; where none is ahead by
then the form is left as it is, else the nearest and as many others go on, which the nearest are compared with. That is
strict on the nearest: half of what they are compared with was near as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.forms import Finder, Forms, TriggerForm
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.smallest import Descent, descended

FIRST: Final = 0.5
"""The share of the steps that the first heat takes."""


class Race:
    """The descents towards the forms of one kind, a class each.

    Attributes:
        kind: of the form.

    Args:
        kind: of the form.
        finder: makes the descents.
        attack: the model.
        others: the images that a class is looked for on.
        each: called for every class that is done with a heat.
    """

    def __init__(
        self, kind: str, finder: Finder, attack: Attack, others: Callable[[int], Images], each: Callable[[], None]
    ) -> None:
        self.kind, self._finder, self._attack, self._others, self._each = kind, finder, attack, others, each
        self._steps = finder.own_steps(kind)
        self._first = max(1, round(FIRST * self._steps))
        self._lanes: list[tuple[Forms, Descent[TriggerForm]]] = []

    def first(self, todo: Sequence[Forms]) -> None:
        """The first heat of these classes; a class gets its form when it is done."""
        for forms in todo:
            descent = self._finder.descent(self.kind, self._attack, self._others(forms.target), forms)
            forms.early[self.kind] = forms.by_kind[self.kind] = descended(descent, self._first)
            self._lanes.append((forms, descent))
            self._each()

    def second(self, targets: Collection[int]) -> None:
        """The remaining steps of these classes."""
        for forms, descent in self._lanes:
            if forms.target in targets:
                forms.by_kind[self.kind] = descended(descent, self._steps - self._first)
                self._each()
