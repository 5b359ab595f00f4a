"""How long each stage of a run takes, and word of it to whoever listens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from onnx_clp.process import signals
from onnx_clp.process.progress import Progress

Listener = Callable[[Progress], None]


@dataclass(slots=True)
class Clock:
    """Seconds each stage took; `listener` is called for every stage and for progress inside it."""

    listener: Listener | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage, without the stages inside it."""
        self.tick(name, 0, 0)
        start, counted = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - counted
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start - inside

    def tick(self, name: str, done: int, total: int) -> None:
        """Report progress inside a stage."""
        signals.check()
        if self.listener is not None:
            self.listener(Progress(name, done, total))
