"""Carry the zoo's infected ResNet-18 over to TensorFlow and JAX and describe the files in MANIFEST.json."""

from __future__ import annotations

from pathlib import Path

from onnx_clp.errors import UsageError
from tools.exports import environments
from tools.zoo import exported

EXPORTS: dict[str, exported.Export] = {
    "tensorflow": exported.Export(
        "resnet18_badnets.tensorflow",
        environments.ENVIRONMENTS["tensorflow"].pins,
        "tf2onnx without its optimisers, tf_keras 2: Conv > Transpose > Transpose > BatchNormalization, nothing "
        "folded; its default folds every BatchNormalization, which leaves the caps nothing to go by",
    ),
    "jax": exported.Export(
        "resnet18_badnets.jax",
        environments.ENVIRONMENTS["jax"].pins,
        "jax2onnx from flax nnx: Conv > BatchNormalization, nothing folded; its value_info, wrong for this "
        "network, is dropped, or ONNX Runtime would refuse the file",
    ),
}
"""Environment -> the file made in it, by the module `resnet_<environment>`."""


def carry(models: Path, homes: Path) -> None:
    """Export both files into `models`, in environments below `homes`, and describe them.

    Raises:
        UsageError: an environment cannot be made, or an exporter failed.
    """
    twin = models / f"{exported.TWIN}.onnx"
    for name, export in EXPORTS.items():
        target = models / f"{export.stem}.onnx"
        failure = environments.run(
            homes, name, f"tools.exports.resnet_{name}", str(twin.resolve()), str(target.resolve())
        )
        if failure:
            raise UsageError(f"{target}: the export failed: {failure}")
    exported.publish(models, tuple(EXPORTS.values()))
