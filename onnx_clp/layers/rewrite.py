"""What is to be done to one linear layer, gathered over the passes and carried out once.

Passes fold and prune on paper: a `LayerRewrite` keeps the factors in float64, and `commit` stores the result
in the weight's own type, so that folding three affines rounds once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_clp.file.store import numpy_dtype
from onnx_clp.graph.edit import GraphEdit
from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.biases import AddedBias, GemmBias
from onnx_clp.layers.find import find_layer
from onnx_clp.layers.layer import LinearLayer
from onnx_clp.layers.weights import Scaling
from onnx_clp.numerics.affine import ChannelAffine, carry_shift, channel_factor, kernels
from onnx_clp.numerics.widening import as_float64
from onnx_clp.operators.nodes import identity
from onnx_clp.verdicts import Skipped, SkipReason

Float64 = NDArray[np.float64]
Array = NDArray[Any]

_DYNAMIC_BIAS = Skipped(SkipReason.DYNAMIC_BIAS, "the layer before it has a bias that is not a constant of its shape")
_NO_BIAS = Skipped(SkipReason.DYNAMIC_BIAS, "the layer beside it has no bias that could take its offset")
_NOT_FINITE = Skipped(SkipReason.NOT_FINITE, "folding it would give a value that is not finite")


class LayerRewrite:
    """The pending change of one layer: y = S·W·D·x + b, with channels to zero.

    Attributes:
        folded: names of the affines folded in, in graph order.
        normalised: a normalisation is among them, so the layer is judged as the paper does.
        offset: what the folded affines add when they treat all channels alike, as the first half of a gate does.
    """

    def __init__(self, layer: LinearLayer) -> None:
        self.layer = layer
        self.out_scale: Float64 = np.ones(layer.channels)
        self.in_scale: Float64 | None = None
        self.zeroed = np.zeros(layer.channels, dtype=bool)
        self.folded: list[str] = []
        self.normalised = False
        self.offset = 0.0
        self._bias: Float64 | None = None
        self._bias_read = False
        self._bias_changed = False

    @property
    def bias(self) -> Float64 | None:
        """The layer's bias so far, channels on the last axis; None when it is no constant that fits the layer."""
        if not self._bias_read:
            values = self.layer.bias.values()
            self._bias, self._bias_read = values if values is not None and self._fits(values) else None, True
        return self._bias

    def _fits(self, bias: Float64) -> bool:
        most = 2 if isinstance(self.layer.bias, GemmBias) else 1
        return bias.ndim <= most and (bias.ndim == 0 or bias.shape[-1] in (1, self.layer.channels))

    def take_in_bias(self) -> None:
        """Add the constant of an adder that was found to be the layer's bias to what has gathered."""
        pending, found = self.bias, self.layer.bias.values()
        if pending is not None and found is not None:
            self._bias_changed = self._bias_changed or bool(pending.any())
            self._bias = pending + found

    def kernels(self) -> Array:
        """The paper's reshaped kernels with input factors folded in, output factors not."""
        values = self.layer.weight.values()
        if self.in_scale is not None:
            factor = channel_factor(self.in_scale, values.shape, self.layer.layout, output=False)
            values = as_float64(values) * factor
        return kernels(values, self.layer.layout)

    def _scaling(self, output: Float64, input_factor: Float64 | None) -> Scaling:
        return Scaling(output, input_factor, self.zeroed)

    # What follows the layer

    def refuses(self, affine: ChannelAffine) -> Skipped | None:
        """Why an affine on the output (one entry a channel) cannot be folded; None when it can."""
        if self.layer.fused:
            return Skipped(SkipReason.FUSED_ACTIVATION, "an activation is fused into the layer before it")
        if self.bias is None:
            return _DYNAMIC_BIAS
        if affine.shift.any() and not self._takes_bias():
            return _NO_BIAS
        with np.errstate(all="ignore"):
            new_bias = affine.scale * self.bias + affine.shift
            new_scale = affine.scale * self.out_scale
        if not np.isfinite(new_scale).all():
            return _NOT_FINITE
        refusal = self._bias_refusal(new_bias)
        if refusal is not None:
            return refusal
        return self.layer.weight.refuses(self._scaling(new_scale, self.in_scale), self.layer.layout)

    def _takes_bias(self) -> bool:
        bias = self.layer.bias
        return not isinstance(bias, AddedBias) or bias.can_be_added

    def _bias_refusal(self, new: Float64) -> Skipped | None:
        """A bias that was finite must stay so in the type it is stored in."""
        if self.bias is None or not np.isfinite(self.bias).all():
            return None
        with np.errstate(all="ignore"):
            stored = as_float64(new.astype(numpy_dtype(self.layer.weight.data_type)))
        return None if np.isfinite(stored).all() else _NOT_FINITE

    def absorb(self, affine: ChannelAffine) -> None:
        """Fold an affine on the output; `refuses` must have agreed."""
        assert self.bias is not None
        first = affine.part(0, 1)
        alike = (affine.scale == first.scale).all() and (affine.shift == first.shift).all()
        self.offset = float((first.scale * self.offset + first.shift).sum()) if alike else 0.0
        self.out_scale = affine.scale * self.out_scale
        self._bias = affine.scale * self.bias + affine.shift
        self._bias_changed = True

    # What comes before it

    def refuses_input(self, affine: ChannelAffine) -> Skipped | None:
        """Why an affine on the input (one entry an input channel) cannot be folded; None when it can."""
        shifts = bool((affine.shift != 0).any())
        if shifts and not self.layer.no_padding:
            return Skipped(SkipReason.PADDING, "the layer after it pads its input with zeros")
        if shifts and self.bias is None:
            return _DYNAMIC_BIAS
        if shifts and not self._takes_bias():
            return _NO_BIAS
        factor = self._input_factor(affine)
        if not np.isfinite(factor).all():
            return _NOT_FINITE
        return self.layer.weight.refuses(self._scaling(self.out_scale, factor), self.layer.layout)

    def _input_factor(self, affine: ChannelAffine) -> Float64:
        return affine.scale if self.in_scale is None else affine.scale * self.in_scale

    def absorb_input(self, affine: ChannelAffine) -> None:
        """Fold an affine on the input; `refuses_input` must have agreed."""
        if (affine.shift != 0).any():
            current = affine.shift if self.in_scale is None else affine.shift * self.in_scale
            carried = carry_shift(self.layer.weight.values(), self.layer.layout, current)
            assert self.bias is not None
            self._bias = self.bias + self.out_scale * self.layer.gain * carried
            self._bias_changed = True
        self.in_scale = self._input_factor(affine)

    # The end

    def silence(self, channels: NDArray[np.bool_], fill: Float64) -> None:
        """Set the weight of the marked channels to zero and their bias to `fill` (one entry a channel)."""
        self.zeroed = self.zeroed | channels
        if self.bias is not None:
            silent = np.where(channels, fill, self.bias)
            self._bias_changed = self._bias_changed or bool((silent != self.bias).any())
            self._bias = silent

    def commit(self, edit: GraphEdit) -> None:
        """Write what has gathered."""
        scaling = self._scaling(self.out_scale, self.in_scale)
        bias, layer = self.bias, self.layer
        if self._bias_changed and bias is not None:
            self._write_bias(edit, bias)
        self._bias_changed = False
        if not scaling.is_identity:
            layer.weight.write(edit, scaling, layer.layout)

    def _write_bias(self, edit: GraphEdit, bias: Float64) -> None:
        before = self.layer.bias.values()
        absent = before is not None and before.shape == (1,) and before[0] == 0
        if absent and not bias.any():
            return
        wide = np.broadcast_to(bias, (*bias.shape[:-1], self.layer.channels))
        factor = self.out_scale if self.in_scale is None else self.out_scale * self.in_scale[:1]
        bare = isinstance(self.layer.bias, AddedBias) and self.layer.bias.adder is None
        self.layer.bias.write(edit, wide, self.layer.weight.data_type, np.where(factor == 0, 1.0, np.abs(factor)))
        if bare and isinstance(self.layer.bias, AddedBias) and self.layer.bias.adder is not None:
            self.layer.inside.append(self.layer.bias.adder)


@dataclass(slots=True, eq=False)
class Layers:
    """The linear layers of one scope, by the id of their node, and those that cannot be judged or folded."""

    by_node: dict[int, LayerRewrite] = field(default_factory=dict)
    refused: list[tuple[NodeProto, Skipped]] = field(default_factory=list)


def find_layers(scope: GraphIndex) -> Layers:
    """Every linear node of a scope as a `LayerRewrite`, or why it is none."""
    layers = Layers()
    for node in scope.nodes:
        if scope.is_constant(identity(node)):
            continue
        found = find_layer(scope, node)
        if isinstance(found, Skipped):
            layers.refused.append((node, found))
        elif found is not None:
            layers.by_node[id(node)] = LayerRewrite(found)
    return layers
