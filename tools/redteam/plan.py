"""The bench: which edits go into which networks, with which seeds and classes.

Limits of the audit were chosen on the networks of the half "settings"; the half "report" was only measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.redteam import gates
from tools.redteam.catalogue import ADAPTIVE, OTHERS, PATHS

_PLAIN: Final = tuple(name for name in PATHS if name not in ADAPTIVE)
_GATES: Final = tuple(f"gate-{kind}" for kind in gates.KINDS if f"gate-{kind}" not in ADAPTIVE)
_FASHION: Final = "fashion-mnist_badnets_target0.npz"
_TURNS: Final = 2
_AIMED: Final = tuple(name for name in ADAPTIVE if name in PATHS)
_AIMED_SEED: Final = 9000
_FEW: Final = 40
_MANY: Final = 200


@dataclass(frozen=True, slots=True)
class Base:
    """A network that edits go into.

    Attributes:
        name: as shown.
        model, samples: relative to the folders that the command is given.
        half: "settings" or "report".
        classes: how many it has; targets are drawn from them.
        most: images taken.
        large: whether it is slow, so that it gets few edits, set by few images.
    """

    name: str
    model: str
    samples: str
    half: str
    classes: int
    most: int = _MANY
    large: bool = False


def _published(name: str, half: str, classes: int) -> Base:
    return Base(name, f"{name}/model.onnx", f"{name}/eval.npz", half, classes)


BASES: Final = (
    Base("resnet18_clean", "resnet18_clean.onnx", _FASHION, "settings", 10),
    _published("nad_wrn16_teacher", "settings", 10),
    _published("ibau_cifar_badnets", "settings", 10),
    _published("finepruning_face_bd", "settings", 100),
    _published("wxr_mnist_clean", "settings", 10),
    Base(
        "resnet18_badnets.folded", "resnet18_badnets.folded.onnx", "fashion-mnist_badnets_target0.npz", "settings", 10
    ),
    _published("abl_wrn16_badnets", "report", 10),
    _published("dltnd_pixel1_5000", "report", 10),
    _published("ibau_gtsrb_badnets", "report", 43),
    _published("oaramoon_gtsrb_badnets", "report", 43),
    _published("csaw2020_multi", "settings", 100),
    _published("shihao_mnist", "report", 10),
    _published("verazuo_cifar", "report", 10),
    Base("efficientnet-lite0", "efficientnet-lite0.onnx", "efficientnet-lite0.npz", "settings", 1000, _FEW, True),
    Base("mobilenetv2", "mobilenetv2.onnx", "mobilenetv2.npz", "settings", 1000, _FEW, True),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One edit of one network."""

    base: Base
    edit: str
    seed: int
    target: int


def entries() -> Iterator[Entry]:
    """All of them, in order: every network with some of the edits, the small ones once more with others.

    Then every small one with all paths that aim at the audit.
    """
    for turn in range(_TURNS):
        for number, base in enumerate(BASES):
            if not (turn and base.large):
                for at, edit in enumerate(_edits(number + turn, base)):
                    seed = 5000 * turn + 100 * number + at
                    yield Entry(base, edit, seed, (7 * number + 3 * at + turn + 1) % base.classes)
    for base in BASES:
        if not base.large:
            yield from (Entry(base, edit, _AIMED_SEED, _AIMED_SEED % base.classes) for edit in _AIMED)


def _edits(number: int, base: Base) -> Iterator[str]:
    if base.large:
        yield from ("gate-ramp", "gate-logistic", "level")
        return
    yield from (name for at, name in enumerate(_PLAIN) if at != number % len(_PLAIN))
    yield from (_GATES[(number + at) % len(_GATES)] for at in (0, 3))
    yield OTHERS[number % len(OTHERS)]
    yield ADAPTIVE[number % len(ADAPTIVE)]


def located(folders: list[Path], name: str) -> Path | None:
    """The file of that name in the first folder that has it; None where none has."""
    return next((folder / name for folder in folders if (folder / name).exists()), None)
