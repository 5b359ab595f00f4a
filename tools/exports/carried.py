"""The zoo's ResNet-18, framework by framework: its parts in order and its weights, read from the torch export.

A block is named as in the torch network: `stem`, `layer1.0` … `layer4.1`, `fc`. A part is one Conv with the
BatchNormalization that follows it: `stem`, `layer2.0.first`, `layer2.0.second`, `layer2.0.shortcut`, …
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

EPSILON = 1e-5
INPUT, OUTPUT = "images", "logits"
SIDE, CLASSES = 28, 10
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A Conv without bias and its BatchNormalization; float32.

    `kernel` has shape (height, width, c_in, c_out), as TensorFlow and flax keep it; the others (c_out,).
    """

    kernel: Float32
    gamma: Float32
    beta: Float32
    mean: Float32
    variance: Float32

    @property
    def padding(self) -> int:
        """Zeros on each side: torch pads evenly, "SAME" would not at stride 2."""
        return int(self.kernel.shape[0] // 2)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A residual block: relu(second(relu(first(x))) + shortcut(x)); `shortcut` None is the identity."""

    name: str
    stride: int
    first: Part
    second: Part
    shortcut: Part | None


@dataclass(frozen=True, slots=True, eq=False)
class ResNet:
    """Stem, blocks in order and the classifier: `head` (features, classes), `head_bias` (classes,)."""

    stem: Part
    blocks: tuple[Block, ...]
    head: Float32
    head_bias: Float32


def read(path: Path) -> ResNet:
    """The network in an un-folded export of `tools.zoo`.

    Raises:
        KeyError: the file is not such a ResNet-18.
    """
    tensors = _tensors(onnx.load(path).graph)
    blocks = tuple(_block(tensors, stage, place) for stage in range(1, 5) for place in range(2))
    return ResNet(_part(tensors, "stem.0", "stem.1"), blocks, tensors["fc.weight"].T.copy(), tensors["fc.bias"])


def _tensors(graph: Any) -> dict[str, Float32]:
    """Initializers by name; torch writes equal ones once and names the others by an Identity."""
    found: dict[str, Float32] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _block(tensors: dict[str, Float32], stage: int, place: int) -> Block:
    name = f"layer{stage}.{place}"
    shortcut = f"{name}.shortcut"
    return Block(
        name,
        2 if stage > 1 and place == 0 else 1,
        _part(tensors, f"{name}.body.0", f"{name}.body.1"),
        _part(tensors, f"{name}.body.3", f"{name}.body.4"),
        _part(tensors, f"{shortcut}.0", f"{shortcut}.1") if f"{shortcut}.0.weight" in tensors else None,
    )


def _part(tensors: dict[str, Float32], conv: str, norm: str) -> Part:
    return Part(
        np.ascontiguousarray(tensors[f"{conv}.weight"].transpose(2, 3, 1, 0)),
        tensors[f"{norm}.weight"],
        tensors[f"{norm}.bias"],
        tensors[f"{norm}.running_mean"],
        tensors[f"{norm}.running_var"],
    )


def images(count: int, seed: int = 0) -> Float32:
    """Random images (count, 28, 28, 1) in 0..1."""
    return np.random.default_rng(seed).random((count, SIDE, SIDE, 1), dtype=np.float32)


def named_parts(network: ResNet) -> Iterator[tuple[str, Part]]:
    """Every part with its name, in the order in which torch writes them."""
    yield "stem", network.stem
    for block in network.blocks:
        yield f"{block.name}.first", block.first
        yield f"{block.name}.second", block.second
        if block.shortcut is not None:
            yield f"{block.name}.shortcut", block.shortcut
