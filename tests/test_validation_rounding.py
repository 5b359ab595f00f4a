"""A model that magnifies rounding passes with a finding; a wrong fold of the same model does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import onnx_clp
from onnx_clp.config import RunLimits
from onnx_clp.errors import ValidationFailed
from onnx_clp.validation import Request, validate
from tools.trials import folding as fold_trial

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,16,16] x) => (float[1,4,14,14] y) {
    c = Conv(x, W)
    n = BatchNormalization(c, g, b, m, v)
    y = Sigmoid(n)
}
"""


def network(shift: float) -> ModelProto:
    """Behind a shift of -16 the runtime's Sigmoid answers 1e-7 in steps of its own rounding."""
    rng = np.random.default_rng(3)
    values = {
        "W": rng.normal(size=(4, 3, 3, 3)),
        "g": rng.uniform(0.1, 0.2, 4),
        "b": np.full(4, shift),
        "m": rng.normal(size=4),
        "v": rng.uniform(0.5, 1.0, 4),
    }
    model: ModelProto = onnx.parser.parse_model(TEXT)
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in values.items())
    return model


def folded(model: ModelProto, factor: float = 1.0) -> ModelProto:
    result = onnx_clp.clean(model, onnx_clp.CleanConfig(prune=False, validate=False)).model
    weight = next(t for t in result.graph.initializer if t.name == result.graph.node[0].input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return result


def proven(tmp_path: Path, before: ModelProto, after: ModelProto) -> set[str]:
    onnx.save(before, tmp_path / "in.onnx")
    onnx.save(after, tmp_path / "out.onnx")
    outcome = validate(
        Request(
            original=tmp_path / "in.onnx", folded=tmp_path / "out.onnx", final=None, limits=RunLimits(provider="cpu")
        )
    )
    return {finding.kind for finding in outcome.findings}


def test_a_sound_fold_of_a_vanishing_output_passes_with_a_finding(tmp_path: Path) -> None:
    model = network(-16.0)
    assert proven(tmp_path, model, folded(model)) == {"rounding"}


def test_a_sound_fold_of_an_ordinary_output_needs_no_finding(tmp_path: Path) -> None:
    model = network(0.0)
    assert proven(tmp_path, model, folded(model)) == set()


def test_a_tolerance_that_was_asked_for_stands(tmp_path: Path) -> None:
    model = network(0.0)
    onnx.save(model, tmp_path / "in.onnx")
    onnx.save(folded(model), tmp_path / "out.onnx")
    wanted: dict[str, Any] = {
        "original": tmp_path / "in.onnx",
        "folded": tmp_path / "out.onnx",
        "final": None,
        "limits": RunLimits(provider="cpu"),
    }
    with pytest.raises(ValidationFailed, match="1e-12"):
        validate(Request(**wanted, tolerance=1e-12))
    assert validate(Request(**wanted, tolerance=1e-3)).validation.tolerance == 1e-3


@pytest.mark.parametrize("shift", [0.0, -16.0])
def test_a_wrong_fold_fails_either_way(shift: float, tmp_path: Path) -> None:
    model = network(shift)
    with pytest.raises(ValidationFailed, match="max"):
        proven(tmp_path, model, folded(model, 3.0))


# What the outputs do not show


@pytest.mark.parametrize("seed", range(6))
def test_a_right_fold_passes_and_a_channel_that_is_1_percent_wrong_does_not(seed: int, tmp_path: Path) -> None:
    assert fold_trial.trial(seed, tmp_path) == (True, True)


@pytest.mark.slow
def test_the_same_on_more_networks() -> None:
    assert {seed for seed, *right in fold_trial.trials(range(6, 100)) if right != [True, True]} == set()


HIDDEN = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,16,16] x) => (float[1,4,14,14] y) {
    c = Conv(x, W)
    n = BatchNormalization(c, g, b, m, v)
    q = STEP(n)
    z = Mul(q, none)
    y = Add(z, one)
}
"""


def hidden(step: str) -> ModelProto:
    """A network whose output is 1 whatever comes in."""
    rng = np.random.default_rng(3)
    values = {
        "W": rng.normal(size=(4, 3, 3, 3)),
        "g": rng.uniform(0.5, 2, 4),
        "b": rng.normal(size=4),
        "m": rng.normal(size=4),
        "v": rng.uniform(0.5, 1.0, 4),
        "none": np.zeros(1),
        "one": np.ones(1),
    }
    model: ModelProto = onnx.parser.parse_model(HIDDEN.replace("STEP", step))
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in values.items())
    return model


def test_a_wrong_fold_that_no_output_shows_is_named_by_its_value(tmp_path: Path) -> None:
    model = hidden("Relu")
    assert proven(tmp_path, model, folded(model)) == set()
    with pytest.raises(ValidationFailed, match=r"a channel of value n by 0\.01"):
        proven(tmp_path, model, folded(model, 1.01))


def test_where_rounding_can_turn_into_a_jump_the_outputs_alone_count(tmp_path: Path) -> None:
    model = hidden("Round")
    assert proven(tmp_path, model, folded(model, 1.01)) == set()
