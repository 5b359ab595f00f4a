"""Names for what an edit adds."""

from __future__ import annotations

from collections.abc import Iterable


class NameScope:
    """Names taken in any scope of a model; fresh ones come only from here."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        """A name no scope of the model has, `base` itself if it is free."""
        name, count = base, self._counts.get(base, 1)
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._taken.add(name)
        return name
