"""A linear layer: one Conv, ConvTranspose, Gemm or MatMul, or a quantised form of one, seen as y = W·x + b."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from onnx import NodeProto

from onnx_clp.graph.index import GraphIndex
from onnx_clp.layers.biases import Bias
from onnx_clp.layers.weights import Weight
from onnx_clp.numerics.affine import KernelLayout
from onnx_clp.numerics.lipschitz import Geometry
from onnx_clp.operators import windows
from onnx_clp.verdicts import Skipped


@dataclass(slots=True, eq=False)
class LinearLayer:
    """One linear node seen as y = W·x + b.

    Attributes:
        name: the node's name, or its identity where it has none; taken before any edit.
        operator: the ONNX operator.
        layout: which weight axes are channels.
        geometry: kernel, strides and dilations; None for Gemm and MatMul.
        channels, inputs: channel counts over all groups.
        rank: dimensions of the output, None where unknown.
        axis_from_end: where the output channels are, counted from the last axis (1).
        data_axis_from_end: the same for the input that data comes in by; `data_slot` is its slot.
        no_padding: every output position sees input only, never zero padding.
        inside: nodes on the data's way that belong to the layer (its bias Add, an integer layer's scaling).
        aside: nodes off that way that do (the product of an integer layer's scales).
        fused: an activation is part of the node, so nothing folds into it.
        gain: constant factor on the product, Gemm's alpha.
    """

    node: NodeProto
    scope: GraphIndex
    name: str
    operator: str
    layout: KernelLayout
    weight: Weight
    bias: Bias
    channels: int
    inputs: int
    geometry: Geometry | None
    rank: int | None
    axis_from_end: int
    data_axis_from_end: int
    data_slot: int = 0
    no_padding: bool = True
    fused: bool = False
    gain: float = 1.0
    inside: list[NodeProto] = field(default_factory=list)
    aside: list[NodeProto] = field(default_factory=list)

    @property
    def own_nodes(self) -> list[NodeProto]:
        """The nodes that are part of the layer beside its linear node."""
        return [*self.inside, *self.aside]

    @property
    def is_convolution(self) -> bool:
        """Whether it is a Conv, ConvTranspose or a quantised form of them."""
        return self.geometry is not None

    @property
    def output(self) -> str:
        """The value the layer gives, its bias added."""
        last = self.inside[-1] if self.inside else self.node
        return last.output[0]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The weight's dimensions as stored."""
        return self.weight.shape


Finder = Callable[[GraphIndex, NodeProto], "LinearLayer | Skipped"]


def read_geometry(node: NodeProto, kernel: tuple[int, ...]) -> Geometry:
    """Strides and dilations of a convolution node (default 1 everywhere)."""
    found = windows.window(node, kernel)
    return Geometry(kernel, found.strides, found.dilations, node.op_type == "ConvTranspose")
