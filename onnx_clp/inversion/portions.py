"""Images that take part in a descent by portions, one a step.

A step needs a direction, not the exact slope: a fourth of the images gives one at a fourth of the cost, and since the
portions go round, what is found still has to turn all of them. What a step turns is known for its portion alone, so
shares are means over the last round.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from onnx_clp.inversion.request import Images

SIZE: Final = 16
"""Images a portion has, or somewhat more or fewer."""


class Portions:
    """`images` (n, channels, height, width), n ≥ 1, in portions of about `size` in their order.

    Attributes:
        count: how many portions there are.
        all: the images.
    """

    def __init__(self, images: Images, size: float = SIZE) -> None:
        self.count = max(1, round(len(images) / size))
        self.all = images
        self._parts = np.array_split(images, self.count)
        self._at = -1
        self._turned: deque[float] = deque(maxlen=self.count)
        self._weights: deque[int] = deque(maxlen=self.count)

    def again(self) -> Portions:
        """The same portions from the first on, with nothing noted."""
        return Portions(self.all, len(self.all) / self.count)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width) of an image."""
        return tuple(self._parts[0].shape[1:])

    def following(self) -> Images:
        """The next portion; behind the last comes the first."""
        self._at = (self._at + 1) % self.count
        return np.asarray(self._parts[self._at], np.float32)

    def turned(self, share: float) -> float:
        """Note the share of the present portion that was turned; the mean over the last round."""
        self._turned.append(share)
        self._weights.append(len(self._parts[self._at]))
        return float(np.average(self._turned, weights=self._weights))

    @property
    def seen(self) -> bool:
        """Whether every portion has been noted once."""
        return len(self._turned) == self.count
