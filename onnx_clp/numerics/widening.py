"""Numbers as a file stores them, as float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_float64(values: NDArray[Any]) -> NDArray[np.float64]:
    """Of any numeric dtype and shape, as float64; a signalling NaN becomes a quiet one without a warning."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)
