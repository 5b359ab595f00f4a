"""Convolutions from their definition, one tap at a time, and the dense matrix of one: oracles for the numerics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A convolution's weight and attributes; one entry a spatial dimension, `pads` on both sides alike."""

    weight: Array
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    circular: bool = False

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups)

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0])


def apply(case: Case, x: Array) -> Array:
    """The convolution of x, shape (images, channels, *spatial), without bias."""
    per_input, per_output = case.inputs // case.groups, case.outputs // case.groups
    parts = []
    for g in range(case.groups):
        data = x[:, g * per_input : (g + 1) * per_input]
        if case.transposed:
            weight = case.weight[g * per_input : (g + 1) * per_input]
        else:
            weight = case.weight[g * per_output : (g + 1) * per_output].swapaxes(0, 1)
        parts.append(_one_group(case, data, weight))
    return np.concatenate(parts, axis=1)


def _one_group(case: Case, x: Array, weight: Array) -> Array:
    """`weight` has shape (inputs, outputs, *kernel)."""
    if case.circular:
        return _circular(case, x, weight)
    return _spread(case, x, weight) if case.transposed else _gather(case, x, weight)


def _taps(case: Case) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    for tap in np.ndindex(*case.kernel):
        yield tap, tuple(t * d for t, d in zip(tap, case.dilations, strict=True))


def _tap(weight: Array, tap: tuple[int, ...]) -> Array:
    """The matrix (inputs, outputs) of one tap."""
    at: tuple[Any, ...] = (slice(None), slice(None), *tap)
    return np.asarray(weight[at])


def _spans(case: Case) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(case.kernel, case.dilations, strict=True)]


def _gather(case: Case, x: Array, weight: Array) -> Array:
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in case.pads)])
    sizes = [(n - span) // s + 1 for n, span, s in zip(x.shape[2:], _spans(case), case.strides, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[1], *sizes))
    for tap, at in _taps(case):
        cut = tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(at, sizes, case.strides, strict=True))
        y += np.einsum("ni...,io->no...", x[:, :, *cut], _tap(weight, tap))
    return y


def _spread(case: Case, x: Array, weight: Array) -> Array:
    spatial = x.shape[2:]
    sizes = [(n - 1) * s + span for n, s, span in zip(spatial, case.strides, _spans(case), strict=True)]
    y = np.zeros((x.shape[0], weight.shape[1], *sizes))
    for tap, at in _taps(case):
        cut = tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(at, spatial, case.strides, strict=True))
        y[:, :, *cut] += np.einsum("ni...,io->no...", x, _tap(weight, tap))
    crop = tuple(slice(p, n - p) for p, n in zip(case.pads, sizes, strict=True))
    return y[:, :, *crop]


def _circular(case: Case, x: Array, weight: Array) -> Array:
    """The same on a ring: the data of a convolution, or the result of a transposed one, wraps around."""
    spatial = x.shape[2:]
    if case.transposed:
        ring = [n * s for n, s in zip(spatial, case.strides, strict=True)]
        wide = np.zeros((*x.shape[:2], *ring))
        wide[:, :, *(slice(None, None, s) for s in case.strides)] = x
        x = wide
    axes = tuple(range(2, x.ndim))
    y = np.zeros((x.shape[0], weight.shape[1], *x.shape[2:]))
    for tap, at in _taps(case):
        shift = at if case.transposed else tuple(-a for a in at)
        y += np.einsum("ni...,io->no...", np.roll(x, shift, axes), _tap(weight, tap))
    return y if case.transposed else y[:, :, *(slice(None, None, s) for s in case.strides)]


def channel_matrices(case: Case, spatial: tuple[int, ...]) -> list[Array]:
    """For every output channel the dense matrix from all inputs to it, found from basis inputs."""
    count = case.inputs * int(np.prod(spatial))
    y = apply(case, np.eye(count).reshape(count, case.inputs, *spatial))
    return [y[:, channel].reshape(count, -1).T for channel in range(case.outputs)]


def norms(matrices: list[Array]) -> Array:
    """Largest singular value of each matrix."""
    return np.array([np.linalg.norm(m, 2) if m.size else 0.0 for m in matrices])
