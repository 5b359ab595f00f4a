"""A direction in channel space along which a trigger moves a value, and a cap on how far anything may go along it.

A value of shape (n, channels, …spatial) is seen as positions, one row of channels each. With F the positions of clean
images, mu and Sigma their mean and covariance, and D what a trigger adds:

    u = first eigenvector of E[D Dᵀ]          where the trigger pushes
    v = Sigma⁻¹u / (uᵀSigma⁻¹u)               how far a position lies along u, so vᵀu = 1
    F' = F − u·max(0, vᵀ(F − mu) − limit)     limit: a quantile of vᵀ(F − mu) over the clean positions

v is Fisher's linear discriminant between F and F + D, and F − u·vᵀ(F − mu) is the projection that takes u away while it
changes F least (least-squares concept erasure; Belrose et al., NeurIPS 2023). Here only what goes beyond the clean
range is taken away, so clean positions within it stay as they are to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

RIDGE: Final = 0.01
"""Of the mean variance, added to every variance: directions that clean positions hardly use stay invertible."""
_NOTHING: Final = 1e-9
_FURTHEST: Final = 1e6
_WHOLE_SPECTRUM: Final = 256
"""Channels up to which all eigenvectors together are found sooner than the first alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A cap: a position p becomes p − u·max(0, vᵀp + offset).

    Attributes:
        u: unit vector, float64 (channels,).
        v: float64 (channels,), vᵀu = 1.
        offset: −vᵀmu − limit.
    """

    u: Float64
    v: Float64
    offset: float

    def beyond(self, positions: Float64) -> Float64:
        """How far each of the positions, (n, channels), lies beyond the cap, (n,), at least 0."""
        return np.maximum(positions @ self.v + self.offset, 0.0)

    def cut(self, positions: Float64) -> Float64:
        """The positions, (n, channels), under the cap."""
        found = np.array(positions, np.float64)
        self.cut_in_place(found)
        return found

    def cut_in_place(self, positions: Float64) -> None:
        """Put the positions, (n, channels), under the cap; most lie below it and are not touched."""
        beyond = self.beyond(positions)
        hit = np.flatnonzero(beyond)
        positions[hit] -= np.outer(beyond[hit], self.u)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A direction and what was seen where it was found.

    Attributes:
        direction: the cap.
        beyond: share of the clean positions that it changes.
        shift: how far the trigger moves positions along the direction on average, in clean standard deviations
            (1e6 where clean positions do not spread).
    """

    direction: Direction
    beyond: float
    shift: float


def fit(clean: Float64, pushed: Float64, quantile: float) -> Fit | None:
    """Find the direction of `pushed` and cap it where the clean positions end.

    Args:
        clean: positions of images without the trigger, (n, channels), n ≥ 1.
        pushed: what the trigger adds to positions, (m, channels), m ≥ 1.
        quantile: share of the clean positions that stay as they are, in 0..1.

    Returns:
        None where the trigger does not move the value, or something is not finite.
    """
    clean, pushed = np.asarray(clean, np.float64), np.asarray(pushed, np.float64)
    if not (np.isfinite(clean).all() and np.isfinite(pushed).all()):
        return None
    if np.abs(pushed).max(initial=0.0) <= _NOTHING * max(np.abs(clean).max(initial=0.0), _NOTHING):
        return None
    mean = clean.mean(axis=0)
    centred = clean - mean
    u = _first(pushed)
    v = _reader(centred, u)
    if v is None:
        return None
    if (pushed @ v).mean() < 0:
        u, v = -u, -v
    along = centred @ v
    limit = float(np.quantile(along, quantile))
    direction = Direction(u, v, -float(v @ mean) - limit)
    if not np.isfinite([limit, direction.offset]).all():
        return None
    moved = float((pushed @ v).mean())
    spread = max(float(along.std()), moved / _FURTHEST)
    return Fit(direction, float((along > limit).mean()), moved / spread if spread else 0.0)


def fit_each(clean: Float64, moved: Sequence[Float64], rest: NDArray[np.bool_], quantile: float) -> list[Fit]:
    """Caps at one site against several changes, each found with those before it in place; the rows are cut on the way.

    Args:
        clean: (positions, channels).
        moved: the same positions under each change.
        rest: which positions a change moves, (positions,).
        quantile: as in `fit`.
    """
    fits = []
    for at, rows in enumerate(moved):
        found = fit(clean, rows[rest] - clean[rest], quantile)
        if found is not None:
            fits.append(found)
            for others in (clean, *moved[at + 1 :]):
                found.direction.cut_in_place(others)
    return fits


def _first(pushed: Float64) -> Float64:
    """First eigenvector of the uncentred second moment, of length 1."""
    scaled = pushed / np.abs(pushed).max()
    moment, last = scaled.T @ scaled, pushed.shape[1] - 1
    if last < _WHOLE_SPECTRUM:
        return np.asarray(np.linalg.eigh(moment)[1][:, -1])
    from scipy.sparse.linalg import eigsh

    # One eigenvector of thousands: Lanczos' method finds it in moments, from a start that no direction is across to.
    start = np.random.default_rng(0).normal(size=len(moment))
    return np.asarray(eigsh(moment, k=1, which="LA", v0=start)[1][:, 0], np.float64)


def _reader(centred: Float64, u: Float64) -> Float64 | None:
    """v; None where it is not finite. Clean positions that are all alike say nothing, and v is u."""
    covariance = centred.T @ centred / len(centred)
    variance = float(covariance.trace()) / len(u)
    if variance <= np.finfo(np.float64).tiny:
        return u
    with np.errstate(all="ignore"):
        solved = np.linalg.solve(covariance / variance + RIDGE * np.eye(len(u)), u)
        v = solved / (u @ solved)
    return v if np.isfinite(v).all() else None
