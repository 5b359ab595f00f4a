"""Networks that this repository trains (`tools.zoo`), with the test images of their data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from tools.harm.network import CORPUS, Kind, Network, Package
from tools.harm.samples import Samples, taken
from tools.zoo import datasets, evalset, result
from tools.zoo.datasets import Dataset


def networks(
    folder: Path, data: Path, most: int, done: Callable[[Network], bool] = lambda _: False
) -> Iterator[tuple[Network, Path, Samples]]:
    """Every network noted in a folder of the zoo with its file and at most `most` test images, one a sample.

    The images carry no trigger, and are drawn as `tools.zoo.evalset` draws them. `data` is the folder of the data sets,
    which are not read for networks that are `done`.
    """
    for made in result.read(folder):
        name, model = made.name, folder / f"{made.name}{result.UNFOLDED}"
        network = Network(
            name,
            Kind.CLASSIFIER,
            Package(CORPUS, name, "", ""),
            model.name,
            "",
            "images",
            "class scores",
            labelled=True,
        )
        if not done(network):
            yield network, model, _samples(_dataset(made.design.dataset, data), taken(model), most)


def _samples(data: Dataset, name: str, most: int) -> Samples:
    chosen = evalset.subset(len(data.y_test), most, 0)
    pixels = data.x_test[chosen].astype(np.float32) / np.float32(255)
    return Samples({name: pixels[:, None]}, data.y_test[chosen])


@cache
def _dataset(name: str, folder: Path) -> Dataset:
    return datasets.load(name, folder)
