"""Names of the files that a run makes beside its output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_LONGEST: Final = 240
"""Of the 255 bytes a name may have, without "." + 8 digits + ".data"."""
_LONGEST_STAGED: Final = 100


def data_name(model: Path, digest: str) -> str:
    """What the data file of `model` with a SHA-256 of `digest`, in hexadecimal, is called."""
    return f"{_plain(model.name, _LONGEST)}.{digest[:8]}.data"


def is_own_data(model: Path, name: str) -> bool:
    """Whether `name` is one that `data_name` gives for `model`."""
    return re.fullmatch(re.escape(data_name(model, "")[: -len(".data")]) + r"[0-9a-f]{8}\.data", name) is not None


def staged_name(model: Path) -> str:
    """How the names begin of files that are staged for `model` and not in place yet."""
    return f".{_plain(model.name, _LONGEST_STAGED)}."


def _plain(name: str, most: int) -> str:
    """A name in at most `most` bytes that a location of external data may hold: UTF-8, no drive, no backslash."""
    plain = re.sub(r"[\\:\ud800-\udfff]", "_", name)
    return plain.encode()[:most].decode(errors="ignore")
