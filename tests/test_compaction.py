"""Channels that do nothing are taken out: how many, from which layers, and the model computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnx_clp import CleanConfig
from onnx_clp.run.pipeline import clean, run
from tests.compact_models import Row, outputs, shapes
from tests.compact_rows import ROWS

Array = NDArray[Any]
CONFIG = CleanConfig(compact=True, compact_multiple=1, prune=False, validate=False)


def compacted(model: ModelProto, config: CleanConfig = CONFIG) -> tuple[ModelProto, dict[str, Any]]:
    """The compacted model, and what the report says, by the layer's first output."""
    result = clean(model, config)
    section = result.report.compaction
    assert section is not None
    return result.model, {layer.name: layer for layer in section.layers}


def weights(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every stored constant."""
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_form_loses_exactly_the_channels_that_can_go(row: Row) -> None:
    model = row.model()
    onnx.checker.check_model(model, full_check=True)
    made, layers = compacted(model)
    onnx.checker.check_model(made, full_check=True)
    assert {name: layer.removed for name, layer in layers.items() if layer.removed} == row.removed
    kept = {name: {c for part in layer.kept for c in part.channels} for name, layer in layers.items()}
    assert {name: channels for name, channels in kept.items() if channels} == row.kept
    for name, words in row.reasons.items():
        assert any(words in part.sentence for part in layers[name].kept), layers[name].kept
    for feeds in row.feeds():
        for before, after in zip(outputs(model, feeds), outputs(made, feeds), strict=True):
            assert before.shape == after.shape
            assert np.isfinite(before).all()
            np.testing.assert_allclose(after, before, rtol=row.tolerance, atol=row.tolerance * np.abs(before).max())
    assert shapes(made) == shapes(model)
    if not row.removed:
        assert made == clean(model, CleanConfig(prune=False, validate=False)).model


def test_nothing_is_compacted_unless_asked_for() -> None:
    row = ROWS[0]
    result = clean(row.model(), CleanConfig(prune=False, validate=False))
    assert result.report.compaction is None
    assert result.model == row.model()


def test_the_written_file_is_proven_against_the_model_before(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(ROWS[0].model(), source)
    report = run(
        source, tmp_path / "out.onnx", CleanConfig(compact=True, compact_multiple=1, prune=False, provider="cpu")
    )
    assert report.validation.outcome == "validated"
    assert report.validation.compaction_error is not None
    assert report.validation.tolerance is not None
    assert report.validation.compaction_error <= report.validation.tolerance
    assert report.output is not None
    assert report.input is not None
    assert report.output.bytes < report.input.bytes
    again = run(
        tmp_path / "out.onnx",
        tmp_path / "again.onnx",
        CleanConfig(compact=True, compact_multiple=1, prune=False, provider="cpu"),
    )
    assert again.compaction is not None
    assert again.compaction.removed == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()


def test_stored_weights_keep_their_names() -> None:
    model = ROWS[0].model()
    made, _ = compacted(model)
    before, after = weights(model), weights(made)
    assert set(before) == set(after)
    assert sum(before[n] != after[n] for n in before) == 3
    kept = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    old = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(kept["w2"], old["w2"][:, [0, 1, 3, 4, 6, 7]])
