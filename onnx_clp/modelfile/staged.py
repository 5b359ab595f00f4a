"""A model that lies ready beside its destination, and how it is put in place: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnx_clp.errors import SaveError
from onnx_clp.modelfile.references import outdated, unreferenced
from onnx_clp.modelfile.turn import taken
from onnx_clp.process import signals
from onnx_clp.text import shown_path


@dataclass(slots=True)
class Staged:
    """A complete model lying in a temporary file beside its destination, not yet in its place."""

    model: Path
    destination: Path
    data: Path | None = None
    data_destination: Path | None = None
    sha256: str = ""
    size: int = 0
    _done: bool = field(default=False)

    check: Path | None = None
    spared: frozenset[Path] = frozenset()
    places: dict[int, tuple[int, int]] = field(default_factory=dict, repr=False)
    """Offset and length in `model` of every payload, by the payload's id."""

    def checkable(self) -> Path:
        """A path at which the model can be loaded now: its external data lies under a temporary name too."""
        return self.check or self.model

    def commit(self, *, overwrite: bool = True) -> None:
        """Put it in place: data first, the model last; then data files that only the replaced model needed go.

        Raises:
            SaveError: it cannot be put in place, or `overwrite` is False and a file has appeared there since the run
                began; nothing was changed.
        """
        with signals.held(), taken(self.destination.parent) as alone:
            signals.check()
            # Without a lock another run may be about to name the same file, so nothing is removed then.
            stale = outdated(self.destination) if alone else []
            try:
                self._put_inplace(overwrite)
            except OSError as error:
                raise SaveError(unwritable(self.destination, error)) from error
            self._done = True
            self._clear_up(stale)

    def _put_inplace(self, overwrite: bool) -> None:
        if not overwrite and os.path.lexists(self.destination):
            raise SaveError(
                f"{shown_path(self.destination)}: another program made it while this run worked; "
                "name another file or use --overwrite"
            )
        new_data = self._place_data()
        try:
            self.model.replace(self.destination)
        except OSError:
            if new_data is not None:
                new_data.unlink(missing_ok=True)
            raise

    def _place_data(self) -> Path | None:
        """The data file if it was not there before; one that another model needs is kept, never replaced."""
        if self.data is None or self.data_destination is None:
            return None
        place = self.data_destination
        existed = os.path.lexists(place)
        if existed and self._is_needed(place):
            import filecmp

            if not place.is_file() or not filecmp.cmp(self.data, place, shallow=False):
                raise SaveError(f"{shown_path(place)}: holds data of another model; name another output")
            self.data.unlink()
            return None
        self.data.replace(place)
        return None if existed else place

    def _is_needed(self, place: Path) -> bool:
        spared = Path(os.path.realpath(place.parent), place.name) in self.spared
        return spared or not unreferenced(self.destination, [place.name])

    def _clear_up(self, stale: Sequence[Path]) -> None:
        _sync_folder(self.destination.parent)
        gone = [path for path in stale if Path(os.path.realpath(path)) not in self.spared]
        for path in (self.check, *gone):
            if path is not None and path != self.data_destination:
                with contextlib.suppress(OSError):
                    path.unlink()

    def discard(self) -> None:
        """Remove what was not put in place."""
        if self._done:
            return
        for path in (self.model, self.data, self.check):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink()


def unwritable(path: Path, error: OSError) -> str:
    """Say that `path` cannot be written, why, and what to do."""
    return f"{shown_path(path)}: cannot be written ({error.strerror}); check the folder, its permissions and its disk"


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
