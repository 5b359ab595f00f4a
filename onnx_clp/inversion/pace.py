"""How much of a search there is time and memory for.

An image through the model and back takes so many seconds and so many bytes on this machine. From that follow how many
images go through at once, and how many images and steps of descent a search can afford before its time is up.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from onnx_clp.errors import NotValidated
from onnx_clp.inversion.program import OutOfMemory

_Found = TypeVar("_Found")

MOST_AT_ONCE: Final = 100
FORWARD: Final = 0.3
"""The share of the time there and back that an image takes there."""


_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 4 << 20
"""Bytes."""


class TimeUp(Exception):
    """The time for a part of a search is over."""


class Deadline:
    """The seconds that a search may take, from now on; `until` narrows them to a share for one of its parts."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start, self._seconds, self._share = clock, clock(), seconds, 1.0

    def again(self, before: float) -> bool:
        """Whether there is time for as much once more as was done since `before` seconds were left."""
        return math.isinf(before) or self.left >= before - self.left

    def until(self, share: float) -> None:
        """What follows must be done when this share (0..1) of the whole time is over."""
        self._share = share

    @property
    def left(self) -> float:
        """Seconds until then; below 0 after it."""
        return self._share * self._seconds - (self._clock() - self._start)

    def check(self) -> None:
        """Raise `TimeUp` where none are left."""
        if self.left <= 0:
            raise TimeUp


def thinned(affordable: float, wanted: float) -> float:
    """By which images and steps both shrink so that their product becomes affordable; above 0, at most 1."""
    return math.sqrt(min(1.0, max(affordable, 1e-9) / wanted))


def fewer(count: int, factor: float, least: int) -> int:
    """`count` times `factor`, rounded; at least `least` where `count` is that large."""
    return min(count, max(least, round(count * factor)))


def return_large() -> None:
    """Have glibc return every large array to the system as soon as it is free (mallopt(3)); others do so anyway.

    Kept, arrays of many sizes leave gaps between them, and a limit on memory counts the gaps: a walk on 120 images of
    224 pixels used 0.7 GB and held 2.7. Descents take 1.4 times as long with it.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_MMAP_THRESHOLD, _LARGE)
        set_option(_TRIM_THRESHOLD, _LARGE)


class Batches:
    """Runs images in parts that memory has room for: a quarter of them whenever it has not, so that some is left.

    Args:
        most: images of a part at the start.
    """

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self.size = most

    def run(self, count: int, work: Callable[[slice], _Found]) -> Iterator[tuple[slice, _Found]]:
        """What `work` gives for each part of `count` images in turn, with the part.

        Raises:
            NotValidated: there is no memory for one image alone.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                found = work(part)
            except (OutOfMemory, MemoryError) as error:
                self._shrink(error)
                continue
            yield part, found
            start = part.stop

    def _shrink(self, error: Exception) -> None:
        if self.size == 1:
            raise NotValidated(f"there is not enough memory for one image: {error}; allow more with --memory")
        self.size = max(1, self.size // 4)
