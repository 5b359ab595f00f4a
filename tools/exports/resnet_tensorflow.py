"""ResNet-18 of the zoo in tf_keras 2 -> ONNX by tf2onnx (tensorflow, tf_keras, tf2onnx).

    python -m tools.exports.resnet_tensorflow models/resnet18_badnets.onnx OUT.onnx [--optimise]

Without its optimisers tf2onnx keeps every BatchNormalization, behind a pair of Transposes:
Conv > Transpose > Transpose > BatchNormalization. `--optimise` is its default: everything folded. The open batch
gets the name `batch`, which the exporter numbers anew in every run; nothing else is changed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import onnx
import tensorflow as tf
import tf2onnx
import tf_keras as keras

from tools.exports import carried

OPSET = 17


def network(weights: carried.ResNet) -> Any:
    """The model, float32 (batch, 28, 28, 1) -> (batch, 10)."""
    inputs = keras.Input((carried.SIDE, carried.SIDE, 1), name=carried.INPUT)
    x = keras.layers.ReLU()(_part(inputs, weights.stem, 1, "stem"))
    for block in weights.blocks:
        name = block.name
        y = keras.layers.ReLU()(_part(x, block.first, block.stride, f"{name}.first"))
        y = _part(y, block.second, 1, f"{name}.second")
        if block.shortcut is not None:
            x = _part(x, block.shortcut, block.stride, f"{name}.shortcut")
        x = keras.layers.ReLU()(keras.layers.Add()([y, x]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.layers.Dense(carried.CLASSES, name=carried.OUTPUT)
    model = keras.Model(inputs, head(x))
    head.set_weights([weights.head, weights.head_bias])
    return model


def _part(x: Any, part: carried.Part, stride: int, name: str) -> Any:
    """Convolution and normalisation; torch's padding, which "same" is not at stride 2."""
    if part.padding:
        x = keras.layers.ZeroPadding2D(part.padding, name=f"{name}.pad")(x)
    conv = keras.layers.Conv2D(part.kernel.shape[3], part.kernel.shape[:2], stride, use_bias=False, name=f"{name}.conv")
    norm = keras.layers.BatchNormalization(epsilon=carried.EPSILON, name=f"{name}.norm")
    x = norm(conv(x))
    conv.set_weights([part.kernel])
    norm.set_weights([part.gamma, part.beta, part.mean, part.variance])
    return x


def export(model: Any, path: Path, *, optimise: bool) -> None:
    """Write `model` with the batch open, under the names that the torch export has."""
    shape = (None, carried.SIDE, carried.SIDE, 1)
    proto, _ = tf2onnx.convert.from_keras(
        model,
        input_signature=(tf.TensorSpec(shape, tf.float32, name=carried.INPUT),),
        opset=OPSET,
        **({} if optimise else {"optimizers": {}}),
    )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, path)


def main() -> None:
    """Read, build, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twin", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--optimise", action="store_true")
    chosen = parser.parse_args()
    export(network(carried.read(chosen.twin)), chosen.output, optimise=chosen.optimise)


if __name__ == "__main__":
    main()
