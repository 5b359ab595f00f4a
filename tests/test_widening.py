"""Numbers of a file as float64, signalling NaNs among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

import onnx_clp
from onnx_clp.config import CleanConfig
from onnx_clp.numerics.widening import as_float64
from tests.test_bound_activations import CONV_BN, network

SIGNALLING = np.array([0x7F800001], np.uint32).view(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint64, np.bool_])
def test_values_and_shape_stay(dtype: type) -> None:
    values: NDArray[Any] = np.array([[0, 1], [1, 0]], dtype)
    found = as_float64(values)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values)


def test_a_signalling_nan_becomes_a_quiet_one_without_a_warning() -> None:
    assert np.isnan(as_float64(SIGNALLING)).all()
    with pytest.warns(RuntimeWarning, match="invalid value"):
        SIGNALLING.astype(np.float64)


def capped_values(model: ModelProto) -> int:
    caps = onnx_clp.clean(model, CleanConfig(bound_activations=1.0, validate=False)).report.caps
    assert caps is not None
    return caps.capped


@pytest.mark.parametrize("broken", ["g", "b"])
def test_a_normalisation_with_one_gets_no_cap(broken: str) -> None:
    model = network(f"{CONV_BN} y = Relu(n)")
    assert capped_values(model) == 1
    place = next(one for one in model.graph.initializer if one.name == broken)
    values = numpy_helper.to_array(place).copy()
    values[0] = SIGNALLING[0]
    place.CopyFrom(numpy_helper.from_array(values, broken))
    assert capped_values(model) == 0
