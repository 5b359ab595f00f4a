"""What of the forms found still works once the best of them is undone.

A trigger that is spread over the image is found in several forms, none of which is the trigger's own: caps against one
may leave open what another uses. Those that still turn images under the caps are capped as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onnx_clp.inversion.capped import Look
from onnx_clp.inversion.forms import TriggerForm
from onnx_clp.inversion.repair import Mark
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.rounds import Counter
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.trigger import outcome
from onnx_clp.validation.provider import Engine

WORKS: Final = 0.1
"""Of the images; whatever form it has, a large enough change turns a few."""


class Leftover:
    """Finds the form that works best under caps, or else what a further search finds.

    Args:
        forms: all towards one class.
        images: of other classes, at least one.
        engine: where the model runs.
        further: looks on where no form works any more; None for nothing.
    """

    def __init__(
        self, forms: Sequence[TriggerForm], images: Images, engine: Engine, further: Counter | None = None
    ) -> None:
        self._forms, self._images, self._engine, self._further = forms, images, engine, further

    def __call__(self, subject: Subject) -> Sequence[Mark]:
        """One form, or what is found further; none where nothing works."""
        look = Look(subject, subject.output, self._engine)
        flips = [outcome(look.all(form.put_on(self._images)), form.target)[0] for form in self._forms]
        if max(flips, default=0.0) > WORKS:
            return [self._forms[flips.index(max(flips))]]
        return () if self._further is None else self._further(subject)
