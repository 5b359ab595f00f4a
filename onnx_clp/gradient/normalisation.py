"""BatchNormalization, InstanceNormalization, LayerNormalization."""

from __future__ import annotations

from typing import Final

from onnx_clp.gradient.tape import Gradients, Rules, Step


def _batch(step: Step) -> Gradients:
    """y = scale·(x − mean)/sqrt(var + eps) + bias with stored statistics: dx = g·scale/sqrt(var + eps)."""
    step.only(0)
    if step.attribute("training_mode", 0):
        raise step.refuse("it is in training mode, where its statistics are those of the batch")
    root = (step.input(4) + float(step.attribute("epsilon", 1e-5))).sqrt()
    factor = (step.input(1).cast(root.data_type) / root).cast(step.gradient.data_type)
    return {0: step.gradient * factor.unsqueeze(list(range(1, step.rank() - 1)))}


RULES: Final[Rules] = {"BatchNormalization": _batch}
