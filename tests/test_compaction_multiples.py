"""Layers keep a multiple of N channels, or all they had: which ones stay, why, and the model computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from onnx_clp import CleanConfig, UsageError
from onnx_clp.cli.main import main
from onnx_clp.compaction.multiples import reason
from onnx_clp.run.pipeline import clean
from tests.compact_models import Row, dead, outputs
from tests.compact_random import network
from tests.compact_rows import ROWS
from tests.test_compaction import compacted
from tests.test_compaction_random import images

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def configured(multiple: int) -> CleanConfig:
    return CleanConfig(compact=True, compact_multiple=multiple, prune=False, validate=False)


def off(count: int, *channels: int, width: int = 16, name: str = "w1") -> dict[str, Any]:
    """A 1 x 1 convolution from `count` to `width` channels with some channels off, and no bias."""
    return {name: dead(name, (width, count, 1, 1), channels)}


def chain(*channels: int, width: int = 16, then: str = "", **weights: Any) -> Row:
    """Conv a > Relu r > `then` > Conv y."""
    text = f"[a] a = Conv(x, w1) r = Relu(a) {then or '[y] y = Conv(r, w2)'}"
    wide = {"w2": (4, width, 1, 1)} if not then else {}
    return Row("chain", text, {**off(3, *channels, width=width), **wide, **weights}, {})


def removed(row: Row, multiple: int) -> dict[str, tuple[int, ...]]:
    """What each layer loses; the model made is checked and must answer as before."""
    model = row.model()
    made, layers = compacted(model, configured(multiple))
    onnx.checker.check_model(made, full_check=True)
    for feeds in row.feeds():
        for before, after in zip(outputs(model, feeds), outputs(made, feeds), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    return {name: layer.removed for name, layer in layers.items() if layer.removed}


@pytest.mark.parametrize(
    ("width", "channels", "multiple", "gone"),
    [
        pytest.param(16, (1, 4, 6), 1, (1, 4, 6), id="1 is no condition"),
        pytest.param(16, (1, 4, 6), 2, (1, 4), id="14 of 13"),
        pytest.param(16, (1, 4, 6), 4, (), id="16 of 13 is all"),
        pytest.param(16, (1, 4, 6, 8, 9), 4, (1, 4, 6, 8), id="12 of 11"),
        pytest.param(16, (1, 4, 6, 8), 4, (1, 4, 6, 8), id="12 already"),
        pytest.param(16, tuple(range(9)), 8, tuple(range(8)), id="8 of 7"),
        pytest.param(16, tuple(range(16)), 8, tuple(range(1, 9)), id="one is left in any case, then 8"),
        pytest.param(12, (1, 4, 6, 8), 8, (1, 4, 6, 8), id="8 of an odd 12"),
        pytest.param(12, (1, 4, 6), 8, (), id="never more than there were"),
        pytest.param(6, (1, 4, 5), 8, (), id="fewer than a block lose none"),
        pytest.param(10, (1, 4), 3, (1,), id="9 of an odd 10"),
    ],
)
def test_the_count_is_rounded_up_and_the_last_ones_stay(
    width: int, channels: tuple[int, ...], multiple: int, gone: tuple[int, ...]
) -> None:
    row = chain(*channels, width=width)
    assert removed(row, multiple) == ({"a": gone} if gone else {})
    _, layers = compacted(row.model(), configured(multiple))
    filled = [part for part in layers["a"].kept if part.sentence == f"kept to fill a multiple of {multiple}"]
    alone = 0 if len(channels) == width else None
    assert [c for part in filled for c in part.channels] == [c for c in channels if c not in gone and c != alone]


def test_eight_unless_said_otherwise() -> None:
    row = chain(*range(9))
    plain = CleanConfig(compact=True, prune=False, validate=False)
    assert clean(row.model(), plain).model == clean(row.model(), configured(8)).model
    assert clean(row.model(), plain).model != clean(row.model(), configured(1)).model


def test_branches_of_a_residual_fill_with_the_same_channels() -> None:
    then = "[b] b = Conv(x, w3) s = Relu(b) t = Add(r, s) [y] y = Conv(t, w2)"
    row = chain(1, 4, 6, 7, 9, then=then, **off(3, 1, 4, 6, 7, 9, 11, name="w3"), w2=(4, 16, 1, 1))
    assert removed(row, 4) == {"a": (1, 4, 6, 7), "b": (1, 4, 6, 7)}


def test_a_depthwise_layer_and_what_it_reads_are_filled_alike() -> None:
    then = "[d] d = Conv<group=16>(r, k) q = Relu(d) [y] y = Conv(q, w2)"
    row = chain(1, 4, 6, 7, 9, then=then, k=dead("k", (16, 1, 3, 3), (4, 15)), w2=(4, 16, 1, 1))
    assert removed(row, 1) == {"a": (1, 4, 6, 7, 9, 15), "d": (1, 4, 6, 7, 9, 15)}
    assert removed(row, 4) == {"a": (1, 4, 6, 7), "d": (1, 4, 6, 7)}


def test_the_groups_of_a_grouped_layer_are_filled_each() -> None:
    zero = (*range(16, 32), 1, 2, 3, 9, 10, 11)
    then = "[d] d = Conv<group=4>(r, k) [y] y = Conv(d, w2)"
    row = chain(*zero, width=32, then=then, k=(32, 8, 3, 3), w2=(4, 32, 1, 1))
    assert removed(row, 1) == {"a": (1, 2, 3, 9, 10, 11, *range(16, 32)), "d": tuple(range(16, 32))}
    assert removed(row, 4)["a"] == (*range(16, 32),)
    assert removed(row, 2)["a"] == (1, 2, 9, 10, *range(16, 32))


def test_parts_of_a_concat_are_filled_each_and_an_odd_one_does_not_hold_back_the_rest() -> None:
    then = "[b] b = Conv(x, w3) s = Relu(b) t = Concat<axis=1>(r, s) [y] y = Conv(t, w2)"
    even = chain(1, 4, 6, 7, 9, then=then, **off(3, 0, 2, name="w3"), w2=(4, 32, 1, 1))
    assert removed(even, 4) == {"a": (1, 4, 6, 7)}
    odd = chain(1, 4, 6, 7, 9, then=then, **off(3, name="w3", width=7), w2=(4, 23, 1, 1))
    assert removed(odd, 4) == {"a": (1, 4, 6, 7)}


def test_a_half_that_a_layer_reads_is_filled_by_itself() -> None:
    then = "p, q = Split<axis=1, num_outputs=2>(r) [b] b = Conv(p, w3) [c] c = Conv(q, w2) y = Add(b, c)"
    row = chain(0, 1, 2, 8, 9, 10, 11, 12, then=then, w3=(4, 8, 1, 1), w2=(4, 8, 1, 1))
    assert removed(row, 1) == {"a": (0, 1, 2, 8, 9, 10, 11, 12)}
    # 5 and 3 channels stay of the halves: 8 in all, and yet neither is even.
    assert removed(row, 4) == {"a": (8, 9, 10, 11)}


def test_rows_of_a_flattened_image_follow_its_channels() -> None:
    then = "f = Flatten(r) y = Gemm(f, m)"
    row = replace(chain(1, 4, 6, 7, 9, then=then, m=(16 * 64, 5)), result="float[2,o] y")
    assert removed(row, 4) == {"a": (1, 4, 6, 7)}


def test_a_channel_that_nothing_reads_may_fill_and_is_named() -> None:
    row = chain(1, 4, 6, 7, w2=dead("w2", (4, 16, 1, 1), (12,), axis=1), then="[y] y = Conv(r, w2)")
    assert removed(row, 1) == {"a": (1, 4, 6, 7, 12)}
    assert removed(row, 4) == {"a": (1, 4, 6, 7)}
    _, layers = compacted(row.model(), configured(4))
    assert [(part.channels, part.sentence) for part in layers["a"].kept] == [((12,), reason(4))]


def counts(model: ModelProto) -> dict[str, int]:
    """Output channels of each layer, by its name."""
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in LAYERS:
            weight = shapes[node.input[1]]
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            axis = {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, -1)
            found[node.name] = weight[axis] * (groups if node.op_type == "ConvTranspose" else 1)
    return found


def check(seed: int, multiple: int) -> int:
    """Hold one random network to the rules; how many channels it keeps to fill a multiple."""
    model = network(seed).model()
    made, layers = compacted(model, configured(multiple))
    _, fewest = compacted(model, configured(1))
    onnx.checker.check_model(made, full_check=True)
    for wanted, value in zip(outputs(model, images(seed)), outputs(made, images(seed)), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-4 * max(float(np.abs(wanted).max()), 1e-6))
    whole = counts(model)
    for name, count in counts(made).items():
        assert count % multiple == 0 or count == whole[name]
    for name, layer in layers.items():
        assert set(layer.removed) <= set(fewest[name].removed if name in fewest else ())
    filled = [part for layer in layers.values() for part in layer.kept if part.sentence == reason(multiple)]
    return sum(len(part.channels) for part in filled)


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_a_random_network_computes_the_same_with_even_layers(seed: int, multiple: int) -> None:
    check(seed, multiple)


def test_random_networks_need_filling() -> None:
    assert sum(check(seed, 2) for seed in range(20)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("multiple", [2, 3, 4, 8])
def test_more_random_networks_with_even_layers(multiple: int) -> None:
    for seed in range(3000, 3150):
        check(seed, multiple)


def test_integer_layers_are_filled_like_others() -> None:
    for row in ROWS:
        if row.id.startswith(("quantised", "fused")) and row.removed:
            made, layers = compacted(row.model(), configured(2))
            assert all((layer.channels - len(layer.removed)) % 2 == 0 for layer in layers.values() if layer.removed)
            for feeds in row.feeds():
                for before, after in zip(outputs(row.model(), feeds), outputs(made, feeds), strict=True):
                    np.testing.assert_allclose(after, before, rtol=row.tolerance, atol=row.tolerance)


def test_the_command_line_fills_multiples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(chain(*range(9)).model(), source)
    line = [str(source), str(out), "--no-prune", "--provider", "cpu", "--overwrite", "--compact"]
    assert main(line) == 0
    text = capsys.readouterr().out
    assert "8 channels taken out, 1 that does nothing stayed" in text
    assert "a: 1 channel stayed: kept to fill a multiple of 8" in text
    assert numpy_helper.to_array(onnx.load(out).graph.initializer[0]).shape == (8, 3, 1, 1)
    assert main([*line, "--compact-multiple", "1"]) == 0
    assert numpy_helper.to_array(onnx.load(out).graph.initializer[0]).shape == (7, 3, 1, 1)
    assert main([*line, "--compact-multiple", "0"]) == 2
    assert "compact_multiple must lie in 1..1024, not 0" in capsys.readouterr().err


@pytest.mark.parametrize("multiple", [0, -8, 1025])
def test_a_multiple_that_makes_no_sense_is_refused(multiple: int) -> None:
    with pytest.raises(UsageError, match="compact_multiple"):
        CleanConfig(compact=True, compact_multiple=multiple)
