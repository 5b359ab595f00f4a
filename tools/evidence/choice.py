"""Which setting of a rule is reported. Written down, and committed, before any setting was measured on the zoo.

On the choosing half (even seeds), of a rule's settings that cost the clean controls at most `ALLOWED` of ACC on
average, take the one with the most strict successes over all infected models of all groups; then the most
successes by BackdoorBench's yardstick; then the least mean ACC lost over the infected models; then the first in
the table. Where no setting is within `ALLOWED`, the one that costs the controls least.
The reporting half (odd seeds) has no say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from onnx_clp.errors import UsageError
from tools.evidence.record import Found, Rates
from tools.evidence.settings import NONE, Setting
from tools.evidence.subject import Subject
from tools.evidence.yardsticks import BACKDOORBENCH, STRICT, loss

ALLOWED = 0.01


@dataclass(frozen=True, slots=True)
class Score:
    """What one setting does to a set of models.

    `infected` and `controls` count the models measured; `strict` and `lenient` count successes by the two
    yardsticks. Losses are shares of ACC (means are 0 over no model); `touched` counts controls in which at least
    one channel was pruned.
    """

    infected: int
    strict: int
    lenient: int
    infected_loss: float
    controls: int
    control_loss: float
    worst_control_loss: float
    touched: int

    @property
    def allowed(self) -> bool:
        """Whether the controls lose no more than `ALLOWED` on average."""
        return self.control_loss <= ALLOWED


Pair = tuple[Rates, Rates]
"""A model before and after."""


def pairs(subjects: Iterable[Subject], found: Found, setting: str) -> list[tuple[Subject, Pair]]:
    """The models that were measured both without cleaning and with `setting`."""
    out = []
    for subject in subjects:
        rates = found.get(subject.name, {})
        if NONE in rates and setting in rates:
            out.append((subject, (rates[NONE], rates[setting])))
    return out


def score(subjects: Iterable[Subject], found: Found, setting: str) -> Score:
    """Count a setting's successes and losses; a poisoned model whose attack did not take is left out."""
    measured = pairs(subjects, found, setting)
    infected = [pair for subject, pair in measured if subject.infected]
    controls = [pair for subject, pair in measured if subject.clean]
    lost = [loss(*pair) for pair in controls]
    return Score(
        infected=len(infected),
        strict=sum(STRICT.passed(*pair) for pair in infected),
        lenient=sum(BACKDOORBENCH.passed(*pair) for pair in infected),
        infected_loss=_mean([loss(*pair) for pair in infected]),
        controls=len(controls),
        control_loss=_mean(lost),
        worst_control_loss=max(lost, default=0.0),
        touched=sum(after.pruned > 0 for _, after in controls),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def choose(subjects: Sequence[Subject], found: Found, settings: Sequence[Setting]) -> Setting:
    """The setting of one rule that is reported, by the models of the choosing half among `subjects`.

    A setting that was measured on fewer of them than another is not compared.

    Raises:
        UsageError: none of `settings` was measured on an infected model and on a control of that half.
    """
    scores = _scores(subjects, found, settings)
    if not scores:
        raise UsageError(f"{settings[0].rule}: nothing measured on the choosing half; run measure --half choose")
    allowed = [pair for pair in scores if pair[1].allowed]
    if not allowed:
        return min(scores, key=lambda pair: pair[1].control_loss)[0]
    return max(allowed, key=lambda pair: (pair[1].strict, pair[1].lenient, -pair[1].infected_loss))[0]


def can_choose(subjects: Sequence[Subject], found: Found, settings: Sequence[Setting]) -> bool:
    """Whether `choose` has anything to choose by."""
    return bool(_scores(subjects, found, settings))


def _scores(subjects: Sequence[Subject], found: Found, settings: Sequence[Setting]) -> list[tuple[Setting, Score]]:
    half = [subject for subject in subjects if subject.half == "choose"]
    scores = [(setting, score(half, found, setting.name)) for setting in settings]
    most = max((one.infected + one.controls for _, one in scores), default=0)
    whole = [(setting, one) for setting, one in scores if one.infected + one.controls == most]
    return [(setting, one) for setting, one in whole if one.infected and one.controls]
