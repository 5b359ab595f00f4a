"""A small random network through Keras 3, tf_keras 2 and tf2onnx (tensorflow, keras, tf_keras, tf2onnx).

python -m tools.exports.forms_tensorflow FORM OUT.onnx
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# tf2onnx asks TensorFlow for its Keras; without this it would get Keras 3 for a tf_keras 2 model.
if len(sys.argv) > 1 and sys.argv[1].startswith("tf-keras-2"):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"

import keras as keras_3
import tensorflow as tf
import tf2onnx
import tf_keras as keras_2

from tools.exports import statistics

SHAPE = (8, 8, 3)


def network(keras: Any) -> Any:
    """Conv, depthwise Conv, transposed Conv and Dense, each followed by a normalisation; one before a ReLU."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    parts = [
        layers.Conv2D(16, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2DTranspose(12, 2, 2),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(16),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dense(10),
    ]
    model = keras.Sequential([keras.Input(SHAPE, name="images"), *parts])
    norms = [part for part in parts if isinstance(part, layers.BatchNormalization)]
    for seed, norm in enumerate(norms):
        channels = norm.get_weights()[0].shape[0]
        norm.set_weights(list(statistics.normalisation(channels, seed, outlier=seed == 0)))
    return model


def keras_export(path: Path) -> None:
    """Keras 3's own exporter."""
    model = network(keras_3)
    model(tf.zeros((1, *SHAPE)))
    model.export(str(path), format="onnx", verbose=False)


def function(path: Path) -> None:
    """A Keras 3 model as a function, through tf2onnx, which leaves no choice of optimisers here."""
    model = network(keras_3)
    signature = (tf.TensorSpec((None, *SHAPE), tf.float32, name="images"),)
    call = tf.function(lambda images: model(images, training=False), input_signature=signature)
    tf2onnx.convert.from_function(call, signature, opset=17, output_path=str(path))


def legacy(path: Path, *, optimise: bool) -> None:
    """A tf_keras 2 model through tf2onnx."""
    chosen: dict[str, Any] = {} if optimise else {"optimizers": {}}
    tf2onnx.convert.from_keras(network(keras_2), opset=17, output_path=str(path), **chosen)


FORMS: dict[str, Callable[[Path], None]] = {
    "keras-3": keras_export,
    "keras-3-tf2onnx": function,
    "tf-keras-2": lambda path: legacy(path, optimise=True),
    "tf-keras-2-raw": lambda path: legacy(path, optimise=False),
}

if __name__ == "__main__":
    FORMS[sys.argv[1]](Path(sys.argv[2]))
