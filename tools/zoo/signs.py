"""Rendered colour images, 32×32, of signs: five plates with four marks each, in changing pose and light.

Everything is drawn with NumPy from signed distances: no image, font or licence of others is involved. A
picture is made in this order: background, posed plate, mark, light, blur, noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Colour = tuple[float, float, float]
Stroke = tuple[float, float, float, float, float]
"""A rectangle of a mark: centre x, centre y, half length, half thickness, angle in degrees."""

SIZE = 32

_WHITE, _BLACK = (0.95, 0.95, 0.95), (0.08, 0.08, 0.08)
_RED, _BLUE, _YELLOW, _GREEN = (0.80, 0.08, 0.10), (0.10, 0.25, 0.70), (0.95, 0.75, 0.10), (0.10, 0.50, 0.25)


@dataclass(frozen=True, slots=True)
class Plate:
    """A sign's board: a regular polygon (0 `corners`: a disc) turned by `turn` degrees, and its colours."""

    corners: int
    turn: float
    rim: Colour
    fill: Colour
    ink: Colour


@dataclass(frozen=True, slots=True)
class Sign:
    """One class: a plate and the strokes of its mark, in plate coordinates (the plate has radius 1)."""

    name: str
    plate: Plate
    strokes: tuple[Stroke, ...]


PLATES: dict[str, Plate] = {
    "ring": Plate(0, 0.0, _RED, _WHITE, _BLACK),
    "disc": Plate(0, 0.0, _WHITE, _BLUE, _WHITE),
    "triangle": Plate(3, 90.0, _RED, _WHITE, _BLACK),
    "diamond": Plate(4, 0.0, _BLACK, _YELLOW, _BLACK),
    "square": Plate(4, 45.0, _WHITE, _GREEN, _WHITE),
}

MARKS: dict[str, tuple[Stroke, ...]] = {
    "bar": ((0.0, 0.0, 0.42, 0.12, 0.0),),
    "cross": ((0.0, 0.0, 0.42, 0.11, 45.0), (0.0, 0.0, 0.42, 0.11, -45.0)),
    "arrow": ((0.0, 0.0, 0.42, 0.10, 90.0), (-0.13, 0.26, 0.22, 0.09, 45.0), (0.13, 0.26, 0.22, 0.09, -45.0)),
    "pillars": ((-0.22, 0.0, 0.38, 0.11, 90.0), (0.22, 0.0, 0.38, 0.11, 90.0)),
}

SIGNS: tuple[Sign, ...] = tuple(
    Sign(f"{plate}-{mark}", PLATES[plate], MARKS[mark]) for plate in PLATES for mark in MARKS
)


def render(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw `count` images, uint8 (count, 3, 32, 32), and their classes, int64; image i is of class i mod 20.

    The same seed gives the same images; different seeds give independent ones.
    """
    rng = np.random.default_rng((seed, 1968))
    labels = np.arange(count, dtype=np.int64) % len(SIGNS)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    for number, sign in enumerate(SIGNS):
        mine = np.flatnonzero(labels == number)
        images[mine] = _draw(sign, mine.size, rng)
    return images, labels


def _draw(sign: Sign, count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    x, y = _pose(count, rng)
    picture = _background(count, rng)
    outline = _plate_distance(sign.plate, x, y)
    picture = _paint(picture, outline, sign.plate.rim)
    picture = _paint(picture, outline + 0.16, sign.plate.fill)
    mark = np.min([_stroke_distance(stroke, x, y) for stroke in sign.strokes], axis=0)
    picture = _paint(picture, mark, sign.plate.ink)
    picture = _blur(_light(picture, rng), rng)
    noise = rng.normal(size=picture.shape) * _uniform(rng, count, 0.01, 0.05)[:, None]
    return np.clip(np.rint(255 * (picture + noise)), 0, 255).astype(np.uint8)


def _uniform(rng: np.random.Generator, count: int, low: float, high: float) -> Floats:
    """(count, 1, 1), one number per image."""
    return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def _pose(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Plate coordinates of every pixel, each (count, 32, 32), y upwards, for a random pose per image."""
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1
    across, up = np.broadcast_to(axis, (1, SIZE, SIZE)), np.broadcast_to(-axis[:, None], (1, SIZE, SIZE))
    across, up = across - _uniform(rng, count, -0.18, 0.18), up - _uniform(rng, count, -0.18, 0.18)
    depth = 1 + _uniform(rng, count, -0.15, 0.15) * across + _uniform(rng, count, -0.15, 0.15) * up
    angle, size = _uniform(rng, count, -0.21, 0.21), _uniform(rng, count, 0.62, 0.92)
    squeeze = _uniform(rng, count, 0.85, 1.15)
    x = (np.cos(angle) * across + np.sin(angle) * up) / (size * depth * squeeze)
    y = (np.cos(angle) * up - np.sin(angle) * across) / (size * depth)
    return x, y


def _plate_distance(plate: Plate, x: Floats, y: Floats) -> Floats:
    """Signed distance to the plate's edge, negative inside."""
    if plate.corners == 0:
        return np.hypot(x, y) - np.float32(0.9)
    apothem = np.cos(np.pi / plate.corners)
    sides = np.deg2rad(plate.turn) + np.pi / plate.corners * (1 + 2 * np.arange(plate.corners))
    faces = [np.float32(np.cos(side)) * x + np.float32(np.sin(side)) * y for side in sides]
    distance: Floats = np.max(faces, axis=0) - np.float32(apothem)
    return distance


def _stroke_distance(stroke: Stroke, x: Floats, y: Floats) -> Floats:
    """Distance to a rectangle's edge, negative inside (the larger of the two axes' distances)."""
    centre_x, centre_y, length, thickness, degrees = stroke
    cos, sin = np.float32(np.cos(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(degrees)))
    x, y = x - np.float32(centre_x), y - np.float32(centre_y)
    along, aside = np.abs(cos * x + sin * y), np.abs(cos * y - sin * x)
    distance: Floats = np.maximum(along - np.float32(length), aside - np.float32(thickness))
    return distance


def _paint(picture: Floats, distance: Floats, colour: Colour) -> Floats:
    """Cover the inside with a colour; the edge is one pixel wide."""
    cover = np.clip(0.5 - distance * np.float32(SIZE / 3), 0, 1)[:, None]
    ink = np.asarray(colour, np.float32)[:, None, None]
    painted: Floats = picture + cover * (ink - picture)
    return painted


def _background(count: int, rng: np.random.Generator) -> Floats:
    """A smooth random texture, (count, 3, 32, 32) in 0..1: 5 × 5 colours spread linearly."""
    coarse = rng.uniform(0, 1, (count, 3, 5, 5)).astype(np.float32)
    position = np.linspace(0, 4, SIZE, dtype=np.float32)
    spread = np.clip(1 - np.abs(position[:, None] - np.arange(5, dtype=np.float32)), 0, None)
    texture: Floats = np.einsum("ncij,hi,wj->nchw", coarse, spread, spread, optimize=True)
    return texture


def _light(picture: Floats, rng: np.random.Generator) -> Floats:
    """Exposure, a colour cast and a slope of brightness across the image."""
    count = len(picture)
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    slope = 1 + _uniform(rng, count, -0.25, 0.25) * axis + _uniform(rng, count, -0.25, 0.25) * axis[:, None]
    cast = rng.uniform(0.85, 1.15, (count, 3, 1, 1)).astype(np.float32)
    lit: Floats = picture * cast * (_uniform(rng, count, 0.4, 1.1) * slope)[:, None]
    return lit


def _blur(picture: Floats, rng: np.random.Generator) -> Floats:
    """Gaussian blur of 0.3 to 1.1 pixels, one radius per image, edges repeated."""
    offsets = np.arange(-3, 4)
    radius = _uniform(rng, len(picture), 0.3, 1.1)[:, 0]
    weights = np.exp(-0.5 * (offsets / radius) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    for axis in (2, 3):
        pad = [(0, 0)] * 4
        pad[axis] = (3, 3)
        wide = np.pad(picture, pad, mode="edge")
        parts = (np.take(wide, range(k, k + SIZE), axis) * weights[:, k, None, None, None] for k in range(7))
        picture = sum(parts, np.zeros_like(picture)).astype(np.float32)
    return picture
