"""How small a patch drives a path: what its beginning reads, and that no image drives it further."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from onnx_clp.audit.start import drive_of
from onnx_clp.document.audit import PathStart
from onnx_clp.gauge.intake import BYTES, UNIT
from onnx_clp.run.auditor import _started
from tests.test_patch_bound import SIDE, Builder

Array = NDArray[Any]
FORM: Any = SimpleNamespace(intake=SimpleNamespace(name="x", channels_last=False), shapes={"x": (1, 2, SIDE, SIDE)})


def network(seed: int) -> tuple[onnx.ModelProto, str, str, Array]:
    """Two layers, the first with stride 2; the values behind each, and the kernels of the first."""
    one = Builder(seed)
    kernels = one.random.normal(size=(3, 2, 3, 3))
    first = one.op("Relu", one.op("Conv", "x", one.constant(kernels), pads=[1, 1, 1, 1], strides=[2, 2]))
    second = one.op("Relu", one.op("Conv", first, one.normal(2, 3, 3, 3), pads=[1, 1, 1, 1]))
    return one.model(one.op("Softsign", one.op("Flatten", second))), first, second, kernels


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def test_behind_the_first_layer_the_bound_is_what_the_best_patch_reaches(tmp_path: Path) -> None:
    model, first, _, kernels = network(0)
    found = drive_of(saved(model, tmp_path), FORM, (UNIT,), first, (0, 2))
    best = np.clip(kernels, 0, None).sum(axis=(1, 2, 3))[[0, 2]].max()
    assert found is not None
    assert found[:2] == (3, 3)
    assert found[2] == pytest.approx(best, rel=1e-12)
    wider = drive_of(saved(model, tmp_path), FORM, (UNIT, BYTES), first, (0, 2))
    assert wider is not None
    assert wider[2] == pytest.approx(255 * best, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_image_drives_a_value_beyond_the_bound_nor_by_other_pixels(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    model, _, second, _ = network(seed)
    found = drive_of(saved(model, tmp_path_factory.mktemp("m")), FORM, (UNIT,), second, (1,))
    assert found is not None
    rows, columns, most = found
    assert (rows, columns) == (7, 7)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(second))
    run, random = ReferenceEvaluator(model), np.random.default_rng(seed)
    image = random.integers(0, 2, (1, 2, SIDE, SIDE)).astype(np.float64)
    value = np.asarray(run.run([second], {"x": image}))[0]
    assert value[0, 1].max() <= most
    outside = image.copy()
    outside[:, :, rows - 3 :, :] = random.uniform(size=outside[:, :, rows - 3 :, :].shape)
    assert np.asarray(run.run([second], {"x": outside}))[0, 0, 1, 0, 0] == value[0, 1, 0, 0]  # of rows -3 to 3


def test_what_has_no_value_no_such_channel_or_no_rule_is_not_known(tmp_path: Path) -> None:
    model, first, _, _ = network(0)
    path = saved(model, tmp_path)
    assert drive_of(path, FORM, (UNIT,), "elsewhere", (0,)) is None
    assert drive_of(path, FORM, (UNIT,), first, (3,)) is None
    plain: Any = SimpleNamespace(intake=None, shapes={})
    assert drive_of(path, plain, (UNIT,), first, (0,)) is None


def test_the_sentence_says_how_small_and_how_far() -> None:
    assert _started(None) == ""
    assert _started(PathStart(3, 5, None, 2.0)) == "; 3 by 5 pixels drive its beginning"
    known = _started(PathStart(3, 5, 17.54, 2.768))
    assert known == "; 3 by 5 pixels drive its beginning to at most 17.5, ordinary ones to 2.77"
