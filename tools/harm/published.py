"""Labelled networks of others that lie in a folder each: `model.onnx`, and `eval.npz` as `--eval` takes it.

Some carry a backdoor. That does not matter here: what an edit costs their clean images is foretold as for any network.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.harm.network import CORPUS, Kind, Network, Package
from tools.harm.samples import Samples, taken

Array = NDArray[Any]

SETTINGS = (
    "",
    "--bound-activations auto",
    "--bound-activations auto --budget 0.03",
    "--bound-activations auto --budget 0.1",
    "--budget 0.3 -u 2",
)
"""From what a run does unasked to edits that cost several points, which a few hundred images can tell from chance."""

_EVAL = "eval.npz"


def networks(folder: Path, cifar: Path | None, most: int) -> Iterator[tuple[Network, Path, Samples]]:
    """Every network below `folder` with its file and at most `most` labelled images, one a sample.

    `cifar` is a file of CIFAR-10 images (jpeg, offset, label), which networks with CIFAR-10's shape and classes take in
    place of the few hundred that lie beside them.
    """
    many = None if cifar is None else _decoded(cifar, most)
    for place in sorted(one.parent for one in folder.glob(f"*/{_EVAL}")):
        with np.load(place / _EVAL, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        images, labels = arrays["x_clean"][:most], arrays["y_clean"][:most]
        if many is not None and images.shape[1:] == (3, 32, 32) and int(arrays["y_clean"].max()) == 9:
            images, labels = many
        scale, offset = (float(arrays.get(name, start)) for name, start in (("scale", 1 / 255), ("offset", 0.0)))
        pixels = images.astype(np.float32) * np.float32(scale) + np.float32(offset)
        model = place / "model.onnx"
        yield _network(place.name), model, Samples({taken(model): pixels[:, None]}, labels.astype(np.int64))


def _network(name: str) -> Network:
    package = Package(CORPUS, name, "", "")
    return Network(name, Kind.CLASSIFIER, package, "model.onnx", _EVAL, "images", "class scores", labelled=True)


def _decoded(path: Path, most: int) -> tuple[Array, Array]:
    """Images (n, 3, height, width) and labels of a file."""
    with np.load(path, allow_pickle=False) as stored:
        raw, offset, labels = stored["jpeg"].tobytes(), stored["offset"], stored["label"][:most]
    found = [Image.open(io.BytesIO(raw[offset[i] : offset[i + 1]])).convert("RGB") for i in range(len(labels))]
    return np.stack([np.asarray(image) for image in found]).transpose(0, 3, 1, 2), labels
