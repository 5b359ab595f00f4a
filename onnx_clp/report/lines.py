"""Lines of the plain-text report: spans with a colour each, rows with a label, and what wraps them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from onnx_clp.text import one_line

Span = tuple[str, str]
"""A colour, "" for none, and a text."""
Line = list[Span]

LABEL: Final = 12
_ANSI: Final = {"bold": "1", "dim": "2", "red": "31", "yellow": "33", "cyan": "36"}
_NUMBERS: Final = 6 + 3 * 9 + 7


@dataclass(frozen=True, slots=True)
class Style:
    """How wide the text is, and whether it lists everything."""

    width: int
    verbose: bool

    @property
    def name(self) -> int:
        """Columns left for a layer's name."""
        return self.width - _NUMBERS - 9


def printed(line: Line, color: bool) -> str:
    """A line as it is printed."""
    if not color:
        return "".join(part for _, part in line).rstrip()
    return "".join(f"\x1b[{_ANSI[style]}m{part}\x1b[0m" if style else part for style, part in line)


def rows(label: str, texts: Iterator[str], style: Style) -> Iterator[Line]:
    """A label and one text a row."""
    for place, text in enumerate(texts):
        yield from row("" if place else label, text, style)


def row(label: str, text: str, style: Style, hue: str = "") -> Iterator[Line]:
    """A label and a text, wrapped."""
    room = style.width - LABEL - 2
    for place, part in enumerate(parts(text, room) or [""]):
        yield [("dim", f"  {'' if place else label:<{LABEL}}"), (hue, part)]


def wrapped(text: str, style: Style) -> Iterator[Line]:
    """A remark below a row of the table."""
    for part in parts(text, style.width - 4):
        yield [("dim", f"    {part}")]


def parts(text: str, room: int) -> list[str]:
    """A text in pieces that fit into `room` columns."""
    pieces = textwrap.wrap(one_line(text), room - 3)
    # Wrapping may bring a continuous-integration command to the front of a line.
    return [rf"\x3a{part[1:]}" if part.startswith("::") else part for part in pieces]
