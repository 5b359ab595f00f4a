"""The part of docs/gpu.md that tools/gpu/check.py writes, from what it measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN = "<!-- written by tools/gpu/check.py: begin -->"
END = "<!-- written by tools/gpu/check.py: end -->"
NOT_RUN = (
    "**Not run on a GPU yet.** No CUDA session and no TensorRT session of this project has been run: no machine with\n"
    "a GPU was at hand. What is written above about them is built and rehearsed on the CPU, and not proven."
)
_BLOCK = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)


def block(page: Mapping[str, Any] | None) -> str:
    """The block, marks included; None says that nothing has been run, and so does a page of the CPU alone."""
    real = page is not None and any(provider != "cpu" for provider in page["ran_on"])
    body = NOT_RUN if page is None or not real else "\n".join(_lines(page))
    return f"{BEGIN}\n{body}\n{END}"


def put_block(path: Path, page: Mapping[str, Any] | None) -> None:
    """Put the block in its place.

    Raises:
        ValueError: the page has no such place.
    """
    text = path.read_text(encoding="utf-8")
    changed, count = _BLOCK.subn(lambda _: block(page), text)
    if count != 1:
        raise ValueError(f"{path}: the marks of the generated part are not there once")
    path.write_text(changed, encoding="utf-8")


def _lines(page: Mapping[str, Any]) -> Iterator[str]:
    for provider, facts in page["ran_on"].items():
        driver = f", driver {facts['driver']}" if facts["driver"] else ""
        yield f"- {provider}: {facts['runtime']} on {facts['device']}{driver}; Python {facts['python']}"
    for provider, why in page["not_started"].items():
        yield f"- {provider}: did not start ({why})"
    checks = page["checks"]
    for outcome in ("passed", "failed", "refused"):
        yield f"- {outcome}: {sum(check['outcome'] == outcome for check in checks)} of {len(checks)}"
    yield from (
        "",
        f"Runs of {page['batch']} images where the batch is open; cleaned models; the error is against the CPU.",
        "",
    )
    yield "| model | provider | outcome | nodes on it | fold error | error | load s | run ms | × CPU |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    for check in checks:
        yield _row(check)


def _row(check: Mapping[str, Any]) -> str:
    nodes = "-" if check["placed"] is None else f"{check['placed']} of {check['nodes']}"
    run = None if check["run_seconds"] is None else 1000 * check["run_seconds"]
    numbers = [check["fold_error"], check["error"], check["load_seconds"], run, check["speed_up"]]
    outcome = check["outcome"] if not check["reason"] else f"{check['outcome']}: {_cell(check['reason'])}"
    cells = [_cell(check["model"]), check["provider"], outcome, nodes, *map(_number, numbers)]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
