"""Options that do nothing beside others, and old names: what is said before a run. None of it stops one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Final

from onnx_clp.cli.words import OLD_GATES
from onnx_clp.config.options import OPTIONS
from onnx_clp.config.options.option import Option

Given = argparse.Namespace


def _nothing_runs(given: Given) -> bool:
    return bool(given.no_validate)


def _nothing_is_written(given: Given) -> bool:
    return given.destination is None or bool(given.dry_run)


def _nothing_is_pruned(given: Given) -> bool:
    return bool(given.no_prune) or given.rule == "inverted"


_IDLE: Final[tuple[tuple[tuple[str, ...], Callable[[Given], bool], str], ...]] = (
    (
        ("budget", "images", "memory", "output", "pixel_range", "provider", "seed", "shape", "timeout", "tolerance"),
        _nothing_runs,
        "--no-validate runs nothing",
    ),
    (("overwrite", "external_data"), _nothing_is_written, "no model is written"),
    (("fill",), _nothing_is_pruned, "no channel is switched off"),
    (("compact_multiple",), lambda given: not given.compact, "it belongs to --compact"),
    (("layers",), lambda given: bool(given.include), "--include says which layers are judged"),
    (("baseline",), lambda given: not given.fail_on, "it belongs to --fail-on"),
    (("color",), lambda given: bool(given.json or given.quiet), "no table is printed"),
)
"""Options by their destination, when they do nothing, and why."""


def of(given: Given) -> Iterator[str]:
    """One sentence for each option that was given and does nothing, and for each old name.

    Args:
        given: a parsed command line.
    """
    for names, idle, why in _IDLE:
        for option in map(_option, names if idle(given) else ()):
            if getattr(given, option.destination) != option.start:
                yield f"{option.name} does nothing here: {why}"
    for name in given.fail_on:
        if name in OLD_GATES:
            yield f"--fail-on {name} is an old name: say --fail-on {OLD_GATES[name]}"


def _option(destination: str) -> Option:
    return next(option for option in OPTIONS if option.destination == destination)
