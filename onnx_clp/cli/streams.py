"""What standard output takes: colours, and how many columns."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO


def wants_color(choice: str) -> bool:
    """Whether to colour, by --color, NO_COLOR, FORCE_COLOR (in this order) and whether it is a terminal."""
    if choice == "auto":
        return not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or is_terminal(sys.stdout))
    return choice == "always"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal that knows escape sequences."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def width() -> int:
    """Columns of the terminal, or as many as COLUMNS says where the table goes into a pipe; 80 to 120."""
    said = os.environ.get("COLUMNS", "")
    if not is_terminal(sys.stdout) and not said.isdecimal():
        return 80
    return min(max(shutil.get_terminal_size().columns, 80), 120)
