"""A value on its way through a network: bounds by channel, where its channels lie, which of its places may move.

A patch covers K entries of a row and of a column of the input, wherever it lies. Behind layers with stride s what it
may move are the places q with ceil((p + first) / s) <= q <= floor((p + last) / s) of each axis, p where it begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnx_clp.numerics.intervals import Float64, Spread, box, settled

Array = NDArray[Any]
Axes = tuple[str, ...]
"""What lies along each axis: letters of N, C, H and W, the slowest first; "" for an axis of one entry."""

_WHOLE: Final = 0


class NoBoundError(Exception):
    """There is no rule for what a node does; the text says what that is."""


@dataclass(frozen=True, slots=True)
class Track:
    """One axis of the image: how many places it has, and which of them a patch moves; stride 0 says all of them."""

    size: int
    stride: int = _WHOLE
    first: int = 0
    last: int = 0

    @property
    def moved(self) -> int:
        """How many places a patch moves at most."""
        return self.size if self.stride == _WHOLE else min(self.size, (self.last - self.first) // self.stride + 1)

    def seen(self, size: int, reach: int, stride: int, begin: int) -> Track:
        """The axis as windows of `reach` entries see it, `begin` of them added in front; `size` windows."""
        if self.stride == _WHOLE:
            return Track(size)
        first = self.first + self.stride * (begin - reach + 1)
        return Track(size, self.stride * stride, first, self.last + self.stride * begin)

    def joined(self, other: Track) -> Track:
        """What two values move, place by place."""
        if self.size != other.size or self.stride != other.stride:
            return Track(max(self.size, other.size))
        return replace(self, first=min(self.first, other.first), last=max(self.last, other.last))


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """The product with a matrix that a value is, but for constants added.

    `weights` are (outputs, inputs, taps); `read` is the spread of what it reads.
    """

    weights: Array
    read: Spread


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A value.

    Attributes:
        spread: its bounds by channel.
        axes: how it is laid out, without the letters of which there is one entry.
        batch: its entries along N.
        rows, columns: its places.
        head: the product with a matrix that it is; None where it is none.
    """

    spread: Spread
    axes: Axes
    batch: int
    rows: Track
    columns: Track
    head: Product | None = None

    def __post_init__(self) -> None:
        sizes = self.sizes
        laid = tuple("".join(one for one in group if sizes[one] > 1) for group in self.axes)
        object.__setattr__(self, "axes", laid)

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.spread.low)

    @property
    def places(self) -> int:
        """How many places of a channel a patch moves at most."""
        return self.rows.moved * self.columns.moved

    @property
    def sizes(self) -> Mapping[str, int]:
        """Entries by letter."""
        return {"N": self.batch, "C": self.channels, "H": self.rows.size, "W": self.columns.size}

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""
        sizes = self.sizes
        return tuple(math.prod(sizes[one] for one in group) for group in self.axes)

    def of(self, spread: Spread) -> Field:
        """The same places with other bounds."""
        return replace(self, spread=spread, head=None)

    def laid(self, axes: Axes) -> Field:
        """The same entries along other axes."""
        return replace(self, axes=axes)

    def lies(self, *wanted: str) -> bool:
        """Whether each axis holds that letter, or no more than one entry where there is one of it."""
        sizes = self.sizes
        return len(wanted) == len(self.axes) and all(
            have == want or (have == "" and sizes[want] == 1) for have, want in zip(self.axes, wanted, strict=True)
        )

    def by_channel(self, constant: Array) -> tuple[Float64, Float64]:
        """The smallest and the largest entry that each channel meets, of a constant that broadcasts over the value.

        Raises:
            NoBoundError: it does not.
        """
        wide = np.asarray(constant, np.float64)
        if wide.ndim > len(self.axes):
            raise NoBoundError("a constant of more axes")
        wide = wide.reshape((1,) * (len(self.axes) - wide.ndim) + wide.shape)
        shape, kept, at = list[int](), None, 0
        for letters, size in zip(self.axes, wide.shape, strict=True):
            parts = [self.sizes[one] for one in letters] if size > 1 else [1] * len(letters)
            if math.prod(parts) != size:
                raise NoBoundError("a constant of another shape")
            kept = at + letters.index("C") if "C" in letters else kept
            shape, at = [*shape, *parts], at + len(parts)
        wide = wide.reshape(shape)
        rest = tuple(axis for axis in range(len(shape)) if axis != kept)
        low, high = wide.min(axis=rest).reshape(-1), wide.max(axis=rest).reshape(-1)
        return np.broadcast_to(low, self.channels), np.broadcast_to(high, self.channels)

    def regrouped(self, shape: Sequence[int]) -> Axes:
        """The axes of the same entries in another shape.

        Raises:
            NoBoundError: it cuts through rows, columns or channels.
        """
        letters = [one for group in self.axes for one in group]
        axes = list[str]()
        for size in shape:
            group, count = "", 1
            while count < size and letters:
                group, count = group + letters[0], count * self.sizes[letters.pop(0)]
            if count != size:
                raise NoBoundError("a shape that cuts through channels")
            axes.append(group)
        if letters:
            raise NoBoundError("a shape that cuts through channels")
        return tuple(axes)

    def stretched(self, other: Field) -> Field:
        """The value repeated over the places of another one where it has one place only."""
        rows = Track(other.rows.size) if self.rows.size == 1 < other.rows.size else self.rows
        columns = Track(other.columns.size) if self.columns.size == 1 < other.columns.size else self.columns
        times = rows.size * columns.size // (self.rows.size * self.columns.size)
        if times == 1:
            return self
        one = self.spread
        spread = settled(one.low, one.high, one.most, one.total * times, rows.moved * columns.moved)
        axes = other.axes if len(other.axes) == len(self.axes) else self.axes
        return Field(spread, axes, self.batch, rows, columns)


def image(axes: Axes, shape: Sequence[int], low: float, high: float, patch: int) -> Field:
    """The input: images of pixel values in low..high, with any patch of `patch` × `patch` put anywhere on them."""
    sizes = dict(zip(axes, shape, strict=True))
    rows, columns = (Track(sizes[one], 1, 0, patch - 1) for one in "HW")
    spread = box(low, high, sizes["C"], rows.moved * columns.moved)
    return Field(spread, axes, sizes["N"], rows, columns)
