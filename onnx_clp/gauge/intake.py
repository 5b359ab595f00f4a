"""How a model takes images: by which input, in which layout, in which pixel values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from onnx_clp.gauge.crops import Float32, grey
from onnx_clp.validation.anatomy import InputSpec

_CHANNELS: Final = (1, 3, 4)
_SMALLEST_SIDE: Final = 8
_IMAGENET_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD: Final = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_MEAN: Final = np.array([104.0, 117.0, 123.0], np.float32)


@dataclass(frozen=True, slots=True)
class Intake:
    """The input that takes images.

    Attributes:
        name: of the input.
        channels, height, width: of one image; channels are 1, 3 or 4.
        channels_last: whether the model takes (batch, height, width, channels).
        data_type: TensorProto.DataType of the input.
    """

    name: str
    channels: int
    height: int
    width: int
    channels_last: bool
    data_type: int

    @property
    def whole_levels(self) -> bool:
        """Whether pixels are whole numbers."""
        return self.data_type in (TensorProto.UINT8, TensorProto.INT8)

    def laid_out(self, images: Float32) -> NDArray[Any]:
        """Images (n, 3, height, width) in the model's pixel values as the input takes them."""
        if self.channels == 1:
            images = images if images.shape[1] == 1 else grey(images)
        elif self.channels == 4:
            images = np.concatenate([images, np.full_like(images[:, :1], images.max())], axis=1)
        if self.channels_last:
            images = images.transpose(0, 2, 3, 1)
        dtype = np.dtype(tensor_dtype_to_np_dtype(self.data_type))
        if self.whole_levels:
            limits = np.iinfo(dtype)
            images = np.clip(np.rint(images), limits.min, limits.max)
        return np.ascontiguousarray(images.astype(dtype))


def intake_of(specs: Sequence[InputSpec], shapes: dict[str, tuple[int, ...]]) -> Intake | None:
    """The one input that images fit, in the sizes of `shapes`; None where there is none, or more than one."""
    found = [one for spec in specs if (one := _intake(spec, shapes.get(spec.name, ()))) is not None]
    return found[0] if len(found) == 1 else None


def _intake(spec: InputSpec, shape: tuple[int, ...]) -> Intake | None:
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8)
    if len(shape) != 4 or spec.elem_type not in kinds:
        return None
    last = shape[3] in _CHANNELS and (spec.channel_axis == 3 or shape[1] not in _CHANNELS)
    channels, height, width = (shape[3], *shape[1:3]) if last else shape[1:]
    if channels not in _CHANNELS or min(height, width) < _SMALLEST_SIDE:
        return None
    return Intake(spec.name, channels, height, width, last, spec.elem_type)


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a model wants pixel values: x · scale + offset of x in 0..1, by channel of red, green and blue.

    Attributes:
        name: as shown to a user.
        scale, offset: one for all channels, or one each.
        blue_first: the channels come as blue, green, red; scale and offset go by that order then.
    """

    name: str
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    blue_first: bool = False

    def of(self, images: Float32) -> Float32:
        """Images (n, 3, height, width) in 0..1, in these values."""
        scale, offset = (np.array(part, np.float32)[:, None, None] for part in (self.scale, self.offset))
        ordered = images[:, ::-1] if self.blue_first else images
        return np.asarray(ordered * scale + offset, np.float32)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value of any channel."""
        low, high = np.array(self.offset), np.array(self.offset) + np.array(self.scale)
        return float(low.min()), float(high.max())


def _floats(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(one) for one in values)


UNIT: Final = Pixels("0..1")
SIGNED: Final = Pixels("-1..1", (2.0,), (-1.0,))
STANDARDISED: Final = Pixels(
    "0..1 less ImageNet's mean, over its standard deviation",
    _floats(1 / _IMAGENET_STD),
    _floats(-_IMAGENET_MEAN / _IMAGENET_STD),
)
BYTES: Final = Pixels("0..255", (255.0,), (0.0,))
CENTRED: Final = Pixels("0..255 less a mean, blue first", (255.0,), _floats(-_CAFFE_MEAN), blue_first=True)
SIGNED_BYTES: Final = Pixels("-128..127", (255.0,), (-128.0,))

SMALL: Final = (UNIT, SIGNED, STANDARDISED)
LARGE: Final = (BYTES, CENTRED)


def given(low: float, high: float) -> Pixels:
    """The range that a user names."""
    return Pixels(f"{low:g}..{high:g}", (high - low,), (low,))
