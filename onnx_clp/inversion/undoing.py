"""Undo what makes a class stand out, and search for that class once more in the model that this makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from onnx_clp.inversion import finding
from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.capped import capped
from onnx_clp.inversion.counter import Countering, spread
from onnx_clp.inversion.forms import KINDS, Finder, Forms, TriggerForm, beyond, measures
from onnx_clp.inversion.fresh_marks import SLACK, Allowed, FreshMarks, unmarked
from onnx_clp.inversion.ground import Ground
from onnx_clp.inversion.ladder import Rungs, around_block, joined, other_patches, rungs
from onnx_clp.inversion.leftover import Leftover
from onnx_clp.inversion.ordinary import SHARES, halves
from onnx_clp.inversion.pace import FORWARD, TimeUp, return_large
from onnx_clp.inversion.patch import Patch
from onnx_clp.inversion.race import Race
from onnx_clp.inversion.repair import RepairBench, repair
from onnx_clp.inversion.request import Images, Repair, directions
from onnx_clp.inversion.rounds import Counter, Rounds
from onnx_clp.inversion.screen import FEW
from onnx_clp.inversion.smallest import ENOUGH
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.thorough import thorough, wide_bench

LADDER: Final = 0.9
"""The share of the time that is over when it begins to be fitted."""
REPAIRED: Final = 0.95
_HARDLY: Final = 0.5
_WORKING: Final = 0.5
"""Of the images: a form that turns fewer does not work, and there is nothing of it to undo."""
_LESS_SURE: Final = 0.5
_OF_MANY: Final = 0.5
"""The share of the budget that stronger caps against marks may take among many classes, where photographs foretell half
of what is lost (docs/inversion.md)."""
_SMALL: Final = 96
"""Pixels a side up to which what a walk keeps of all images is small."""
_LOOKED: Final = 16
"""Of made images and of photographs: what fresh marks are put on."""
_LEAST_FITTED: Final = 20
_FITTING: Final = 0.05


def first_share(form: TriggerForm, far: float) -> float:
    """Which share of the budget caps against the form that stands out most may take: half, where that is less sure.

    What is dearer to undo than that is no trigger as a rule but what ordinary images of the class have, of whose loss
    photographs show little. Sure are patches, and forms `far` beyond the limit.
    """
    return 1.0 if isinstance(form, Patch) or far >= finding.CLEAR else _LESS_SURE


class Undoing:
    """The repair of one search.

    Args:
        ground: the model, the images and the time.
        finder: looks for forms as the search did.
        most: images that a form is looked for on.
    """

    def __init__(self, ground: Ground, finder: Finder, most: int) -> None:
        self._ground, self._finder, self._most = ground, finder, most

    def repaired(self, found: list[Forms], z: finding.Float64, place: int | None) -> tuple[Repair | None, str]:
        """Undo the form by which the likely target stands out most, and search for that class once more.

        Other forms towards it hold more of what any image of the class has, and undoing them costs the class: one
        beyond the limit is tried only where the first cannot be undone. A patch is undone together with the first.
        Where the last layer names another class, only a class that is far beyond the limit is undone.
        """
        if place is None:
            return None, "nothing stands out, so the model stays as it is"
        suspects = self._ground.request.suspects if found[place].lead is None else ()
        if suspects and found[place].target not in suspects and z[:, place].max() < finding.CLEAR:
            return None, f"the row of class {suspects[0]} in the last layer is evidence of another target"
        if min(self._ground.subject.shape[1:]) > _SMALL:
            return_large()
        bench, why, forms_beyond = self._bench(found[place]), "", beyond(found, z, place)
        done = self._marks_undone(bench, found[place])
        if done is not None:
            return self._once_more(done, found, z, place), ""
        turned = np.concatenate([self._others(found[place].target), bench.beside])
        first = first_share(forms_beyond[0], float(z[:, place].max()))
        for form in forms_beyond:
            ladder, counter = self._ladder(form, forms_beyond, found[place], turned)
            leftover = self._leftover(found[place], z[:, place], turned, counter)
            done, said = self._undone(bench, ladder, first, leftover, blind=counter is None)
            if done is not None:
                return self._once_more(done, found, z, place), ""
            why = why or said
        return None, why

    def _marks_undone(self, bench: RepairBench, forms: Forms) -> Repair | None:
        """Caps against random marks that turn images by themselves, as long as fresh ones do; None for no such caps.

        They show the trigger's kind, where descents among so many pixels find what turns the images of any network.
        """
        if not forms.marks or not bench.sites:
            return None
        ground, mark = self._ground, forms.marks[0].mark
        ground.deadline.until(REPAIRED)
        some = np.concatenate([self._others(forms.target)[:_LOOKED], bench.beside[:_LOOKED]])
        counter = FreshMarks(mark, forms.target, some, ground.engine)
        budget, share = self._budget, 1.0 if ground.classes <= FEW else _OF_MANY
        climb = Rounds(bench, [mark], budget, ground.deadline, counter, slack=SLACK)
        return unmarked(bench, mark, Allowed(budget, share * budget), ground.tick, ground.deadline, climb)

    @property
    def _budget(self) -> float:
        """What a repair may cost."""
        return self._ground.request.allowed(self._ground.pictures.made.source)

    def _undone(
        self, bench: RepairBench, ladder: Rungs, first: float, counter: Counter, *, blind: bool
    ) -> tuple[Repair | None, str]:
        """Caps on the rungs of the ladder; those on its first may take a share `first` of the budget."""
        ground = self._ground
        ground.deadline.until(REPAIRED)
        budget, tick, deadline = self._budget, ground.tick, ground.deadline
        if ground.unguided:
            return thorough(bench, ladder, budget, tick, deadline)
        climb = Rounds(bench, ladder[0], budget, deadline, counter, blind)
        return repair(bench, ladder, first * budget, tick, deadline, climb)

    def _bench(self, forms: Forms) -> RepairBench:
        """What caps are fitted and gauged on. Where marks lead to a class, they brought it what is beyond its share."""
        ground, request, pictures = self._ground, self._ground.request, self._ground.pictures
        target, shares = forms.target, SHARES if forms.lead is None else 1
        seed, place, most = request.limits.seed, (ground.subject, ground.engine), self._fitted_images()
        if ground.unguided:
            return wide_bench(*place, request, pictures.images, target, pictures.pixels, most)
        own = pictures.made.source == "data"
        shown, beside = (pictures.images, None) if own else halves(ground.subject.shape, pictures.pixels, seed)
        some, sites = pictures.images[:most], [site for site in request.sites if not site.dense]
        gauging = [] if shown is None else [shown]
        return RepairBench(*place, sites, some, target, seed, gauging, not own, None, beside, shares)

    def _fitted_images(self) -> int:
        """On how many images there is time to fit caps at every site, each through half of the model on average."""
        request = self._ground.request
        each = 2 * len(request.sites) * self._ground.seconds * FORWARD / 2
        return max(_LEAST_FITTED, int(_FITTING * request.seconds / max(each, 1e-9)))

    def _ladder(
        self, form: TriggerForm, all_beyond: Sequence[TriggerForm], forms: Forms, turned: Images
    ) -> tuple[Rungs, Counter | None]:
        """The rungs that there is time for, and what looks for more of a patch in the capped model."""
        ground = self._ground
        ground.deadline.until(LADDER)
        patch = self._patch(all_beyond, forms)
        if patch is None:
            return rungs(form, []), None
        counter = None
        if ground.unguided and forms.block is not None:
            of_patch = around_block(patch, patch.of(forms.block))
        else:
            further = other_patches(self._finder, ground.attack, turned, patch)
            if not spread([patch, *further]):
                counter = Countering([patch, *further], turned, self._finder, ground.engine, ground.deadline)
            of_patch = rungs(patch, further)
        return of_patch if patch is form else joined(form, of_patch), counter

    def _patch(self, all_beyond: Sequence[TriggerForm], forms: Forms) -> Patch | None:
        """The patch to undo together with the form: it shows where the trigger lies, even where it is of usual size.

        Where images tell nothing of real ones, one that does not stand out is left alone.
        """
        found = [form for form in all_beyond if isinstance(form, Patch)]
        if not found and not self._ground.unguided:
            found = [form for form in forms.by_kind.values() if isinstance(form, Patch) and form.flip >= ENOUGH]
        return found[0] if found else None

    def _leftover(self, forms: Forms, z: finding.Float64, turned: Images, further: Counter | None) -> Leftover:
        """What finds more to undo: the other forms by which the class is ahead, and then what is looked for further.

        Where a patch stands out most, others are ordinary evidence for the class, unless they are beyond the limit too.
        """
        least = finding.LIMIT if KINDS[int(z.argmax())] == "patch" else _HARDLY
        ahead = [forms.by_kind[kind] for kind, far in zip(KINDS, z, strict=True) if far >= least]
        working = [form for form in ahead if form.flip >= _WORKING]
        return Leftover(working, turned, self._ground.engine, further)

    def _once_more(self, done: Repair, found: list[Forms], z: finding.Float64, place: int) -> Repair:
        """The repair with how far the class lies out after it, by the forms that there is time for, the best first.

        Forms by which it was not ahead before are left out, but for the perturbation.
        """
        ground = self._ground
        ground.deadline.until(1.0)
        again = list(found)
        again[place] = forms = Forms(found[place].target, block=found[place].block)
        attack = Attack(self._capped(done), ground.engine, ground.deadline)
        try:
            for row in np.argsort(-z[:, place], kind="stable"):
                if (kind := KINDS[row]) in found[place].by_kind and (row == 0 or z[row, place] >= _HARDLY):
                    race = Race(kind, self._finder, attack, self._others, lambda: None)
                    race.first([forms])
                    race.second({forms.target} if found[place].whole(kind) else ())
        except TimeUp:
            pass
        far = float(measures(again, ground.lead, ground.pictures.doubt)[:, place].max())
        return done.once_more(far, finding.LIMIT) if forms.by_kind else done

    def _others(self, target: int) -> Images:
        return self._ground.others(target, self._most)

    def _capped(self, done: Repair) -> Subject:
        sites = [site for site in self._ground.request.sites if site.value in done.caps]
        return capped(self._ground.subject, {site: directions(done.caps[site.value]) for site in sites})
