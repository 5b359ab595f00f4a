"""The search proper: every form towards every class as far as time allows, and what they move.

It goes form by form, not class by class: classes are compared, so a form says something once all have it. Of every form
all classes run a first heat (`race`); where one is ahead, it and the nearest go on, with as many others to compare them
with. Images and steps are fewer where an image through the model and back takes long, and a form that there is no time
for is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from onnx_clp.document.search import ChannelChanges
from onnx_clp.errors import UsageError
from onnx_clp.inversion import blocks, finding, screen
from onnx_clp.inversion.changes import changes
from onnx_clp.inversion.descent import Float32
from onnx_clp.inversion.forms import KINDS, STEPS_OF, Finder, Forms, backed, furthest, measures
from onnx_clp.inversion.ground import Ground
from onnx_clp.inversion.lineup import RUNNERS, by_block, decided, first, going_on, led, spread
from onnx_clp.inversion.ordinary import photographs
from onnx_clp.inversion.pace import FORWARD, TimeUp, fewer
from onnx_clp.inversion.portions import SIZE
from onnx_clp.inversion.race import FIRST, Race
from onnx_clp.inversion.request import Images
from onnx_clp.inversion.trigger import JUDGING_BUDGET, MOST_IMAGES, invert, others

SEARCHED: Final = 0.8
"""The share of the time that is over when the repair begins."""
_LEAST_PORTION: Final = 4
"""Images a step; 16 are taken where there is time, and only from so few on steps become fewer too."""
_SURE_PORTION: Final = 8
"""What is found on fewer a step has to be agreed to by another form."""
_ROUND: Final = 4
_LEAST_IMAGES: Final = 24
_LEAST_COMPARING: Final = 8
_MANY_CLASSES: Final = 20
_MOST_CLASSES: Final = 50
"""So many are looked at whatever they take; of more than these as many as there is time for, up to so many."""
_FEWEST_OF_MANY: Final = 8
"""Of many classes: those that marks of each of four kinds lead to, and as many to compare them with."""
_FOR_MARKS: Final = 0.15
_LEAST_MARKS: Final = 4
_CHEAP_STEPS: Final = 8
_FEWEST_OTHERS: Final = 5
_COMPARING: Final = 0.25
_FIRST_STEPS: Final = STEPS_OF["perturbation"] + STEPS_OF["patch"] * FIRST
_FOR_FIRST: Final = 0.6
_FOR_BLOCKS: Final = 0.25


class Hunt:
    """Looks for triggers.

    Attributes:
        finder: how descents are made; with fewer steps where time is short.
        most: images that a form is looked for on.
        hurried: whether there was no time for all that would have been looked for.

    Args:
        ground: the model, the images and the time.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground, self._hasty = ground, set[str]()
        self.most, self.finder = MOST_IMAGES, Finder(ground.pictures.pixels, ground.request.limits.seed)
        self.hurried = False
        self._marks: dict[int, list[screen.Turning]] = {}
        self._leads: dict[int, screen.Lead] = {}

    @property
    def hasty(self) -> list[int]:
        """The rows of forms for which there was no time for all steps, on enough images, or towards all classes."""
        short = self.finder.factor < 1 or self.finder.portion < _SURE_PORTION
        return [row for row, kind in enumerate(KINDS) if short or kind in self._hasty]

    def each_class(self) -> list[Forms]:
        """What was found by the time: every form towards every class, or as many as there was time for."""
        self._ground.deadline.until(SEARCHED)
        found, kind = list[Forms](), KINDS[0]
        try:
            starts = self._blocks()
            chosen = self._chosen(starts)
            found += [self._begun(target, starts) for target in chosen]
            self._thin(len(found))
            for level, kind in enumerate(KINDS):
                if level and self._over(level, found):
                    break
                self._level(level, kind, found)
        except TimeUp:
            self._hurry(kind)
        return [forms for forms in found if "perturbation" in forms.by_kind]

    def _begun(self, target: int, starts: Mapping[int, Float32]) -> Forms:
        marks, lead = self._marks.get(target, ()), self._leads.get(target)
        return Forms(target, block=starts.get(target), marks=marks, lead=lead)

    def _over(self, level: int, found: list[Forms]) -> bool:
        """Whether further forms change nothing: of which class is named, and of what is undone first."""
        if led(found) is not None:
            return True
        return level > KINDS.index("patch") and by_block(found, self._sure(found))

    def _hurry(self, *kinds: str) -> None:
        """Note that there was no time for all of these forms."""
        self.hurried = True
        self._hasty.update(kinds)

    def led(self, found: list[Forms]) -> int | None:
        """Position of the class that random marks lead to, asked where nothing else names one; None for none."""
        ground, able = self._ground, [forms.target for forms in found]
        ground.deadline.until(1.0)
        cost = 2 * screen.forwards(screen.MARKS) * FORWARD * ground.seconds
        if self._marks or not able or cost > _FOR_MARKS * ground.request.seconds:
            return None
        self._screened(able)
        for forms in found:
            forms.marks, forms.lead = self._marks.get(forms.target, ()), self._leads.get(forms.target)
        return led(found)

    def judged(self, found: list[Forms]) -> finding.Float64:
        """How far each class stands out by each form, (forms, classes)."""
        return measures(found, self._ground.lead, self._ground.pictures.doubt)

    def doubted(self, found: list[Forms], z: finding.Float64) -> finding.Doubted:
        """What another form has to agree with: hasty forms, and all but patches unless far beyond the limit.

        Nothing of a class that is backed is doubted. `z` is what `judged` gives.
        """
        doubted = z < finding.CLEAR
        doubted[KINDS.index("patch")] = False
        doubted[self.hasty] = True
        doubted[:, backed(found)] = False
        return doubted

    def _sure(self, found: list[Forms]) -> finding.Float64:
        """The same, without what a doubted form alone says."""
        z = self.judged(found)
        return finding.agreed(z, self.doubted(found, z))

    def changes(self, found: list[Forms], z: finding.Float64, place: int) -> tuple[ChannelChanges, ...]:
        """How far the form by which the class at `place` stands out most moves every channel of the sites."""
        ground, form = self._ground, furthest(found, z, place)
        rest = ground.others(found[place].target, self.most)
        return changes(ground.subject, ground.engine, ground.request.sites, rest, form, ground.tick)

    def _chosen(self, starts: Collection[int]) -> list[int]:
        """The classes to search, in the order in which to begin.

        Of many classes suspects come first, then those that a small block turns images into, then those that random
        marks lead to, then the nearest by a short search where there is time for one.
        """
        able = [c for c in range(self._ground.classes) if np.count_nonzero(self._ground.given != c) >= _FEWEST_OTHERS]
        if not able:
            raise UsageError("the model gives all images one class; no trigger can be recognised by that")
        affordable = max(_FEWEST_OF_MANY, min(_MOST_CLASSES, self._classes_affordable()))
        if len(able) <= max(affordable, _MANY_CLASSES):
            return first(able, self._ground.request.suspects)
        screened = self._screened(able)
        most = int(_COMPARING * self._ground.deadline.left / (len(able) * _CHEAP_STEPS * self._ground.seconds))
        ordered = self._compared(able, most) if most >= _LEAST_COMPARING else screened
        for named in (screened[: screen.LEADING], starts, self._ground.request.suspects):
            ordered = first(ordered, named)
        if affordable < _MANY_CLASSES:
            self._hurry(*KINDS)
        return spread(ordered, RUNNERS if self._leads else affordable)

    def _compared(self, classes: list[int], most: int) -> list[int]:
        """The classes in the order in which a short search on at most so many images brings them near."""
        reached, pixels, seed = [], self._ground.pictures.pixels, self._ground.request.limits.seed
        for at, target in enumerate(classes):
            some = self._others(target)[:most]
            found = invert(self._ground.attack, some, target, pixels, seed, _CHEAP_STEPS, JUDGING_BUDGET)
            reached.append(found.margin)
            self._ground.tick("compare", at + 1, len(classes))
        return [classes[at] for at in np.argsort(-np.asarray(reached), kind="stable")]

    def _screened(self, classes: list[int]) -> list[int]:
        """The classes in the order in which random marks lead to them; on photographs, where the model takes any."""
        ground, able = self._ground, set(classes)
        pixels, seed, scores = ground.pictures.pixels, ground.request.limits.seed, ground.attack.logits
        photos = photographs(ground.subject.shape, pixels, seed, 2 * screen.MORE)
        images = ground.pictures.images if photos is None else photos
        affordable = _FOR_MARKS * ground.deadline.left / (screen.forwards(1) * FORWARD * ground.seconds)
        count = fewer(screen.MARKS, affordable / screen.MARKS, _LEAST_MARKS)
        found = screen.screened(scores, images, pixels, seed, count)
        ordered = [int(one) for one in found.order if int(one) in able]
        leads, given = screen.leads(scores, images, found), scores(images).argmax(axis=1)
        ordered = first(ordered, leads)
        for target in ordered[: screen.LEADING]:
            rest = others(images, given, target, screen.MORE)
            self._marks[target] = screen.turning(scores, rest, found.likely(target), target)
        self._leads = {target: lead for target, lead in leads.items() if self._confirmed(target)}
        return ordered

    def _confirmed(self, target: int) -> bool:
        """Whether a mark that turns photographs also turns images made from the model."""
        marks, made = [one.mark for one in self._marks.get(target, ())], self._ground.others(target, screen.MORE)
        return bool(screen.turning(self._ground.attack.logits, made, marks, target, screen.CONFIRMS))

    def _classes_affordable(self) -> int:
        """How many classes there is time for at full steps."""
        return int(_FOR_FIRST * self._ground.deadline.left / (SIZE * _FIRST_STEPS * self._ground.seconds))

    def _thin(self, classes: int) -> None:
        """Take as many images a step, and steps a form, as there is time for."""
        affordable = _FOR_FIRST * self._ground.deadline.left / (classes * _FIRST_STEPS * self._ground.seconds)
        portion = fewer(SIZE, affordable / SIZE, _LEAST_PORTION)
        self.most = min(self.most, max(_ROUND * portion, _LEAST_IMAGES))
        self.finder = replace(self.finder, factor=min(1.0, affordable / portion), portion=portion)

    def _affordable(self, kind: str, found: list[Forms]) -> list[Forms]:
        """The classes for a first heat: all, the nearest and as many others, or none."""
        if kind == KINDS[0]:
            return found
        z = self.judged(found)
        steps = FIRST * self.finder.steps(kind)
        wanted = min(len(found), RUNNERS) if decided(self._sure(found)) else len(found)
        most = int(self._ground.deadline.left / (steps * self.finder.portion * self._ground.seconds))
        if most < wanted:
            self._hurry(kind)
        most = min(most, wanted)
        if most >= len(found):
            return found
        if most < finding.LEAST_CLASSES + 2:
            return []
        nearest = [found[at] for at in np.argsort(-z.max(axis=0), kind="stable")]
        suspects = [forms for forms in nearest if forms.target in self._ground.request.suspects]
        return spread(first(nearest, suspects), most)

    def _blocks(self) -> dict[int, Float32]:
        """Where patches begin instead, by class: small blocks that turn images, if there is time to try them."""
        ground = self._ground
        cost = blocks.forwards(ground.classes) * FORWARD * ground.seconds
        if cost > _FOR_BLOCKS * ground.deadline.left:
            return {}
        return blocks.starts(ground.attack, ground.pictures.images, ground.given, ground.pictures.pixels)

    def _level(self, level: int, kind: str, found: list[Forms]) -> None:
        todo, done = self._affordable(kind, found), 0

        def each() -> None:
            nonlocal done
            done = min(done + 1, len(todo))
            self._ground.tick("invert", level * len(todo) + done, len(KINDS) * len(todo))

        self._run(Race(kind, self.finder, self._ground.attack, self._others, each), todo, found)

    def _run(self, race: Race, todo: Sequence[Forms], found: list[Forms]) -> None:
        """Both heats of a race."""
        race.first(todo)
        if race.kind == KINDS[0]:
            race.second({forms.target for forms in todo})
            return
        suspects = [at for at, forms in enumerate(found) if forms.target in self._ground.request.suspects]
        places = going_on(self.judged(found), KINDS.index(race.kind), suspects)
        race.second({found[at].target for at in places})

    def _others(self, target: int) -> Images:
        return self._ground.others(target, self.most)
