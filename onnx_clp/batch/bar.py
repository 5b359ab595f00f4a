"""A progress bar over the models on stderr: how many have ended, how, and when the rest will have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_clp.batch.summary import Tally


class BatchBar:
    """Called with the tally after every model."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True, markup=False), transient=True)
        self._task = self._bar.add_task("models", total=total)

    @contextlib.contextmanager
    def shown(self) -> Iterator[BatchBar]:
        """Show the bar inside the block."""
        with self._bar:
            yield self

    def __call__(self, tally: Tally) -> None:
        """Draw."""
        text = f"{tally.suspicious} suspicious, {tally.failed} failed"
        self._bar.update(self._task, completed=len(tally.records), description=text)
