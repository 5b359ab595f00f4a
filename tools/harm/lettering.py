"""Text drawn as images: lines, words, pages and captchas, in every font that is found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tools.harm.photographs import Pixels

_LETTERS = "babodadefigagohahokakilalelomamimonanenopaperarerosasesotatetitovawezu"
_SYLLABLES = [_LETTERS[start : start + 2] for start in range(0, len(_LETTERS), 2)]
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class Printer:
    """Draws text with a fixed sequence of random choices."""

    def __init__(self, fonts: Path | None, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._fonts = font_files(fonts)

    def words(self, count: int) -> str:
        """Made-up words, some with a capital, some numbers."""
        return " ".join(self._word() for _ in range(count))

    def code(self, length: int) -> str:
        """Capitals and digits, none that is mistaken for another."""
        return "".join(self._random.choice(list(_CAPITALS), length))

    def line(self, text: str, height: int, width: int) -> Pixels:
        """One line on paper, (height, width, 3): as large as fits, dark on light or light on dark."""
        dark, light = self._colours()
        image = Image.new("RGB", (width, height), light)
        font = self._fitting(text, int(height * self._random.uniform(0.55, 0.75)), width - 10)
        left, top, _, bottom = font.getbbox(text)
        ImageDraw.Draw(image).text((5 - left, (height - bottom - top) / 2), text, font=font, fill=dark)
        return self._photographed(image)

    def captcha(self, text: str, height: int, width: int) -> Pixels:
        """Characters one by one, each turned and coloured, with lines across."""
        image = Image.new("RGB", (width, height), tuple(self._random.integers(190, 256, 3).tolist()))
        step = (width - 10) / len(text)
        for number, character in enumerate(text):
            font = ImageFont.truetype(self._font(), int(min(height * 0.75, step * 1.3)))
            glyph = Image.new("RGBA", (int(step * 1.4), height), (0, 0, 0, 0))
            fill = (*self._random.integers(0, 130, 3).tolist(), 255)
            ImageDraw.Draw(glyph).text((step * 0.2, height * 0.08), character, font=font, fill=fill)
            turned = glyph.rotate(float(self._random.uniform(-18, 18)), resample=Image.Resampling.BICUBIC)
            image.paste(turned, (int(5 + number * step), 0), turned)
        pen = ImageDraw.Draw(image)
        for _ in range(3):
            ends = self._random.uniform(0, 1, 4) * (width, height, width, height)
            pen.line(ends.tolist(), fill=tuple(self._random.integers(60, 200, 3).tolist()), width=1)
        return self._photographed(image)

    def page(self, side: int, ground: Pixels | None = None) -> Pixels:
        """Several lines at any place and angle up to 6 degrees, on paper or on a photograph (side, side, 3)."""
        dark, light = self._colours()
        image = Image.fromarray(ground) if ground is not None else Image.new("RGB", (side, side), light)
        top = 8
        while top < side - 30:
            font = ImageFont.truetype(self._font(), int(self._random.integers(12, 34)))
            at = (int(self._random.integers(4, side // 3)), top)
            ImageDraw.Draw(image).text(at, self.words(4), font=font, fill=dark if ground is None else light)
            top += int(font.size * self._random.uniform(1.2, 2.5))
        turn = float(self._random.uniform(-6, 6))
        return self._photographed(image.rotate(turn, resample=Image.Resampling.BICUBIC, fillcolor=light))

    def _word(self) -> str:
        if self._random.random() < 0.15:
            return str(self._random.integers(1, 10000))
        word = "".join(self._random.choice(_SYLLABLES, self._random.integers(1, 4)))
        return word.capitalize() if self._random.random() < 0.3 else word

    def _font(self) -> str:
        return str(self._fonts[int(self._random.integers(len(self._fonts)))])

    def _fitting(self, text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
        name = self._font()
        font = ImageFont.truetype(name, size)
        return (
            font
            if font.getlength(text) <= width
            else ImageFont.truetype(name, int(size * width / font.getlength(text)))
        )

    def _colours(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        dark = tuple(self._random.integers(0, 90, 3).tolist())
        light = tuple(self._random.integers(185, 256, 3).tolist())
        return (dark, light) if self._random.random() < 0.8 else (light, dark)

    def _photographed(self, image: Image.Image) -> Pixels:
        """A little blur and noise."""
        soft = image.filter(ImageFilter.GaussianBlur(float(self._random.uniform(0, 0.7))))
        values = np.asarray(soft, np.float32)
        noisy = values + self._random.normal(0, self._random.uniform(1, 6), values.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)


def font_files(folder: Path | None) -> Sequence[Path]:
    """Latin text fonts below `folder`, or those that matplotlib brings."""
    home = folder or Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = sorted(path for path in home.rglob("*") if path.suffix.lower() in {".ttf", ".otf"})
    odd = ("STIX", "cmsy", "cmex", "cmmi", "Display", "Symbol", "Initials", "Keyboard")
    return [path for path in found if not any(word in path.name for word in odd)]
