"""Random models, folded and pruned: same outputs, a valid file, nothing left to fold, the caller's model as it was."""

from __future__ import annotations

import pytest
from onnx import ModelProto

import onnx_clp
from tests.forms.build import Oracle
from tests.forms.judge import check
from tests.forms.run import difference, feeds, outputs
from tests.random_models import random_model

FOLD = onnx_clp.CleanConfig(prune=False, validate=False)
PRUNE = onnx_clp.CleanConfig(u=0.5, layers="all", validate=False)


def wrong(model: ModelProto) -> list[str]:
    """Everything wrong with what the package makes of a model, in words."""
    before = model.SerializeToString(deterministic=True)
    folded = onnx_clp.clean(model, FOLD).model
    pruned = onnx_clp.clean(model, PRUNE).model
    found = [] if model.SerializeToString(deterministic=True) == before else ["the caller's model was changed"]
    found += [words for result in (folded, pruned) if (words := check(result)) and not check(model)]
    again = onnx_clp.clean(folded, FOLD)
    found += ["a second run folds again" for layer in again.report.layers if layer.folded]
    for feed in feeds(model):
        wanted = outputs(model, feed, Oracle.ORT)
        found.append(difference(outputs(folded, feed, Oracle.ORT), wanted, 1e-3))
        outputs(pruned, feed, Oracle.ORT)
    return [words for words in found if words]


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
