"""The table of forms: every way to write a linear layer and its normalisation, and what must come of each."""

from __future__ import annotations

from itertools import chain

from tests.forms import (
    affine,
    batchnorm,
    branches,
    computed,
    constants,
    domains,
    dtypes,
    forward,
    guards,
    layout,
    linear,
    names,
    places,
    quantised,
    rounding,
)
from tests.forms.build import Form

MODULES = (
    linear,
    affine,
    batchnorm,
    computed,
    constants,
    layout,
    places,
    dtypes,
    quantised,
    rounding,
    forward,
    branches,
    guards,
    domains,
    names,
)

TABLE: tuple[Form, ...] = tuple(chain.from_iterable(m.rows() for m in MODULES))
