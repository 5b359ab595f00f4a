"""The page's tables, rewritten in place: what is between two markers is made, the rest is written by hand.

<!-- made: NAME -->
…
<!-- end -->
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from onnx_clp.errors import LoadError

_WIDTH: Final = 128
_PART = re.compile(r"(<!-- made: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, parts: Mapping[str, str]) -> str:
    """`text` with every marked part replaced; a part of which nothing was measured keeps what it has.

    Raises:
        LoadError: a part has no markers, or markers name no part.
    """
    marked = [found.group(2) for found in _PART.finditer(text)]
    if odd := sorted(set(marked) ^ set(parts)):
        raise LoadError(f"the page and its parts differ in: {', '.join(odd)}; mark each part once")
    if len(marked) != len(set(marked)):
        raise LoadError("a part is marked twice on the page; mark each part once")

    def replace(found: re.Match[str]) -> str:
        part = parts[found.group(2)]
        return f"{found.group(1)}{_wrapped(part)}\n{found.group(3)}" if part else found.group(0)

    return _PART.sub(replace, text)


def _wrapped(part: str) -> str:
    """A part with its prose wrapped, rows of tables as they are; items of a list are indented."""
    return "\n".join(line if line.startswith("|") else _filled(line) for line in part.split("\n"))


def _filled(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="  " if line.startswith("- ") else "", break_on_hyphens=False)


def fill(path: Path, parts: Mapping[str, str]) -> None:
    """Rewrite the marked parts of a page."""
    path.write_text(filled(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
