"""Every field of a configuration takes what means one thing, and refuses the rest where it is set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_clp
from onnx_clp import CleanConfig, UsageError

REFUSED = [
    ("exclude", "*conv1*", "a sequence"),
    ("include", b"conv1", "a sequence"),
    ("include", [1], "text"),
    ("bound", "exakt", "one of reshaped, exact"),
    ("layers", "dense", "one of conv, all"),
    ("cleanup", "al", "one of none, own, all"),
    ("provider", "gpu", "one of auto, cuda, tensorrt, cpu"),
    ("external_data", None, "one of auto, always, never"),
    ("u", "3", "a number"),
    ("u", True, "a number"),
    ("seed", 1.5, "a whole number"),
    ("prune", 1, "True or False"),
    ("eval_data", 3, "a path"),
    ("eval_data", "", "a path"),
    ("output_name", 3, "text"),
    ("shapes", [("x", (1,))], "a mapping"),
    ("shapes", {"x": (0, 1)}, "at least 1"),
    ("shapes", {"x": (1.5,)}, "a whole number"),
    ("sweep", 3.0, "a sequence"),
    ("memory", -1, "above 0"),
]


@pytest.mark.parametrize(("field", "value", "wanted"), REFUSED)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any, wanted: str) -> None:
    with pytest.raises(UsageError, match=f"{field}.*{wanted}|a size limit.*{wanted}"):
        CleanConfig(**{field: value})


TAKEN = [
    ("exclude", ["a", "b"], ("a", "b")),
    ("sweep", [2, 3], (2.0, 3.0)),
    ("u", np.float32(2.5), 2.5),
    ("u", 3, 3.0),
    ("seed", np.int64(7), 7),
    ("compact", np.bool_(True), True),
    ("eval_data", "models/x.npz", Path("models/x.npz")),
    ("shapes", {"x": [1, 2]}, {"x": (1, 2)}),
    ("tolerance", None, None),
]


@pytest.mark.parametrize(("field", "value", "stored"), TAKEN)
def test_what_means_one_thing_is_taken_over_in_the_fields_own_type(field: str, value: Any, stored: Any) -> None:
    found = getattr(CleanConfig(**{field: value}), field)
    assert found == stored
    assert type(found) is type(stored)


def test_data_named_by_relative_text_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Path(__file__).parent.parent / "models"
    monkeypatch.chdir(models)
    config = CleanConfig(provider="cpu", eval_data="fashion-mnist_badnets_target0.npz")  # type: ignore[arg-type]
    evaluation = onnx_clp.clean("resnet18_badnets.onnx", config).report.evaluation
    assert evaluation is not None
    assert evaluation.after.asr is not None
    assert evaluation.after.asr < 0.1
