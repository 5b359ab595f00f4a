"""A progress bar on stderr, for runs that last longer than a second."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from onnx_clp.text import shown

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from onnx_clp.process.progress import Progress

DELAY = 1.0


class ProgressBar:
    """Shows the latest `Progress` it is called with, from `DELAY` seconds after entering until leaving.

    A stage may be silent for long, so a timer makes the bar appear, not the next call; short runs never
    import the drawing library.
    """

    def __init__(self, delay: float = DELAY) -> None:
        self._timer = threading.Timer(delay, self._appear)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._latest: Progress | None = None
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._over = False

    def __enter__(self) -> ProgressBar:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Take note of `progress`, and draw it if the bar is showing."""
        with self._lock:
            self._latest = progress
            self._draw()

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with self._lock:
            if self._over:
                return
            self._bar = RichProgress(*columns, console=Console(stderr=True, markup=False), transient=True)
            self._task = self._bar.add_task("reading", total=None)
            self._bar.start()
            self._draw()

    def _draw(self) -> None:
        if self._bar is None or self._task is None or self._latest is None:
            return
        stage, done, total = self._latest.stage, self._latest.done, self._latest.total
        self._bar.update(self._task, description=shown(stage, 30), completed=done, total=total or None)
