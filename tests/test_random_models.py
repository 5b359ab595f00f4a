"""Random models, folded, pruned, compacted and capped: the same outputs where they must be, valid, nothing left."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

import onnx_clp
from onnx_clp.config import RunLimits
from onnx_clp.validation import Request
from onnx_clp.validation.proof import prove
from onnx_clp.validation.provider import choose
from tests.forms.build import Array, Oracle
from tests.forms.judge import check
from tests.forms.run import difference, feeds, outputs
from tests.random_models import random_model

FOLD = onnx_clp.CleanConfig(prune=False, validate=False)
PRUNE = onnx_clp.CleanConfig(u=0.5, layers="all", validate=False)
COMPACT = onnx_clp.CleanConfig(u=0.5, layers="all", validate=False, compact=True, compact_multiple=1)
IDLE = onnx_clp.CleanConfig(prune=False, validate=False, bound_activations=1e6)
"""Caps that no value reaches: they must sit on values of the right shape, and change nothing."""
MEMORY = 4 << 30
CAPPED = onnx_clp.CleanConfig(prune=False, validate=False, bound_activations=0.5)


def wrong(model: ModelProto) -> list[str]:
    """Everything wrong with what the package makes of a model, in words."""
    before = model.SerializeToString(deterministic=True)
    folded, pruned, compacted, idle, capped = (
        onnx_clp.clean(model, config).model for config in (FOLD, PRUNE, COMPACT, IDLE, CAPPED)
    )
    found = [] if model.SerializeToString(deterministic=True) == before else ["the caller's model was changed"]
    made = {"folded": folded, "pruned": pruned, "compacted": compacted, "idle caps": idle, "capped": capped}
    if not check(model):
        found += [f"{name}: {words}" for name, result in made.items() if (words := check(result))]
    again = onnx_clp.clean(folded, FOLD)
    found += ["a second run folds again" for layer in again.report.layers if layer.folded]
    found += refused(model, folded)
    for feed in feeds(model):
        wanted = outputs(model, feed, Oracle.ORT)
        got = {name: outputs(result, feed, Oracle.ORT) for name, result in made.items()}
        same = {"folded": wanted, "idle caps": wanted, "compacted": got["pruned"]}
        found += [f"{name}: {words}" for name, to in same.items() if (words := difference(got[name], to, 1e-3))]
        found += [f"capped: {words}" for words in moved_shapes(got["capped"], wanted)]
    return found


def refused(model: ModelProto, folded: ModelProto) -> list[str]:
    """What the proof says against a fold, which was found right otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = (Path(folder) / name for name in ("before.onnx", "after.onnx"))
        onnx.save(model, before)
        onnx.save(folded, after)
        request = Request(original=before, folded=after, final=None, limits=RunLimits(provider="cpu"))
        try:
            prove(request, choose("cpu"), MEMORY)
        except onnx_clp.ClpError as error:
            return [f"refused: {error}"]
    return []


def moved_shapes(got: Sequence[Array], wanted: Sequence[Array]) -> list[str]:
    """What changed of outputs that may have other values: their shape, their type, or that they are finite."""
    pairs = zip(got, wanted, strict=True)
    return [
        f"{g.dtype}{g.shape} instead of {w.dtype}{w.shape}, or no longer finite"
        for g, w in pairs
        if (g.shape, g.dtype) != (w.shape, w.dtype)
        or (w.dtype.kind == "f" and np.isfinite(g).sum() < np.isfinite(w).sum())
    ]


def usable(seed: int) -> ModelProto | None:
    """A random model; None where chance made one that is invalid or does not run, which proves nothing."""
    try:
        model = random_model(seed)
        for feed in feeds(model):
            outputs(model, feed, Oracle.ORT)
    except Exception:  # whatever onnx, ONNX Runtime or the maker say of an impossible graph
        return None
    return model


def faults(seeds: range) -> dict[int, list[str]]:
    """What is wrong, by seed; at least nine in ten models must be usable."""
    models = {seed: model for seed in seeds if (model := usable(seed)) is not None}
    assert len(models) >= 0.9 * len(seeds)
    return {seed: words for seed, model in models.items() if (words := wrong(model))}


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_random_models(first: int) -> None:
    assert faults(range(first, first + 20)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 2100, 100))
def test_more_random_models(first: int) -> None:
    assert faults(range(first, first + 100)) == {}


def test_the_random_models_hold_something_to_fold() -> None:
    reports = [onnx_clp.clean(random_model(seed), FOLD).report for seed in range(30)]
    assert sum(any(layer.folded for layer in report.layers) for report in reports) >= 10
