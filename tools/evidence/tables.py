"""The records as Markdown tables; every figure of docs/evidence.md that is a rate comes from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.evidence import choice, settings
from tools.evidence.choice import Score
from tools.evidence.record import Found, Rates
from tools.evidence.settings import NONE, Setting
from tools.evidence.subject import INFECTED_GROUPS, WITHOUT_BATCHNORM, Subject
from tools.evidence.yardsticks import BACKDOORBENCH, STRICT

Rows = Iterable[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the tables are made from: the models, and what was measured of them."""

    subjects: tuple[Subject, ...]
    found: Found

    def half(self, name: str) -> list[Subject]:
        """The models of one half."""
        return [one for one in self.subjects if one.half == name]

    def chosen(self) -> dict[str, Setting]:
        """The reported setting of each rule of which enough was measured."""
        out = {}
        for rule, of_rule in settings.rules().items():
            if choice.can_choose(self.subjects, self.found, of_rule):
                out[rule] = choice.choose(self.subjects, self.found, of_rule)
        return out

    def one_for_all(self) -> Setting | None:
        """The setting that is chosen among all that need no data; None before anything was measured."""
        if not choice.can_choose(self.subjects, self.found, settings.DATA_FREE):
            return None
        return choice.choose(self.subjects, self.found, settings.DATA_FREE)


def markdown(head: Sequence[str], rows: Rows) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def pair(shares: Sequence[float]) -> str:
    """The first two of some shares, ACC/ASR, in percent."""
    return "/".join(percent(share) for share in shares[:2])


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f}"


def models(evidence: Evidence) -> str:
    """What was trained: how many models of every architecture and attack, and in how many the attack took."""
    kinds = sorted({(one.result.design.dataset, one.result.design.architecture) for one in evidence.subjects})
    attacks = sorted({_attack(one) for one in evidence.subjects}, key=_attack_order)
    rows = [
        [f"{architecture}, {dataset}", *(_taken(evidence, dataset, architecture, attack) for attack in attacks)]
        for dataset, architecture in kinds
    ]
    return markdown(["architecture, data", *attacks], rows)


def _attack(subject: Subject) -> str:
    made = subject.result.design
    return f"{made.attack} {100 * made.rate:g} %" if made.infected else "clean"


def _attack_order(attack: str) -> tuple[bool, str]:
    return (attack == "clean", attack)


def _taken(evidence: Evidence, dataset: str, architecture: str, attack: str) -> str:
    here = [
        one
        for one in evidence.subjects
        if (one.result.design.dataset, one.result.design.architecture) == (dataset, architecture)
        and _attack(one) == attack
    ]
    if not here:
        return ""
    return str(len(here)) if attack == "clean" else f"{sum(one.infected for one in here)} of {len(here)}"


def not_taken(evidence: Evidence) -> str:
    """The poisoned models that count as neither infected nor clean, with their ASR."""
    out = [one for one in evidence.subjects if not one.clean and not one.infected]
    if not out:
        return "Every attack took."
    rows = [[one.name, percent(one.result.rates["acc"]), percent(one.result.rates["asr"])] for one in out]
    return markdown(["poisoned, but the attack did not take", "ACC", "ASR"], rows)


def headline(evidence: Evidence) -> str:
    """What the setting chosen for all does on the reporting half, beside fixed ones; "" before any was measured."""
    chosen = evidence.one_for_all()
    if chosen is None or not choice.score(evidence.half("report"), evidence.found, chosen.name).infected:
        return ""
    lines = [
        f"One setting for all models, chosen on the even seeds: {chosen.name} (`{chosen.command}`). On odd seeds:",
        "",
    ]
    for name in dict.fromkeys([chosen.name, settings.PAPER, settings.CAPS]):
        lines.append(f"- **{name}** {_deeds(evidence, name)}")
    return "\n".join(lines)


def _deeds(evidence: Evidence, name: str) -> str:
    reporting = evidence.half("report")
    near = [one for one in reporting if one.group in ("patch", "all-to-all")]
    far = [one for one in reporting if one.group not in ("patch", "all-to-all")]
    whole, local, spread = (choice.score(models, evidence.found, name) for models in (reporting, near, far))
    return (
        f"repairs {_share(local.strict, local.infected)} patch and all-to-all models by the strict yardstick, "
        f"{_share(spread.strict, spread.infected)} others, together {_share(whole.lenient, whole.infected)} by "
        f"BackdoorBench's; clean controls lose {percent(whole.control_loss)} points on average, "
        f"{percent(whole.worst_control_loss)} at most."
    )


def folded(evidence: Evidence, columns: Sequence[str]) -> str:
    """By architecture, on the reporting half: strict successes against patch and all-to-all, and mean values capped."""
    near = [one for one in evidence.half("report") if one.group in ("patch", "all-to-all") and one.infected]
    rows = []
    for name in sorted({one.result.design.architecture for one in near}):
        here = [one for one in near if one.result.design.architecture == name]
        rows.append([name, *(_folded_cell(evidence, here, column) for column in columns)])
    return markdown(["architecture", *columns], rows)


def _folded_cell(evidence: Evidence, here: Sequence[Subject], column: str) -> str:
    pairs = choice.pairs(here, evidence.found, column)
    if not pairs:
        return "–"
    repaired = sum(STRICT.passed(*pair) for _, pair in pairs)
    return f"{_share(repaired, len(pairs))} ({sum(after.capped for _, (_, after) in pairs) / len(pairs):.0f} capped)"


def rules(evidence: Evidence) -> str:
    """Each rule at its chosen setting, on the reporting half, and what the choosing half had promised."""
    head = ["rule, at the setting chosen for it", "promised", "strict"]
    head += [*INFECTED_GROUPS, "BackdoorBench", "ACC lost", "clean lost", "clean worst", "clean touched"]
    return markdown(head, [_rule_row(evidence, setting) for setting in _reported(evidence)])


def _reported(evidence: Evidence) -> list[Setting]:
    """The chosen settings, then the fixed ones that were not chosen, then those there was nothing to choose of."""
    chosen = list(evidence.chosen().values())
    names = [name for name in settings.FIXED if name != NONE] + [*settings.FOLDED, *settings.CALIBRATED]
    fixed = [settings.BY_NAME[name] for name in names]
    return chosen + [one for one in fixed if one not in chosen]


def _rule_row(evidence: Evidence, setting: Setting) -> list[str]:
    promised = choice.score(evidence.half("choose"), evidence.found, setting.name)
    reporting = evidence.half("report")
    whole = choice.score(reporting, evidence.found, setting.name)
    groups = [
        choice.score([one for one in reporting if one.group == group], evidence.found, setting.name)
        for group in INFECTED_GROUPS
    ]
    mark = "" if setting in evidence.chosen().values() else " (fixed)"
    return [
        setting.name + mark,
        _share(promised.strict, promised.infected),
        f"**{_share(whole.strict, whole.infected)}**",
        *(_share(one.strict, one.infected) for one in groups),
        _share(whole.lenient, whole.infected),
        percent(whole.infected_loss),
        percent(whole.control_loss),
        percent(whole.worst_control_loss),
        _share(whole.touched, whole.controls),
    ]


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "–"


def grid(evidence: Evidence) -> str:
    """Every setting on the choosing half; the chosen one of each rule in bold."""
    half, chosen = evidence.half("choose"), evidence.chosen()
    rows = []
    for setting in settings.TABLE:
        one = choice.score(half, evidence.found, setting.name)
        if one.infected:
            name = f"**{setting.name}**" if chosen.get(setting.rule) == setting else setting.name
            rows.append([name, *_grid_cells(one)])
    return markdown(["setting", "strict", "BackdoorBench", "ACC lost", "clean lost", "clean worst"], rows)


def _grid_cells(one: Score) -> list[str]:
    over = "" if one.allowed else " (too much)"
    return [
        _share(one.strict, one.infected),
        _share(one.lenient, one.infected),
        percent(one.infected_loss),
        percent(one.control_loss) + over,
        percent(one.worst_control_loss),
    ]


def architectures(evidence: Evidence, columns: Sequence[str]) -> str:
    """Strict successes on the reporting half by architecture, of infected models of any attack."""
    reporting = evidence.half("report")
    names = sorted({one.result.design.architecture for one in reporting})
    rows = []
    for name in names:
        here = [one for one in reporting if one.result.design.architecture == name]
        scores = [choice.score(here, evidence.found, column) for column in columns]
        note = " (no BatchNorm)" if name in WITHOUT_BATCHNORM else ""
        rows.append([name + note, *(_share(one.strict, one.infected) for one in scores)])
    return markdown(["architecture", *columns], rows)


def single(evidence: Evidence, columns: Sequence[str]) -> str:
    """Every model of the reporting half: ACC/ASR/RA in percent, without cleaning and under each setting.

    A success by the strict yardstick is bold, one by BackdoorBench's alone is in italics.
    """
    rows = []
    for one in sorted(evidence.half("report"), key=_single_order):
        rates = evidence.found.get(one.name, {})
        if NONE in rates:
            rows.append([label(one), *(_cell(one, rates, column) for column in (NONE, *columns))])
    return markdown(["model", NONE, *columns], rows)


def _single_order(one: Subject) -> tuple[int, str]:
    groups = [*INFECTED_GROUPS, "clean"]
    return (groups.index(one.group), one.name)


def label(one: Subject) -> str:
    """A model in words."""
    made = one.result.design
    width = f" w{made.width}" if made.width else ""
    recipe = f", {made.recipe.name}" if made.recipe.name != "plain" else ""
    missed = "" if one.clean or one.infected else " (did not take)"
    return f"{made.dataset} {made.architecture}{width} {_attack(one)}{recipe}, seed {made.seed}{missed}"


def _cell(one: Subject, rates: Mapping[str, Rates], column: str) -> str:
    if column not in rates:
        return ""
    found = rates[column]
    text = f"{percent(found.acc)}/{percent(found.asr)}/{percent(found.ra)}"
    if column == NONE or not one.infected:
        return text
    if STRICT.passed(rates[NONE], found):
        return f"**{text}**"
    return f"*{text}*" if BACKDOORBENCH.passed(rates[NONE], found) else text


def unjudged(evidence: Evidence) -> str:
    """What the tool answers for networks without BatchNormalization, by default and with caps."""
    rows = []
    for one in evidence.subjects:
        rates = evidence.found.get(one.name, {})
        if (
            one.result.design.architecture in WITHOUT_BATCHNORM
            and {NONE, settings.PAPER, settings.CAPS} <= rates.keys()
        ):
            default, caps = rates[settings.PAPER], rates[settings.CAPS]
            asr = [percent(rates[name].asr) for name in (NONE, settings.PAPER, settings.CAPS)]
            rows.append([label(one), default.verdict, str(default.pruned), str(caps.capped), *asr])
    return markdown(["model", "verdict", "pruned", "capped", "ASR before", settings.PAPER, settings.CAPS], rows)
