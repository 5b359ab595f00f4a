"""The paper's third experiment: seconds of scoring against a loop of one SVD a channel, over model sizes."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

from tools.bench.scoring import shapes
from tools.evidence import record

log = logging.getLogger(__name__)

LOG = "scoring.jsonl"
WIDTHS = (8, 16, 32, 64)
_ROUNDS = 3


def measure(out: Path) -> None:
    """Median CPU seconds on one thread, by width of a ResNet-18, each in a process of its own."""
    done = {line["width"] for line in record.lines(out / LOG)}
    for width in WIDTHS:
        if width in done:
            continue
        command = [sys.executable, "-m", "tools.bench.scoring", str(_ROUNDS), str(width)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        seconds = {name: round(value, 5) for name, value in json.loads(found.stdout).items()}
        line = {"width": width, **_size(width), "seconds": seconds}
        record.write(out / LOG, [*record.lines(out / LOG), line])
        log.info("width %d: %s", width, seconds)


def _size(width: int) -> dict[str, int]:
    return {
        "channels": sum(shape[0] for shape in shapes(width)),
        "weights": sum(math.prod(shape) for shape in shapes(width)),
    }
