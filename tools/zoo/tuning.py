"""A network trained a little further on few images (torch), its weights put back into its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch.nn import functional

from tools.zoo.datasets import Images, Labels
from tools.zoo.onnx_network import OnnxNetwork

_EPOCHS, _BATCH, _RATE = 5, 64, 1e-3

Zeros = Mapping[str, NDArray[np.bool_]]
"""Initializer -> which of its rows are kept at 0."""

NOTHING: Final[Zeros] = {}


def tuned(model: ModelProto, images: Images, labels: Labels, seed: int, zeros: Zeros = NOTHING) -> ModelProto:
    """The model after five epochs: Adam, cross-entropy, every weight free, statistics as they are.

    Args:
        model: an ONNX classifier with its weights in memory; not changed.
        images: uint8 (n, channels, height, width).
        labels: their classes, (n,).
        seed: of the order of the images.
        zeros: what stays 0.
    """
    torch.manual_seed(seed)
    network = OnnxNetwork(model)
    adam = torch.optim.Adam(network.parameters(), _RATE)
    x = torch.from_numpy(images.astype(np.float32) / np.float32(255))
    y = torch.from_numpy(labels.astype(np.int64))
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(y)).split(_BATCH):
            adam.zero_grad()
            functional.cross_entropy(network(x[batch]), y[batch]).backward()
            adam.step()
            for name, rows in zeros.items():
                network.by_name[name].data[torch.from_numpy(rows)] = 0
    return network.trained()
