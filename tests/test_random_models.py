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


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_random_models(first: int) -> None:
    assert {seed: words for seed in range(first, first + 20) if (words := wrong(random_model(seed)))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 4100, 100))
def test_more_random_models(first: int) -> None:
    assert {seed: words for seed in range(first, first + 100) if (words := wrong(random_model(seed)))} == {}


def test_the_random_models_hold_something_to_fold() -> None:
    reports = [onnx_clp.clean(random_model(seed), FOLD).report for seed in range(30)]
    assert sum(any(layer.folded for layer in report.layers) for report in reports) >= 10
