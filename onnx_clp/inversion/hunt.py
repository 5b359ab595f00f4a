"""The search proper: every form towards every class as far as time allows, what they move, and the repair.

It goes form by form, not class by class: classes are compared, so a form says something once all have it. Of every form
all classes run a first heat (`race`); where one is ahead, it and the nearest go on, with as many others to compare them
with. Images and steps are fewer where an image through the model and back takes long, and a form that there is no time
for is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from onnx_clp.document.search import ChannelChanges, SearchImages
from onnx_clp.errors import UsageError
from onnx_clp.inversion import blocks, finding, screen
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.capped import capped
from onnx_clp.inversion.changes import changes
from onnx_clp.inversion.forms import KINDS, STEPS_OF, Finder, Forms, TriggerForm, beyond, furthest, measures
from onnx_clp.inversion.ladder import Rungs, around_block, joined, other_patches, rungs
from onnx_clp.inversion.lineup import RUNNERS, decided, first, going_on, spread
from onnx_clp.inversion.ordinary import photographs
from onnx_clp.inversion.pace import Deadline, TimeUp, fewer, thinned
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.pixels import Range
from onnx_clp.inversion.portions import SIZE
from onnx_clp.inversion.race import FIRST, Race
from onnx_clp.inversion.repair import RepairBench, repair
from onnx_clp.inversion.request import Images, Repair, SearchRequest, directions
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.thorough import thorough, unguided, wide_bench
from onnx_clp.inversion.trigger import JUDGING_BUDGET, MOST_IMAGES, invert, lead, others
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine

SEARCHED: Final = 0.8
"""The share of the time that is over when the repair begins."""
LADDER: Final = 0.9
"""The share of the time that is over when it begins to be fitted."""
REPAIRED: Final = 0.95
LEAST_IMAGES: Final = 8
"""Of a portion; 16 are taken where there is time, and below that steps become fewer too."""
_ROUND: Final = 4
_HARDLY: Final = 0.5
_LEAST_FITTED: Final = 20
_FITTING: Final = 0.05
_FORWARD: Final = 0.3
"""The share of the time there and back that an image takes there."""
_MANY_CLASSES: Final = 20
_CHEAP_STEPS: Final = 8
_FEWEST_OTHERS: Final = 5
_COMPARING: Final = 0.25
_FIRST_STEPS: Final = STEPS_OF["perturbation"] + STEPS_OF["patch"] * FIRST
_FOR_FIRST: Final = 0.6
_FOR_BLOCKS: Final = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The images of a search and where they come from."""

    images: Images
    made: SearchImages
    pixels: Range

    @property
    def doubt(self) -> float:
        """Times the usual spread of classes that these images lead to."""
        return finding.UNMATCHED if self.made.source == "classes" else 1.0


class Hunt:
    """What one search has at hand once it has its images.

    Attributes:
        classes: how many classes the model tells apart.
        hurried: whether there was no time for all that would have been looked for.

    Args:
        request: what is asked.
        subject, engine, attack: the model, and where and how it runs.
        pictures: the images.
        seconds: for one image through the model and back.
        deadline: when to be done.
        tick: called as the work goes on.
    """

    def __init__(
        self,
        request: SearchRequest,
        subject: Subject,
        engine: Engine,
        attack: Attack,
        pictures: Pictures,
        seconds: float,
        deadline: Deadline,
        tick: Tick,
    ) -> None:
        self._request, self._subject, self._engine, self._attack = request, subject, engine, attack
        self._pictures, self._seconds, self._deadline, self._tick = pictures, seconds, deadline, tick
        logits = attack.logits(pictures.images)
        self._given, self._lead = logits.argmax(axis=1), lead(logits)
        self.classes, self.hurried = logits.shape[1], False
        self._unguided = unguided(request, pictures.made.source)
        self._most, self._finder = MOST_IMAGES, Finder(pictures.pixels, request.limits.seed)

    def each_class(self) -> list[Forms]:
        """What was found by the time: every form towards every class, or as many as there was time for."""
        self._deadline.until(SEARCHED)
        found: list[Forms] = []
        try:
            found += map(Forms, self._chosen())
            self._thin(len(found))
            for level, kind in enumerate(KINDS):
                if kind == "patch":
                    self._begin_at_blocks(found)
                self._level(level, kind, found)
        except TimeUp:
            self.hurried = True
        return [forms for forms in found if "perturbation" in forms.by_kind]

    def judged(self, found: list[Forms]) -> finding.Float64:
        """How far each class stands out by each form, (forms, classes)."""
        return measures(found, self._lead, self._pictures.doubt)

    def changes(self, found: list[Forms], z: finding.Float64, place: int) -> tuple[ChannelChanges, ...]:
        """How far the form by which the class at `place` stands out most moves every channel of the sites."""
        images = self._pictures.images
        rest = others(images, self._given, found[place].target, len(images))
        form = furthest(found, z, place)
        return changes(self._subject, self._engine, self._request.sites, rest, form, self._tick)

    def repaired(self, found: list[Forms], z: finding.Float64, place: int | None) -> tuple[Repair | None, str]:
        """Undo the form by which the likely target stands out most, and search for that class once more.

        Other forms towards it hold more of what any image of the class has, and undoing them costs the class: one
        beyond the limit is tried only where the first cannot be undone. A patch is undone together with the first.
        """
        if place is None:
            return None, "nothing stands out, so the model stays as it is"
        bench, why = self._bench(found[place].target), ""
        forms_beyond = beyond(found, z, place)
        for form in forms_beyond:
            ladder = self._ladder(form, forms_beyond, found[place])
            self._deadline.until(REPAIRED)
            undo = thorough if self._unguided else repair
            done, said = undo(bench, ladder, self._request.budget, self._tick, self._deadline)
            if done is not None:
                return self._once_more(done, found, z, place), ""
            why = why or said
        return None, why

    def _bench(self, target: int) -> RepairBench:
        request, pictures, seed = self._request, self._pictures, self._request.limits.seed
        place, most = (self._subject, self._engine), self._fitted_images()
        if self._unguided:
            return wide_bench(*place, request, pictures.images, target, pictures.pixels, most)
        own = pictures.made.source == "data"
        shown = pictures.images if own else photographs(self._subject.shape, pictures.pixels, seed)
        some, sites = pictures.images[:most], [site for site in request.sites if not site.dense]
        return RepairBench(*place, sites, some, target, seed, [] if shown is None else [shown], not own)

    def _fitted_images(self) -> int:
        """On how many images there is time to fit caps at every site, each through half of the model on average."""
        each = 2 * len(self._request.sites) * self._seconds * _FORWARD / 2
        return max(_LEAST_FITTED, int(_FITTING * self._request.seconds / max(each, 1e-9)))

    def _ladder(self, form: TriggerForm, all_beyond: Sequence[TriggerForm], forms: Forms) -> Rungs:
        """The rungs that there is time for."""
        self._deadline.until(LADDER)
        patch = next((one for one in all_beyond if isinstance(one, Patch)), None)
        if patch is None:
            return rungs(form, [])
        if self._unguided and forms.block is not None:
            of_patch = around_block(patch, patch.of(forms.block))
        else:
            of_patch = rungs(patch, other_patches(self._finder, self._attack, self._others(forms.target), patch))
        return of_patch if patch is form else joined(form, of_patch)

    def _once_more(self, done: Repair, found: list[Forms], z: finding.Float64, place: int) -> Repair:
        """The repair with how far the class lies out after it, by the forms that there is time for, the best first.

        Forms by which it was not ahead before are left out, but for the perturbation.
        """
        self._deadline.until(1.0)
        again = list(found)
        again[place] = forms = Forms(found[place].target, block=found[place].block)
        attack = Attack(self._capped(done), self._engine, self._deadline)
        try:
            for row in np.argsort(-z[:, place], kind="stable"):
                if (kind := KINDS[row]) in found[place].by_kind and (row == 0 or z[row, place] >= _HARDLY):
                    race = Race(kind, self._finder, attack, self._others, lambda: None)
                    race.first([forms])
                    race.second({forms.target} if found[place].whole(kind) else ())
        except TimeUp:
            pass
        far = float(self.judged(again)[:, place].max())
        return done.once_more(far, finding.LIMIT) if forms.by_kind else done

    def _chosen(self) -> list[int]:
        """The classes to search, in the order in which to begin."""
        able = [c for c in range(self.classes) if np.count_nonzero(self._given != c) >= _FEWEST_OTHERS]
        if not able:
            raise UsageError("the model gives all images one class; no trigger can be recognised by that")
        if len(able) <= _MANY_CLASSES:
            return first(able, self._request.suspects)
        most = int(_COMPARING * self._deadline.left / (len(able) * _CHEAP_STEPS * self._seconds))
        ordered = self._compared(able, most) if most >= LEAST_IMAGES else self._screened(able)
        ordered = first(ordered, self._request.suspects)
        return spread(ordered, max(finding.LEAST_CLASSES + 2, min(_MANY_CLASSES, self._classes_affordable())))

    def _compared(self, classes: list[int], most: int) -> list[int]:
        """The classes in the order in which a short search on at most so many images brings them near."""
        reached, pixels, seed = [], self._pictures.pixels, self._request.limits.seed
        for at, target in enumerate(classes):
            some = self._others(target)[:most]
            found = invert(self._attack, some, target, pixels, seed, _CHEAP_STEPS, JUDGING_BUDGET)
            reached.append(found.margin)
            self._tick("compare", at + 1, len(classes))
        return [classes[at] for at in np.argsort(-np.asarray(reached), kind="stable")]

    def _screened(self, classes: list[int]) -> list[int]:
        """The classes in the order in which random marks bring them near."""
        pictures, able = self._pictures, set(classes)
        ordered = screen.order(self._attack, pictures.images, pictures.pixels, self._request.limits.seed)
        return [int(one) for one in ordered if int(one) in able]

    def _classes_affordable(self) -> int:
        """How many classes there is time for at full steps."""
        return int(_FOR_FIRST * self._deadline.left / (SIZE * _FIRST_STEPS * self._seconds))

    def _thin(self, classes: int) -> None:
        """Take as many images a step, and steps a form, as there is time for."""
        affordable = _FOR_FIRST * self._deadline.left / (classes * _FIRST_STEPS * self._seconds)
        factor = thinned(affordable, SIZE)
        portion = fewer(SIZE, factor, LEAST_IMAGES)
        self._most = min(self._most, _ROUND * portion)
        self._finder = replace(self._finder, factor=factor, portion=portion)

    def _affordable(self, kind: str, found: list[Forms]) -> list[Forms]:
        """The classes for a first heat: all, the nearest and as many others, or none."""
        if kind == KINDS[0]:
            return found
        z = self.judged(found)
        steps = FIRST * self._finder.steps(kind)
        wanted = min(len(found), RUNNERS) if decided(z) else len(found)
        most = int(self._deadline.left / (steps * self._finder.portion * self._seconds))
        self.hurried |= most < wanted
        most = min(most, wanted)
        if most >= len(found):
            return found
        if most < finding.LEAST_CLASSES + 2:
            return []
        nearest = [found[at] for at in np.argsort(-z.max(axis=0), kind="stable")]
        suspects = [forms for forms in nearest if forms.target in self._request.suspects]
        return spread(first(nearest, suspects), most)

    def _begin_at_blocks(self, found: list[Forms]) -> None:
        """Let patches begin at small blocks where these turn images, if there is time to try them."""
        cost = blocks.forwards(self.classes) * _FORWARD * self._seconds
        if cost > _FOR_BLOCKS * self._deadline.left:
            return
        starts = blocks.starts(self._attack, self._pictures.images, self._given, self._pictures.pixels)
        for forms in found:
            forms.block = starts.get(forms.target)

    def _level(self, level: int, kind: str, found: list[Forms]) -> None:
        todo, done = self._affordable(kind, found), 0

        def each() -> None:
            nonlocal done
            done = min(done + 1, len(todo))
            self._tick("invert", level * len(todo) + done, len(KINDS) * len(todo))

        self._run(Race(kind, self._finder, self._attack, self._others, each), todo, found)

    def _run(self, race: Race, todo: Sequence[Forms], found: list[Forms]) -> None:
        """Both heats of a race."""
        race.first(todo)
        if race.kind == KINDS[0]:
            race.second({forms.target for forms in todo})
            return
        suspects = [at for at, forms in enumerate(found) if forms.target in self._request.suspects]
        places = going_on(self.judged(found), KINDS.index(race.kind), suspects)
        race.second({found[at].target for at in places})

    def _others(self, target: int) -> Images:
        return others(self._pictures.images, self._given, target, self._most)

    def _capped(self, done: Repair) -> Subject:
        sites = [site for site in self._request.sites if site.value in done.caps]
        return capped(self._subject, {site: directions(done.caps[site.value]) for site in sites})
