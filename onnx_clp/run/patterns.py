"""Patterns of --include and --exclude that fit no layer of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from onnx_clp.config import CleanConfig
from onnx_clp.judge.prune_channels import LayerVerdict, matches
from onnx_clp.text import shown
from onnx_clp.verdicts import Finding

UNMATCHED: Final = "pattern without a layer"


def unmatched(verdicts: Sequence[LayerVerdict], config: CleanConfig) -> tuple[Finding, ...]:
    """One finding a pattern that no linear layer's name fits, with the name nearest to it."""
    layers = [verdict.rewrite.layer for verdict in verdicts]
    names = [(layer.name, layer.output) for layer in layers]
    return tuple(_findings("--include", config.include, names)) + tuple(_findings("--exclude", config.exclude, names))


def _findings(option: str, patterns: Sequence[str], names: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    for pattern in patterns:
        if not any(matches(*pair, (pattern,)) for pair in names):
            from difflib import get_close_matches

            near = get_close_matches(pattern, [name for name, _ in names], 1, 0.3)
            hint = f"; the nearest is '{shown(near[0], 60)}'" if near else ""
            yield Finding(UNMATCHED, f"{option} {shown(pattern, 60)}", f"no layer has such a name{hint}")
