"""ResNet-18 of the zoo in flax nnx -> ONNX by jax2onnx (jax, flax, jax2onnx).

    python -m tools.exports.resnet_jax models/resnet18_badnets.onnx OUT.onnx

The exporter keeps every BatchNormalization. jax2onnx 0.17.1 moves its Transposes through residual additions and
leaves the shapes it had noted for the values between them as they were before; ONNX Runtime then refuses the file
("Incompatible dimensions"). Those notes (value_info) are dropped; nothing else is changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import onnx
from flax import nnx
from jax2onnx import to_onnx

from tools.exports import carried

OPSET = 18


class Part(nnx.Module):  # type: ignore[misc, unused-ignore]
    """Convolution and normalisation with the weights given."""

    def __init__(self, part: carried.Part, stride: int, rngs: nnx.Rngs) -> None:
        height, width, c_in, c_out = part.kernel.shape
        padding = [(part.padding, part.padding)] * 2
        self.conv = nnx.Conv(
            c_in, c_out, (height, width), strides=(stride, stride), padding=padding, use_bias=False, rngs=rngs
        )
        self.norm = nnx.BatchNorm(c_out, use_running_average=True, epsilon=carried.EPSILON, rngs=rngs)
        self.conv.kernel.value = jnp.asarray(part.kernel)
        self.norm.scale.value, self.norm.bias.value = jnp.asarray(part.gamma), jnp.asarray(part.beta)
        self.norm.mean.value, self.norm.var.value = jnp.asarray(part.mean), jnp.asarray(part.variance)

    def __call__(self, x: Any) -> Any:
        """Apply to (n, h, w, c)."""
        return self.norm(self.conv(x))


class Block(nnx.Module):  # type: ignore[misc, unused-ignore]
    """A residual block."""

    def __init__(self, block: carried.Block, rngs: nnx.Rngs) -> None:
        self.first = Part(block.first, block.stride, rngs)
        self.second = Part(block.second, 1, rngs)
        self.shortcut = None if block.shortcut is None else Part(block.shortcut, block.stride, rngs)

    def __call__(self, x: Any) -> Any:
        """Apply to (n, h, w, c)."""
        y = self.second(jax.nn.relu(self.first(x)))
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):  # type: ignore[misc, unused-ignore]
    """The whole network, float32 (batch, 28, 28, 1) -> (batch, 10)."""

    def __init__(self, weights: carried.ResNet, rngs: nnx.Rngs) -> None:
        self.stem = Part(weights.stem, 1, rngs)
        self.blocks = nnx.List([Block(block, rngs) for block in weights.blocks])
        self.head = nnx.Linear(*weights.head.shape, rngs=rngs)
        self.head.kernel.value, self.head.bias.value = jnp.asarray(weights.head), jnp.asarray(weights.head_bias)

    def __call__(self, x: Any) -> Any:
        """Class scores."""
        x = jax.nn.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


def main() -> None:
    """Read, build, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twin", type=Path)
    parser.add_argument("output", type=Path)
    chosen = parser.parse_args()
    model = ResNet(carried.read(chosen.twin), nnx.Rngs(0))
    shape = ("batch", carried.SIDE, carried.SIDE, 1)
    proto = to_onnx(model, [shape], opset=OPSET, input_names=[carried.INPUT], output_names=[carried.OUTPUT])
    del proto.graph.value_info[:]
    onnx.save(proto, chosen.output)


if __name__ == "__main__":
    main()
