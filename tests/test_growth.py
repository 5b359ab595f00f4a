"""How the work of a run grows with the model: on twice the blocks it at most doubles, for every family of graphs.

Work is counted in calls of functions, which no other program on the machine changes.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import onnx
import pytest

import onnx_clp
from onnx_clp import CleanConfig
from tools.bench.families import FAMILIES

EVERYTHING = CleanConfig(validate=False, cleanup="all", compact=True, bound_activations=2.0, rule="gain", layers="all")
PLAIN = CleanConfig(validate=False)
QUICK = ("residual-bn-relu", "relu-outputs", "functions")


def calls(family: str, blocks: int, config: CleanConfig) -> int:
    """Calls of Python and C functions that a run makes."""
    model = FAMILIES[family](blocks).SerializeToString()
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:  # noqa: ARG001
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        onnx_clp.clean(model, config)
    finally:
        sys.setprofile(None)
    return count


def growth(family: str, blocks: int, config: CleanConfig) -> float:
    """How much more work the step from 2 to 4 times `blocks` is than that from 1 to 2 times: 2 where it is linear."""
    calls(family, 4, config)  # what is computed once and kept
    once, twice, four = (calls(family, n * blocks, config) for n in (1, 2, 4))
    return (four - twice) / (twice - once)


@pytest.mark.parametrize("family", QUICK)
def test_twice_the_blocks_are_at_most_twice_the_work(family: str) -> None:
    assert growth(family, 8, PLAIN) < 2.1


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("family", FAMILIES)
def test_twice_the_blocks_are_at_most_twice_the_work_in_every_family(family: str, config: CleanConfig) -> None:
    assert growth(family, 16, config) < 2.1


def test_there_are_thirty_families_and_they_are_sound() -> None:
    assert len(FAMILIES) >= 30
    for make in FAMILIES.values():
        onnx.checker.check_model(make(4), full_check=True)
