"""Ordinary inputs for a model: the user's images, else photographs, else signals, and the bench that they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray
from onnx import ModelProto

from onnx_clp.document.gauge import Ordinary
from onnx_clp.errors import NotValidated
from onnx_clp.gauge import pixels, waveforms
from onnx_clp.gauge.bench import TOGETHER, Bench, Feed, Images
from onnx_clp.gauge.crops import Float32, crops
from onnx_clp.gauge.entrance import normalises, range_at
from onnx_clp.gauge.intake import Intake, Pixels, intake_of
from onnx_clp.gauge.outputs import by_place, lead
from onnx_clp.gauge.photographs import Bytes, load
from onnx_clp.gauge.pixels import Choice
from onnx_clp.gauge.request import Landmark
from onnx_clp.gauge.supplied import read_images
from onnx_clp.validation import inputs
from onnx_clp.validation.anatomy import InputSpec
from onnx_clp.validation.inputs import Ints, Shapes
from onnx_clp.validation.session import FailureKind, RunError, Runner

Array = NDArray[Any]

_COUNTS: Final = ((160, 48), (96, 72), (0, 144))
"""From this many pixels a side on, so many images: a number that depends on nothing else, for the same run again."""
_SIGNALS: Final = 32
_LOOKS: Final = 6
_MOST_SUPPLIED: Final = 500
_LIKELY_SIDE: Final = 224


@dataclass(frozen=True, slots=True)
class Form:
    """Shapes and integer filling under which a model runs, and the input that takes images if one does."""

    specs: tuple[InputSpec, ...]
    shapes: Shapes
    ints: Ints
    intake: Intake | None
    seed: int

    def bench(self, runner: Runner, outputs: Sequence[str]) -> Bench:
        """What runs these inputs: several images at once where the model has no other input."""
        if self.intake is None:
            return Bench(runner, outputs, 1)
        name = self.intake.name
        size = next(spec.shape[0] if spec.shape else None for spec in self.specs if spec.name == name)
        batch = self.shapes[name][0]
        leaves_open = batch == 1 and not isinstance(size, int)
        together = (TOGETHER if leaves_open else batch) if len(self.specs) == 1 else 1
        return Bench(runner, outputs, together, name, 0 if leaves_open else batch)

    def feeds(self, images: Float32) -> list[Feed]:
        """Images in the model's pixel values, one feed each, other inputs drawn alike for all."""
        assert self.intake is not None
        rest = {name: value for name, value in self.drawn(0).items() if name != self.intake.name}
        laid = self.intake.laid_out(images)
        return [{self.intake.name: laid[at : at + 1], **rest} for at in range(len(laid))]

    def drawn(self, index: int) -> dict[str, Array]:
        """One made-up feed."""
        return inputs.draw(self.specs, self.shapes, self.seed, index, self.ints)


def form_of(
    specs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]], seed: int, runner: Runner, more: Feed
) -> Form:
    """Shapes that the model runs on, its images' likeliest first.

    Raises:
        RunError: it runs on none.
        NotValidated: no inputs can be made.
    """
    refused: RunError | None = None
    for shapes in _trials(specs, given):
        for ints in inputs.integer_fillings(specs):
            form = Form(tuple(specs), shapes, ints, intake_of(specs, shapes), seed)
            try:
                runner.run({**form.drawn(0), **more})
            except RunError as error:
                if error.kind is not FailureKind.REFUSED:
                    raise
                refused = refused or error
                continue
            return form
    raise refused or NotValidated("no inputs could be made for it; say shapes with --shape")


def _trials(specs: Sequence[InputSpec], given: Mapping[str, tuple[int, ...]]) -> Sequence[Shapes]:
    """Shapes to try: images of 224 pixels a side first, where their size is open."""
    tried = list(inputs.trial_shapes(specs, given))
    likely = [s for s in tried if (one := intake_of(specs, s)) and one.height == one.width == _LIKELY_SIDE]
    return [*likely, *(shapes for shapes in tried if shapes not in likely)]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where ordinary inputs come from.

    Attributes:
        model: the model that runs, without its weights.
        landmark: what tells pixel values apart.
        images: the user's own, if any.
        pixels: the range of pixel values that the user names.
        most: how many of them are taken at most.
        least: how many photographs are taken, as far as that allows, whatever their size.
    """

    model: ModelProto
    landmark: Landmark | None
    images: Path | None
    pixels: tuple[float, float] | None
    most: int
    least: int = 0


def ordinary_inputs(source: Source, form: Form, bench: Bench, neutral: Feed) -> tuple[Images, Ordinary, int]:
    """The images to measure on, what to say of them, and in how many ways they come, in turn.

    Ways are the pixel values that are as likely as each other. Only one of them can be the model's.

    Raises:
        UsageError: the user's images do not fit.
        RunError: the model does not run.
    """
    intake = form.intake
    if intake is None:
        made: list[Feed] = [
            {**form.drawn(at), **waveforms.of(form.specs, form.shapes, at)} for at in range(min(_SIGNALS, source.most))
        ]
        return made, Ordinary("noise", len(made)), 1
    choice = choice_of(source, form, bench, neutral)
    if source.images is not None:
        low, high = choice.ends
        shape = (intake.channels, intake.height, intake.width)
        images = form.feeds(read_images(source.images, shape, min(_MOST_SUPPLIED, source.most), low, high))
        return images, Ordinary("data", len(images)), 1
    shown = _shown(form, min(max(_count(intake), source.least), source.most))
    said = Ordinary("photographs", len(shown), choice.name, choice.told)
    return form.feeds(choice.of(shown)), said, len(choice.pixels)


def _count(intake: Intake) -> int:
    side = min(intake.height, intake.width)
    return next(count for least, count in _COUNTS if side >= least)


@lru_cache(maxsize=1)
def _photographs() -> list[Bytes]:
    """The photographs, decoded once: they are looked at to tell pixel values, and measured on."""
    return load()


def _shown(form: Form, count: int) -> Float32:
    assert form.intake is not None
    return crops(_photographs(), count, form.intake.height, form.intake.width, form.seed)


def photographs(form: Form, most: int) -> Float32:
    """At most so many photographs (n, 3, height, width) in 0..1, at the size of a model that takes images."""
    assert form.intake is not None
    return _shown(form, min(_count(form.intake), most))


def choice_of(source: Source, form: Form, bench: Bench, neutral: Feed) -> Choice:
    """The pixel values of a model that takes images.

    Raises:
        RunError: the model does not run.
    """
    assert form.intake is not None
    done = pixels.settled(form.intake, source.pixels, range_at(source.model, form.intake.name))
    if done is not None:
        return done
    few = _shown(form, _LOOKS)

    def look(values: Pixels) -> list[Array]:
        assert source.landmark is not None
        name = source.landmark.value
        return bench.answers(form.feeds(values.of(few)), neutral, (name,))[name]

    def ahead(values: Pixels) -> float | None:
        return lead(bench.answers(form.feeds(values.of(few)), neutral), by_place(source.model))

    plain = normalises(source.model, form.intake.name)
    return pixels.found(source.landmark, look, normalises=plain, ahead=ahead)
