"""Whether an ONNX file converts to TFLite, and how far the converted model's answers lie from ONNX Runtime's.

    python tools/edge/tflite.py MODEL.onnx...

For an environment of its own with onnx2tf, TensorFlow and ONNX Runtime: their versions of onnx and NumPy are older than
this package takes, so nothing of the package is imported. Batch 1, images of noise; the answers are compared as
max|difference| / max|reference|, and by their largest class.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]

_IMAGES = 32


def converted(model: Path, folder: Path) -> Path:
    """The float32 TFLite file that onnx2tf makes."""
    import onnx2tf

    # It looks for sample images of this name in the current folder before it fetches them from the network.
    np.save(folder / "calibration_image_sample_data_20x128x128x3_float32.npy", np.zeros((20, 128, 128, 3), np.float32))
    os.chdir(folder)
    onnx2tf.convert(input_onnx_file_path=str(model), output_folder_path=str(folder), non_verbose=True, batch_size=1)
    return next(folder.glob("*_float32.tflite"))


def answers(tflite: Path, images: Array) -> Array:
    """What the TFLite model says of images, one at a time, given in the layout it takes."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(tflite))
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    if tuple(given["shape"]) != images[:1].shape:
        images = images.transpose(0, 2, 3, 1)
    interpreter.allocate_tensors()
    found = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(made["index"]))
    return np.concatenate(found)


def compared(path: Path) -> str:
    """One line: how far the TFLite model lies from the ONNX file, or that there is none."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [d if isinstance(d, int) else 1 for d in given.shape]
    images = np.random.default_rng(0).random((_IMAGES, *shape[1:]), np.float32)
    wanted = np.concatenate([session.run(None, {given.name: x[None]})[0] for x in images])
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = answers(converted(path, Path(folder)), images)
        except (Exception, SystemExit) as error:  # onnx2tf ends the process where it cannot go on
            return f"{path.name}: not converted ({type(error).__name__})"
    off = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    same = float((found.argmax(1) == wanted.argmax(1)).mean())
    return f"{path.name}: error {off:.2e}, top-1 {same:.0%} of {_IMAGES}"


def main(paths: list[Path]) -> None:
    """Print one line a model."""
    for path in paths:
        sys.stdout.write(compared(path) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main([Path(word).absolute() for word in sys.argv[1:]])
