"""A search for triggers in words, and its pictures as PNG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from onnx_clp.document.run import ChannelChanges, ClassInversion, FormFound, Inversion, Picture, RepairReport, Report
from onnx_clp.report.gauging import spelled
from onnx_clp.report.wording import percent, plural
from onnx_clp.text import one_line, shown

_SOURCES: Final = {
    "statistics": "made from the model to match its normalisations",
    "classes": "made from class evidence and smoothness alone, as the model keeps no statistics: weak evidence",
    "data": "supplied",
}
_MOST_CLASSES: Final = 20
_SHEET_ROW: Final = 10


def rows(report: Report) -> Iterator[str]:
    """The finding, the images, what moves most, what the repair came to."""
    found = report.inversion
    if found is None:
        return
    if found.sentence:
        yield found.sentence
    if found.unfinished and found.results:
        yield found.unfinished
    yield images(report)
    yield from _most_moved(report)
    if found.repair is not None:
        done = found.repair
        yield (
            f"repair: {plural(done.directions, 'direction')} capped at {plural(len(done.layers), 'place')}, at what "
            f"{percent(done.quantile)} of clean positions keep to; what was found turned {percent(done.flip_before)} "
            f"of the images, now {percent(done.flip)}; {percent(done.agreement)} of them keep their class"
        )
        yield f"it is predicted to cost {spelled(done.loss)}"
        yield _once_more(done)
        if done.left:
            first = done.left[0]
            yield f"{len(done.left):,} without a cap, such as {shown(first.name, 40)}: {one_line(first.sentence)}"
    if found.repair_note:
        yield f"no repair: {found.repair_note}"


def _once_more(done: RepairReport) -> str:
    if done.z is None:
        return "there was no time to search for the class once more"
    far = f"searched for once more, the class lies {done.z:.1f} standard deviations from the others"
    return f"{far}: a trigger is still there" if done.stands_out else f"{far} and no longer stands out"


def _most_moved(report: Report) -> Iterator[str]:
    """The channel that the named class's trigger moves most; nothing where none is named or moved."""
    moved = [one for one in changes(report) if one.most]
    if moved:
        assert report.inversion is not None
        one = max(moved, key=lambda one: one.most[0][1])
        (channel, change), target = one.most[0], report.inversion.likely
        yield (
            f"what was found towards class {target} moves channel {channel} at {shown(one.name, 40)} most, by "
            f"{_times(change)} times what it holds; the median channel there moves by {_times(one.median)}"
        )


def _times(change: float) -> str:
    return f"{change:,.1f}" if change >= 1 else f"{change:.2g}"


def changes(report: Report) -> tuple[ChannelChanges, ...]:
    """How far channels move, to be shown: only where a class is named."""
    found = report.inversion
    return () if found is None or found.likely is None else found.changes


def images(report: Report) -> str:
    """How many images the search used, what pixels they may have, and where they come from."""
    assert report.inversion is not None
    made = report.inversion.images
    fit = "" if made.fit is None else f"; the model gives {percent(made.fit)} of them the class they were made for"
    low, high = made.pixels
    return f"on {made.count} images with pixels from {low:g} to {high:g}, {_SOURCES[made.source]}{fit}"


def classes(report: Report) -> list[ClassInversion]:
    """The classes to show, the one that stands out most first."""
    found = [] if report.inversion is None else list(report.inversion.results)
    return sorted(found, key=lambda c: -c.z)[:_MOST_CLASSES]


def views(report: Report) -> list[tuple[str, str]]:
    """An image, the trigger that was found, and the image with it, each with its caption; [] where none was found.

    A form that its picture does not tell in full (a warp's grid, a blend, a perturbation drawn stronger than it is)
    comes without the third.
    """
    found = report.inversion
    form = None if found is None else _best(found)
    if found is None or form is None:
        return []
    shown_form = (f"the {form.kind} towards class {found.likely}", sheet([form.picture]))
    if not found.images.sheet:
        return [shown_form]
    first = found.images.sheet[0]
    image = ("an image of the search", sheet([first]))
    if form.kind not in _ADDED or (first.width, first.height, first.channels) != _form_of(form.picture):
        return [image, shown_form]
    return [image, shown_form, ("the image with it", sheet([_added(first, form.picture, _ADDED[form.kind])]))]


_ADDED: Final = {"patch": 1.0, "wave": 0.5}
"""Forms whose picture is what they add, grey for nothing; white adds this share of the range of pixels."""


def _best(found: Inversion) -> FormFound | None:
    """The form by which the likely class stands out most."""
    forms = [form for one in found.results if one.target == found.likely for form in one.forms]
    return max(forms, key=lambda form: form.z, default=None)


def _form_of(picture: Picture) -> tuple[int, int, int]:
    return picture.width, picture.height, picture.channels


def _added(image: Picture, change: Picture, share: float) -> Picture:
    grey = change.array().astype(float) / 255 * 2 - 1
    values = image.array().astype(float) / 255 + share * grey
    return Picture.of(values.transpose(2, 0, 1), 0, 1)


def sheet(pictures: Sequence[Picture]) -> str:
    """Pictures of one size in rows of ten as one PNG, as a data address."""
    if not pictures:
        return ""
    first = pictures[0]
    step = first.width * first.channels
    lines: list[bytes] = []
    for start in range(0, len(pictures), _SHEET_ROW):
        raw = [base64.b64decode(p.pixels) for p in pictures[start : start + _SHEET_ROW]]
        blank = bytes(step * (min(_SHEET_ROW, len(pictures)) - len(raw)))
        lines += [b"".join(r[y * step : (y + 1) * step] for r in raw) + blank for y in range(first.height)]
    return _png(lines, len(lines[0]) // first.channels, first.channels)


def _png(lines: Sequence[bytes], width: int, channels: int) -> str:
    """Rows of 8-bit grey or RGB pixels as a PNG (W3C PNG specification, colour types 0 and 2, filter 0)."""
    header = struct.pack(">IIBBBBB", width, len(lines), 8, 0 if channels == 1 else 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    chunks = b"".join(_chunk(*part) for part in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")))
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunks).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
