"""The real inputs of every network, made from labelled photographs, drawn text and played sounds.

An input file holds one array for each input of the network, its first axis counting samples: sample i is what a
session is given as it stands. `label` holds class indices where there are any; a text is its character indices,
filled up with -1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_clp.errors import LoadError
from tools.harm import faces, photographs, samples, sounds
from tools.harm.lettering import Printer
from tools.harm.photographs import Pixels

Array = NDArray[Any]
_FACES, _WINDOWS = 200, 0.5
_RATE = 16000


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arrays in the order of the network's inputs, each (samples, …); labels (samples,) or (samples, longest)."""

    arrays: tuple[Array, ...]
    labels: Array | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What inputs are made of: a file of photographs, fonts, and files of packages that some inputs need."""

    photographs: Path | None
    fonts: Path | None
    most: int
    file: Callable[[str], Path]
    """Path of `centerface` and `ppocr-rec` (networks) and `mel` (the wake word's first part)."""


def made(recipe: str, material: Material) -> Inputs:
    """The inputs of a recipe.

    Raises:
        LoadError: what they are made of is missing.
    """
    if recipe.startswith("photographs-"):
        return _photographs(recipe.removeprefix("photographs-"), material)
    return _RECIPES[recipe](material)


def _images(material: Material, most: int | None = None) -> tuple[tuple[Pixels, ...], NDArray[np.int64]]:
    if material.photographs is None:
        raise LoadError("photographs are needed; name the file with --photographs")
    return photographs.load(material.photographs, min(material.most, most or material.most))


def _photographs(way: str, material: Material) -> Inputs:
    side, prepared = photographs.WAYS[way]
    images, labels = _images(material, None if way in {"224", "240", "260", "imagenet"} else 300)
    return Inputs((np.stack([prepared(photographs.resized(image, side)) for image in images]),), labels)


def _lines(material: Material) -> Inputs:
    characters = ["", *_characters(material.file("ppocr-rec"))]
    known = {character: number for number, character in reversed(list(enumerate(characters)))} | {" ": 6624}
    printer = Printer(material.fonts, 1)
    texts = [printer.words(3) for _ in range(min(material.most, 300))]
    images = [_upright(printer.line(text, 48, 320)) for text in texts]
    return Inputs((np.stack(images),), _padded([[known[c] for c in text] for text in texts]))


def _characters(path: Path) -> list[str]:
    """The characters that PP-OCR's recogniser reads, in the order of its classes: its file's metadata name them."""
    properties = onnx.load(path, load_external_data=False).metadata_props
    return next((entry.value.split("\n") for entry in properties if entry.key == "character"), [])


def _upright(image: Pixels) -> Array:
    """BGR in -1..1, (1, 3, height, width)."""
    return photographs.planes(image[..., ::-1].astype(np.float32) / 127.5 - 1)


def _padded(texts: list[list[int]]) -> Array:
    out = np.full((len(texts), max(map(len, texts))), -1)
    for row, text in zip(out, texts, strict=True):
        row[: len(text)] = text
    return out


def _lines_turned(material: Material) -> Inputs:
    printer = Printer(material.fonts, 2)
    labels = np.arange(min(material.most, 400)) % 2
    lines = [printer.line(printer.words(2), 48, 192) for _ in labels]
    turned = [line[::-1, ::-1] if label else line for line, label in zip(lines, labels, strict=True)]
    return Inputs((np.stack([_upright(line) for line in turned]),), labels)


def _words_grey(material: Material) -> Inputs:
    printer = Printer(material.fonts, 3)
    images = [printer.captcha(printer.code(4 + i % 3), 64, 160) for i in range(min(material.most, 200))]
    return Inputs((np.stack([photographs.grey(image) / 255 for image in images])[:, None, None],))


def _words_colour(material: Material) -> Inputs:
    printer = Printer(material.fonts, 4)
    images, texts = [], []
    for number in range(min(material.most, 300)):
        texts.append(printer.code(4 + number % 3))
        images.append(photographs.planes(printer.captcha(texts[-1], 60, 160)[..., ::-1]))
    return Inputs((np.stack(images),), _padded([[int(character, 36) for character in text] for text in texts]))


def _captchas(material: Material) -> Inputs:
    images, _ = _images(material, 120)
    printer = Printer(material.fonts, 5)
    out = []
    for image in images:
        ground = photographs.resized(image, 416).copy()
        ground[8:96, 20:300] = printer.captcha(printer.code(5), 88, 280)
        out.append(photographs.planes(ground[..., ::-1].astype(np.float32)))
    return Inputs((np.stack(out),))


def _pages(material: Material) -> Inputs:
    images, _ = _images(material, 120)
    printer = Printer(material.fonts, 6)
    grounds = [photographs.resized(image, 320) if i % 2 else None for i, image in enumerate(images)]
    return Inputs((np.stack([photographs.imagenet(printer.page(320, ground)) for ground in grounds]),))


def _face_images(material: Material, margin: float = 1.25) -> list[Pixels]:
    images, _ = _images(material)
    found = faces.crops(images, material.file("centerface"), margin)
    if not found:
        raise LoadError("no face is found on the photographs")
    return found[:_FACES]


def _faces(side: int, prepared: Callable[[Pixels], Array], margin: float = 1.25) -> Callable[[Material], Inputs]:
    def recipe(material: Material) -> Inputs:
        images = _face_images(material, margin)
        return Inputs((np.stack([prepared(photographs.resized(image, side)) for image in images]),))

    return recipe


def _windows(
    side: int, margin: float, prepared: Callable[[Pixels], Array] = photographs.symmetric
) -> Callable[[Material], Inputs]:
    """Faces, and as many windows of photographs that hold anything."""

    def recipe(material: Material) -> Inputs:
        images = _face_images(material, margin)
        random = np.random.default_rng(7)
        for image in _images(material, len(images))[0]:
            y, x = random.integers(0, 112, 2)
            images.append(image[y : y + 112, x : x + 112])
        return Inputs((np.stack([prepared(photographs.resized(image, side)) for image in images]),))

    return recipe


def _grey(image: Pixels) -> Array:
    return np.asarray((photographs.grey(image) / 127.5 - 1)[None, ..., None])


def _turned(image: Pixels) -> Array:
    """As MTCNN takes it: columns before rows."""
    return photographs.symmetric(image.swapaxes(0, 1))


def _raw(image: Pixels) -> Array:
    return image.astype(np.float32)[None]


def _notes(material: Material) -> Inputs:
    random = np.random.default_rng(8)
    frames: list[Array] = []
    for program in (0, 24, 40, 56, 66, 73, 19, 52):
        pitches = random.permutation(np.arange(45, 84))[:20]
        samples = sounds.music([(program, int(pitch), 96) for pitch in pitches], _RATE)
        starts = (np.arange(len(pitches)) * _RATE // 2)[:, None] + np.array([1500, 3000, 4500])
        for start in starts.ravel():
            frame = samples[start : start + 1024].astype(np.float64)
            frames.append((frame - frame.mean()) / max(frame.std(), 1e-8))
    return Inputs((np.stack(frames[: material.most])[:, None].astype(np.float32),))


def _spoken(count: int, seconds: float, seed: int) -> list[Array]:
    printer = Printer(None, seed)
    random = np.random.default_rng(seed)
    length, out = int(seconds * _RATE), []
    for number in range(count):
        voice = np.resize(sounds.speech(printer.words(30), number), length) if seconds > 0 else np.zeros(0)
        noise = random.normal(0, 10 ** random.uniform(-4, -1.5), length)
        out.append((voice + noise).astype(np.float32))
    return out


def _speech(_: Material) -> Inputs:
    return Inputs((np.stack(_spoken(60, 9.01, 9))[:, None],))


def _music(_: Material) -> Inputs:
    random = np.random.default_rng(10)
    out = []
    for number in range(40):
        notes = [(int(random.integers(0, 80)), int(random.integers(45, 84)), 96) for _ in range(6)]
        out.append(np.resize(sounds.music(notes, 22050), 43844 + number * 100)[-43844:])
    return Inputs((np.stack(out)[:, None, :, None].astype(np.float32),))


def _speech_frames(_: Material) -> Inputs:
    context, step, windows = 64, 512, 60
    out = []
    for clip in _spoken(20, 2.2, 11):
        silent = np.concatenate([np.zeros(len(clip) // 3, np.float32), clip])[: context + windows * step]
        out.append(np.stack([silent[i * step : i * step + context + step] for i in range(windows)]))
    state = np.zeros((len(out), 1, 1, 128), np.float32)
    return Inputs((np.stack(out), state, state.copy()))


def _mel(material: Material) -> Inputs:
    session = samples.session(material.file("mel"))
    out = []
    for clip in _spoken(60, 4.0, 12):
        mel = session.run(None, {session.get_inputs()[0].name: clip[None] * 32767})[0].squeeze() / 10 + 2
        out += [mel[start : start + 76, :, None][None] for start in range(0, len(mel) - 76, 76)]
    return Inputs((np.stack(out).astype(np.float32),))


_RECIPES: dict[str, Callable[[Material], Inputs]] = {
    "lines": _lines,
    "lines-turned": _lines_turned,
    "words-grey": _words_grey,
    "words-colour": _words_colour,
    "captchas-416": _captchas,
    "pages-320": _pages,
    "faces-grey-64": _faces(64, _grey),
    "faces-224": _faces(224, _raw, 1.4),
    "heads-128": _windows(128, 2.0),
    "heads-48": _windows(48, 1.25, _turned),
    "heads-320": _windows(320, 2.5, photographs.unit),
    "heads-320-raw": _windows(320, 2.5, photographs.planes),
    "notes": _notes,
    "speech-9s": _speech,
    "music-2s": _music,
    "speech-frames": _speech_frames,
    "mel-spectrograms": _mel,
}


def write(inputs: Inputs, names: list[str], path: Path) -> None:
    """Keep inputs under the network's names for them.

    Raises:
        LoadError: there are more or fewer than the network takes.
    """
    if len(names) != len(inputs.arrays):
        raise LoadError(f"{path.stem} takes {len(names)} inputs, {len(inputs.arrays)} are made")
    labels = {} if inputs.labels is None else {"label": inputs.labels}
    np.savez(path, **dict(zip(names, inputs.arrays, strict=True)), **labels)  # type: ignore[arg-type]
