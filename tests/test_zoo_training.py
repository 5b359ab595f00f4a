"""What a CPU calculates in when the zoo is trained; needs torch."""

from __future__ import annotations

import pytest

from tools.zoo.recipe import Recipe

torch = pytest.importorskip("torch")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> object:
    """The module under test, on a machine without a GPU."""
    from tools.zoo import train as module

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return module


@pytest.mark.parametrize(
    ("able", "precision", "expected"),
    [
        ({"avx512_bf16": True}, "bfloat16", "bfloat16"),
        ({"amx_bf16": True}, "bfloat16", "bfloat16"),
        ({"avx512_bf16": True}, "float32", "float32"),
        ({"avx512_bf16": False, "avx2": True}, "bfloat16", "float32"),
        ({}, "bfloat16", "float32"),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_it(
    train: object, monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], precision: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert train.arithmetic(Recipe(precision=precision)) == expected  # type: ignore[attr-defined]
