"""A small random network of flax through jax2onnx (jax, flax, jax2onnx).

python -m tools.exports.forms_jax FORM OUT.onnx
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import onnx
from flax import linen, nnx
from jax2onnx import onnx_function, to_onnx

from tools.exports import statistics

SHAPE = ("batch", 8, 8, 3)
CHANNELS = (16, 16, 12, 12, 16)
"""Of the normalisations, in order."""


class Network(nnx.Module):  # type: ignore[misc, unused-ignore]
    """Conv, depthwise Conv, transposed Conv and Linear, each normalised; one normalisation before a ReLU."""

    def __init__(self, conv_norm: type[nnx.Module]) -> None:
        rngs = nnx.Rngs(0)
        self.first = conv_norm(nnx.Conv(3, 16, (3, 3), rngs=rngs), _norm(0, rngs))
        self.depthwise = conv_norm(
            nnx.Conv(16, 16, (3, 3), feature_group_count=16, use_bias=False, rngs=rngs), _norm(1, rngs)
        )
        self.transposed = conv_norm(nnx.ConvTranspose(16, 12, (2, 2), (2, 2), rngs=rngs), _norm(2, rngs))
        self.alone = _norm(3, rngs)
        self.hidden = conv_norm(nnx.Linear(12, 16, rngs=rngs), _norm(4, rngs))
        self.head = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Scores of (batch, 8, 8, 3)."""
        x = self.transposed(self.depthwise(self.first(x)))
        x = jnp.mean(jax.nn.relu(self.alone(x)), axis=(1, 2))
        return self.head(self.hidden(x))


class ConvNorm(nnx.Module):  # type: ignore[misc, unused-ignore]
    """Linear layer, normalisation, ReLU."""

    def __init__(self, linear: Any, norm: Any) -> None:
        self.linear, self.norm = linear, norm

    def __call__(self, x: Any) -> Any:
        """Apply the three."""
        return jax.nn.relu(self.norm(self.linear(x)))


@onnx_function  # type: ignore[untyped-decorator, unused-ignore]
class ConvNormFunction(ConvNorm):
    """The same as a local function of the ONNX model."""


def _norm(place: int, rngs: Any) -> Any:
    norm = nnx.BatchNorm(CHANNELS[place], use_running_average=True, rngs=rngs)
    values = statistics.normalisation(CHANNELS[place], place, outlier=place == 0)
    for variable, value in zip((norm.scale, norm.bias, norm.mean, norm.var), values, strict=True):
        variable.value = jnp.asarray(value)
    return norm


class Linen(linen.Module):  # type: ignore[misc, unused-ignore]
    """The first two layers in flax's older interface."""

    @linen.compact  # type: ignore[untyped-decorator, unused-ignore]
    def __call__(self, x: Any) -> Any:
        """Scores of (batch, 8, 8, 3)."""
        for groups in (1, 16):
            x = linen.Conv(16, (3, 3), feature_group_count=groups)(x)
            x = linen.relu(linen.BatchNorm(use_running_average=True)(x))
        return linen.Dense(10)(jnp.mean(x, axis=(1, 2)))


def linen_call() -> Callable[[Any], Any]:
    """The linen network as a function of the images."""
    model = Linen()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE[1:])))
    for place in range(2):
        gamma, beta, mean, variance = statistics.normalisation(16, place, outlier=place == 0)
        name = f"BatchNorm_{place}"
        variables["params"][name] = {"scale": jnp.asarray(gamma), "bias": jnp.asarray(beta)}
        variables["batch_stats"][name] = {"mean": jnp.asarray(mean), "var": jnp.asarray(variance)}
    return lambda x: model.apply(variables, x)


FORMS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "nnx": lambda: Network(ConvNorm),
    "nnx-functions": lambda: Network(ConvNormFunction),
    "linen": linen_call,
}

if __name__ == "__main__":
    onnx.save(to_onnx(FORMS[sys.argv[1]](), [SHAPE], opset=20), sys.argv[2])
