"""Names of layers in a column too narrow for some of them: shortened, and no two alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from onnx_clp.text import shown

_STEP: Final = 4


def fitted(names: Sequence[str], width: int) -> list[str]:
    """One text a name, at most `width` characters (at least 12), where names differ the texts differ too.

    A name that is too long loses its middle. Where that makes two alike, the cut moves to where they differ; names
    that no cut tells apart, or that are the same, are numbered.
    """
    found = [shown(name, width) for name in names]
    alike = _alike(found)
    for head in range(0, width - 1, _STEP):
        if not alike:
            return found
        cut = {at: _cut(names[at], head, width) for at in alike}
        taken = Counter([text for at, text in enumerate(found) if at not in alike] + list(cut.values()))
        found = [cut[at] if at in cut and taken[cut[at]] == 1 else text for at, text in enumerate(found)]
        alike = _alike(found)
    return _numbered(found, width)


def _alike(found: Sequence[str]) -> set[int]:
    counts = Counter(found)
    return {at for at, text in enumerate(found) if counts[text] > 1}


def _cut(name: str, head: int, width: int) -> str:
    """`name` with its first `head` characters, a mark, and as much of its end as fits."""
    if len(name) <= width:
        return shown(name, width)
    return shown(name[:head], max(head, 1)) * (head > 0) + "…" + shown(name[-(width - head - 1) :], width - head - 1)


def _numbered(found: Sequence[str], width: int) -> list[str]:
    counts, seen = Counter(found), Counter[str]()
    texts = []
    for text in found:
        seen[text] += 1
        mark = f" #{seen[text]}" if counts[text] > 1 else ""
        texts.append(text[: width - len(mark)] + mark)
    return texts
