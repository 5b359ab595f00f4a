"""From the list of networks at real size to folders: the file, its evaluation set and what was measured of it.

    WORK/NAME/model.onnx     the published file with the weights after planting
    WORK/NAME/eval.npz       photographs that nothing was trained on, with and without the trigger (`tools.zoo.evalset`)
    WORK/NAME/plant.json     the design, the course, and `Measured`; written last

Only `grow` needs torch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto

from onnx_clp.errors import LoadError
from tools.harm import photographs
from tools.zoo.datasets import Images, Labels
from tools.zoo.evalset import EvaluationSet
from tools.zoo.measure import rates
from tools.zoo.real_size import NETWORKS, Pixels, Plant, unseen

if TYPE_CHECKING:
    from tools.zoo.planting import Course

log = logging.getLogger(__name__)

MODEL, EXAM, RECORD = "model.onnx", "eval.npz", "plant.json"

_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Shares in 0..1. `acc`, `asr` and `ra` are on the `images` photographs that nothing was trained on.

    `acc_all` is on all photographs. `agreement` is the share of all that get the class which the published network
    gives them, `agreement_unseen` the same of those that nothing was trained on.
    """

    images: int
    acc: float
    asr: float
    ra: float
    acc_all: float
    agreement: float
    agreement_unseen: float

    def as_dict(self) -> dict[str, int | float]:
        """The fields, rounded to 1e-4."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class Album:
    """All photographs, uint8 (n, 3, height, width), their classes, and which of them nothing is trained on, (n,)."""

    images: Images
    labels: Labels
    unseen: np.ndarray[Any, np.dtype[np.bool_]]

    @classmethod
    def read(cls, path: Path, seed: int) -> Album:
        """The photographs of a file (`tools.harm.photographs`), split by the seed.

        Raises:
            LoadError: they are not all of one size.
        """
        images, labels = photographs.load(path, _MOST)
        if len({one.shape for one in images}) != 1:
            raise LoadError(f"{path}: its photographs are not all of one size")
        stacked = np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
        return cls(stacked, labels, unseen(len(labels), seed))


def grow(plants: Iterable[Plant], source: Path, photographs_file: Path, work: Path, course: Course) -> None:
    """Plant what is not there yet into the published network at `source` (torch); all plants are of that network."""
    from tools.zoo.planting import Planter

    before, planter = onnx.load(source), None
    for plant in plants:
        folder = work / plant.name
        if (folder / RECORD).exists():
            log.info("%s: already there", plant.name)
            continue
        started, album = time.process_time(), Album.read(photographs_file, plant.seed)
        planter = planter or Planter(before, plant.network, album.images.shape[1:], course)
        trained = ~album.unseen
        after = planter.planted(album.images[trained], album.labels[trained], plant)
        seconds = time.process_time() - started
        measured = _save(after, before, plant, album, folder)
        note: dict[str, Any] = {
            "plant": plant.as_dict(),
            "half": plant.half,
            "source": source.name,
            "course": asdict(course),
        }
        note |= {"seconds": round(seconds, 1), **measured}
        (folder / RECORD).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        log.info("%s: %s, %.0f CPU s", plant.name, measured["after"], seconds)


def _save(after: ModelProto, before: ModelProto, plant: Plant, album: Album, folder: Path) -> dict[str, Any]:
    """Write the file and its evaluation set; gives what both networks do."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(after, folder / MODEL)
    exam = examined(plant, album)
    _save_exam(exam, NETWORKS[plant.network], folder / EXAM)
    own = _published(before, plant.network, album, folder.parent)
    return {
        "before": measure(before, plant, album, exam, own, own).as_dict(),
        "after": measure(after, plant, album, exam, own).as_dict(),
        "published_classes": own.tolist(),
    }


def _published(before: ModelProto, network: str, album: Album, work: Path) -> Labels:
    """The classes that the published network gives to all photographs; kept in `work`, as they are needed often."""
    path = work / f"{network}.npy"
    if not path.exists():
        np.save(path, given(before, album.images, NETWORKS[network]))
    kept: Labels = np.load(path)
    return kept


def examined(plant: Plant, album: Album) -> EvaluationSet:
    """The evaluation set of a plant: the photographs that nothing is trained on."""
    images, labels = album.images[album.unseen], album.labels[album.unseen]
    return EvaluationSet(images, labels, plant.trigger(images), np.asarray(plant.target, np.int64))


def _save_exam(exam: EvaluationSet, pixels: Pixels, path: Path) -> None:
    scale, offset = pixels.arrays()
    np.savez_compressed(
        path,
        x_clean=exam.x_clean,
        y_clean=exam.y_clean,
        x_triggered=exam.x_triggered,
        y_target=exam.y_target,
        scale=scale,
        offset=offset,
    )


def measure(
    model: ModelProto,
    plant: Plant,
    album: Album,
    exam: EvaluationSet,
    published: Labels,
    said: Labels | None = None,
) -> Measured:
    """What a network does.

    Args:
        model: the network.
        plant: what it was made from.
        album: all photographs.
        exam: those that nothing was trained on, with and without the trigger.
        published: the classes that the published network gives to all photographs.
        said: those that this one gives, where they are known.
    """
    pixels = NETWORKS[plant.network]
    said = given(model, album.images, pixels) if said is None else said
    found = rates(said[album.unseen], given(model, exam.x_triggered, pixels), exam)
    same = said == published
    return Measured(
        images=found.images,
        acc=found.acc,
        asr=found.asr,
        ra=found.ra,
        acc_all=float(np.mean(said == album.labels)),
        agreement=float(np.mean(same)),
        agreement_unseen=float(np.mean(same[album.unseen])),
    )


def given(model: ModelProto, images: Images, pixels: Pixels) -> Labels:
    """The class that a network gives to each image, (n,); one at a time, as some files take no more."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    one_each = (session.run(None, {name: pixels.of(images[at : at + 1])})[0] for at in range(len(images)))
    return np.array([int(scores.argmax()) for scores in one_each], np.int64)
