"""Every row of the table of forms, folded by the package and judged."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnx_clp
from tests.forms import TABLE
from tests.forms.build import Expect, Form, model
from tests.forms.judge import judge


def rows(*expected: Expect) -> list[object]:
    return [pytest.param(form, id=form.id) for form in TABLE if form.expect in expected]


@pytest.mark.parametrize("form", rows(Expect.FOLDS))
def test_folds(form: Form, tmp_path: Path) -> None:
    assert judge(form, onnx_clp.clean, tmp_path) == []


@pytest.mark.parametrize("form", rows(Expect.MAY))
def test_may_fold_but_never_wrongly(form: Form, tmp_path: Path) -> None:
    assert judge(form, onnx_clp.clean, tmp_path) == []


@pytest.mark.parametrize("form", rows(Expect.STAYS))
def test_stays(form: Form, tmp_path: Path) -> None:
    assert judge(form, onnx_clp.clean, tmp_path) == []


def test_nchwc_is_refused_in_words() -> None:
    body = "c = com.microsoft.nchwc.Conv<kernel_shape = [3,3]>(x, W)"
    recipe = model(body + " y = Relu(c)", y="float[2,8,4,4] y", imports='"com.microsoft.nchwc" : 1', W=(8, 8, 3, 3))
    with pytest.raises(onnx_clp.UnsupportedModelError, match="nchwc"):
        onnx_clp.clean(recipe(), onnx_clp.CleanConfig(prune=False, validate=False))
