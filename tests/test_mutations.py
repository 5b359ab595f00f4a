"""Valid models changed at random: never a traceback, never a wrong output, and an answer in bounded time."""

from __future__ import annotations

import contextlib
import resource
import signal
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

import onnx_clp
from onnx_clp.cli.main import main
from tests.forms import TABLE
from tests.forms.build import Oracle, bn, initializer, model
from tests.forms.judge import check
from tests.forms.run import Feeds, feeds, outputs
from tests.hostile.networks import Array
from tests.mutants import mutate

SECONDS = 30
MEMORY = 6 << 30
TOLERANCE = 5e-3
FORMS = {form.id: form for form in TABLE if not form.external and form.valid}
FOLD = onnx_clp.CleanConfig(prune=False, validate=False, max_size=1 << 20)
PRUNE = onnx_clp.CleanConfig(u=0.5, layers="all", bound="exact", validate=False, max_size=1 << 20)

forms = st.sampled_from(sorted(FORMS))
seeds = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4)
few = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))


def mutant(form: str, steps: list[int]) -> bytes:
    data = FORMS[form].make().SerializeToString()
    for seed in steps:
        data = mutate(data, seed)
    return data


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """A block that may take only so long, and only so much memory."""

    def late(_number: int, _frame: types.FrameType | None) -> None:
        raise AssertionError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1][1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before[0])
        resource.setrlimit(resource.RLIMIT_AS, before[1])


def parsed(data: bytes) -> ModelProto | None:
    found = ModelProto()
    try:
        found.ParseFromString(data)
    except Exception:  # protobuf has several; none is the package's
        return None
    return found


def nodes(proto: ModelProto) -> list[NodeProto]:
    return [*proto.graph.node, *(node for function in proto.functions for node in function.node)]


def computed(proto: ModelProto, fed: Feeds) -> list[Array] | None:
    """What onnx.reference makes of a model; None where it cannot, or where numbers leave every range.

    onnx.reference 1.23 adds the bias of a grouped ConvTranspose to wrong channels; ONNX Runtime agrees with the fold.
    """
    if any(
        n.op_type == "ConvTranspose" and any(a.name == "group" and a.i != 1 for a in n.attribute) for n in nodes(proto)
    ):
        return None
    try:
        with bounded():
            found = outputs(proto, fed, Oracle.REFERENCE)
    except (Exception, AssertionError):  # whatever a broken model does to it is not the matter
        return None
    real = [o for o in found if o.dtype.kind == "f"]
    wide = [o.astype(np.float64) for o in real]  # 1e30 is past the range of float16
    return found if all(np.isfinite(o).all() and np.abs(o).max(initial=0) < 1e30 for o in wide) else None


def fed(proto: ModelProto) -> list[Feeds]:
    """Inputs for a model that may ask for the impossible; none then."""
    try:
        with bounded():
            return feeds(proto)
    except Exception:
        return []


def valid(proto: ModelProto) -> bool:
    """Whether a model passes onnx.checker.

    Its full check is left out: a mutant that lies about a type or shape passes it until the fold replaces an operator
    that onnx infers nothing for by one that it does.
    """
    try:
        return check(proto, full=False) == ""
    except ValueError:  # the checker's own, on types that do not exist
        return False


def tame(proto: ModelProto) -> bool:
    """Whether no weight is so large that rounding beside it hides everything else."""
    for tensor in proto.graph.initializer:
        try:
            values = np.asarray(numpy_helper.to_array(tensor), np.float64)
        except Exception:
            return False
        if not (np.abs(values) < 1e3).all():
            return False
    return True


def well_typed(proto: ModelProto) -> bool:
    """Whether every operator gets element types that it takes; the reference evaluator computes with others, too."""
    try:
        shape_inference.infer_shapes(proto, check_type=True)
    except Exception:
        return False
    return True


def check_fold(data: bytes) -> None:
    """Fold one file's bytes: a documented error, or a model that is as valid as it was and computes the same."""
    before = parsed(data)
    if before is None:
        return
    try:
        with bounded():
            after = onnx_clp.clean(before, FOLD).model
    except onnx_clp.ClpError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.isprintable()
        return
    if not valid(before):
        return
    assert valid(after)
    if not (tame(before) and well_typed(before)):
        return
    for given_inputs in fed(before):
        expected = computed(before, given_inputs)
        if expected is None:
            continue
        got = computed(after, given_inputs)
        assert got is not None
        compare(got, expected)


def compare(got: list[Array], expected: list[Array]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.dtype.kind == "f":
            scale = np.abs(other).max(initial=0)
            np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * max(scale, 1e-6))


def check_command(data: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prune one file on the command line: status 0 and a file, or 2, one line and nothing."""
    source, output = folder / "m.onnx", folder / "out.onnx"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    with bounded():
        code = main([str(source), str(output), "--no-validate", "-u", "0.5", "--layers", "all", "--bound", "exact"])
    written = capsys.readouterr()
    assert {p.name for p in folder.iterdir()} == {"m.onnx", *(["out.onnx"] if code == 0 else [])}
    assert source.read_bytes() == data
    if code == 0:
        assert written.err == ""
        assert parsed(output.read_bytes()) is not None
        return
    assert (code, written.out) == (2, ""), written.err
    assert written.err.startswith("onnx-clp: error: ")
    assert written.err.removesuffix("\n").isprintable()


@few
@given(forms, seeds)
def test_a_mutant_is_folded_right_or_refused(form: str, steps: list[int]) -> None:
    check_fold(mutant(form, steps))


@few
@given(form=forms, steps=seeds)
def test_a_mutant_on_the_command_line(
    form: str, steps: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_command(mutant(form, steps), tmp_path, capsys)


@pytest.mark.slow
@many
@given(forms, seeds)
def test_many_mutants_are_folded_right_or_refused(form: str, steps: list[int]) -> None:
    check_fold(mutant(form, steps))


@pytest.mark.slow
@many
@given(form=forms, steps=seeds)
def test_many_mutants_on_the_command_line(
    form: str, steps: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_command(mutant(form, steps), tmp_path, capsys)


# --- the harness itself, and what it found --------------------------------------------------------------


def test_the_same_seed_makes_the_same_mutant() -> None:
    data = FORMS["linear/Conv2d-plain-bn"].make().SerializeToString()
    made = [mutate(data, seed) for seed in range(200)]
    assert made == [mutate(data, seed) for seed in range(200)]
    assert len(set(made)) > 150


def test_enough_mutants_are_valid_and_enough_are_not() -> None:
    names = sorted(FORMS)
    found = [parsed(mutant(names[4 * n], [n])) for n in range(200)]
    valid = [check(proto, full=False) == "" for proto in found if proto is not None]
    assert 30 < sum(valid) < 190
    assert len(valid) > 120


def test_a_convolution_of_integers_is_not_well_typed() -> None:
    found = FORMS["affine/behind-cast-same-type"].make()
    assert well_typed(found)
    found.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16
    assert not well_typed(found)


def test_a_wrong_fold_would_be_seen() -> None:
    before = FORMS["linear/Conv2d-plain-bn"].make()
    after = ModelProto()
    after.CopyFrom(before)
    weight = initializer(after, "W")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.02), "W"))
    (inputs,) = feeds(before)
    expected, got = computed(before, inputs), computed(after, inputs)
    assert expected is not None
    assert got is not None
    with pytest.raises(AssertionError):
        compare(got, expected)


def _left(proto: ModelProto) -> str:
    return onnx_clp.clean(proto, FOLD).report.affines_left[0].reason


@pytest.mark.parametrize("shape", [(6,), (4, 1), (4, 3, 3, 3)])
def test_a_bias_of_another_shape_is_not_folded_into(shape: tuple[int, ...]) -> None:
    body = "c = Conv(x, W, B) y = BatchNormalization(c, g, b, m, v)"
    proto = model(body, W=(4, 3, 3, 3), B=(4,), **bn(4))()
    initializer(proto, "B").CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), "B"))
    assert _left(proto) == "dynamic_bias"


def test_a_normalisation_of_more_channels_than_come_in_is_not_folded_into_the_layer_behind_it() -> None:
    """onnx.reference repeats the one channel, where the layer behind a fold would get one alone."""
    body = "c = BatchNormalization(x, g, b, m, v) y = Conv(c, W)"
    proto = model(body, x="float[2,1,6,6] x", W=(4, 3, 3, 3), **bn(3))()
    assert _left(proto) == "wrong_length"
    check_fold(proto.SerializeToString())


def quantised(scale: tuple[int, ...], zero: tuple[int, ...], block: int) -> ModelProto:
    """x > MatMul(DequantizeLinear(W[8,4], scale, zero)) > Mul(k[4]) > y, along axis 0."""
    steps = [
        helper.make_node("DequantizeLinear", ["W", "s", "z"], ["w"], axis=0, block_size=block),
        helper.make_node("MatMul", ["x", "w"], ["c"]),
        helper.make_node("Mul", ["c", "k"], ["y"]),
    ]
    values: dict[str, Array] = {
        "W": np.ones((8, 4), np.int8),
        "s": np.ones(scale, np.float32),
        "z": np.zeros(zero, np.int8),
        "k": np.full(4, 2, np.float32),
    }
    graph = helper.make_graph(
        steps,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 8])],
        [helper.make_tensor_value_info("y", 1, [2, 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize(
    ("scale", "zero", "block"),
    [((2, 4), (2, 4), 1), ((4, 4), (2, 4), 2), ((2, 3), (2, 3), 4), ((0,), (0,), 0), ((8,), (3,), 0)],
)
def test_scales_that_do_not_fit_a_quantised_weight_are_not_folded_into(
    scale: tuple[int, ...], zero: tuple[int, ...], block: int
) -> None:
    result = onnx_clp.clean(quantised(scale, zero, block), PRUNE)
    assert result.model.graph.node[-1].op_type == "Mul"


def test_scales_that_fit_are_folded_into_and_a_huge_block_takes_no_memory() -> None:
    for block in (4, 2**62):
        with bounded():
            result = onnx_clp.clean(quantised((2, 4), (2, 4), block), PRUNE)
        assert result.model.graph.node[-1].op_type == "MatMul"


def computed_weight(steps: list[NodeProto], values: dict[str, Array]) -> ModelProto:
    """x[1,3,8,8] > Conv(W) > Relu > y, where `steps` make W."""
    graph = helper.make_graph(
        [*steps, helper.make_node("Conv", ["x", "W"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def bombs() -> dict[str, ModelProto]:
    """Small files whose weights would take a terabyte, or a day."""
    one, shape = np.ones((1, 3, 3, 3), np.float32), np.array([1 << 30, 3, 3, 3])
    made = helper.make_node
    chain = [made("Expand", ["one", "shape"], ["w0"]), *(made("Neg", [f"w{n}"], [f"w{n + 1}"]) for n in range(200))]
    return {
        "a filled shape": computed_weight([made("ConstantOfShape", ["shape"], ["W"])], {"shape": shape}),
        "an expanded one": computed_weight([made("Expand", ["one", "shape"], ["W"])], {"one": one, "shape": shape}),
        "a long chain of large steps": computed_weight(
            [*chain, made("Identity", ["w200"], ["W"])],
            {"one": one, "shape": np.array([1 << 21, 3, 3, 3])},
        ),
        "channels without weights": computed_weight([], {"W": np.ones((1 << 36, 0, 3, 3), np.float32)}),
        "many parts of many parts": computed_weight(
            [
                made("Concat", ["one"] * 20_000, ["w1"], axis=0),
                made("Concat", ["w1"] * 20_000, ["W"], axis=0),
            ],
            {"one": one},
        ),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_weight_that_grows_is_left_alone(name: str) -> None:
    with bounded():
        result = onnx_clp.clean(bombs()[name], PRUNE)
    assert [layer.status for layer in result.report.layers] == ["cannot be judged"]


def test_an_add_behind_an_output_that_was_split_off_twice_is_no_traceback() -> None:
    """A Split that names more channels than there are leaves a part without any layer behind it."""
    body = "d = Conv(x, W) p, q = Split<axis = 1>(d, n) y = Mul(p, k) z = Add(q, t)"
    proto = model(
        body, W=(6, 3, 3, 3), n=np.array([12, 2], np.int64), k=(4, 1, 1), t=(2, 1, 1), y="float[] y, float[] z"
    )
    result = onnx_clp.clean(proto(), FOLD)
    assert len(result.model.graph.node) == 4


@pytest.mark.parametrize(
    ("axis", "operators"), [(1, ["Constant", "Conv"]), (-(2**31), ["Conv", "Add"]), (3, ["Conv", "Add"])]
)
def test_an_axis_that_is_none_takes_no_memory(axis: int, operators: list[str]) -> None:
    """Below opset 7 an Add says at which axis its operand starts; found by the harness: 16 GiB for 600 bytes."""
    body = f"c = Conv(x, W) y = Add<broadcast = 1, axis = {axis}>(c, k)"
    proto = model(body, W=(4, 3, 3, 3), k=(4,), opset=6, ir=3)()
    with bounded():
        result = onnx_clp.clean(proto, FOLD)
    assert [node.op_type for node in result.model.graph.node] == operators


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ("strides = [2, 2]", "judged"),
        ("dilations = [64, 64], strides = [2, 2]", "judged"),
        ("dilations = [1073741824, 1073741824], strides = [2, 2]", "cannot be judged"),
        ("dilations = [8192, 8192], strides = [2, 2]", "cannot be judged"),
        ("strides = [2147483647, 2147483647]", "cannot be judged"),
    ],
)
def test_the_exact_norm_takes_no_more_memory_than_it_should(attributes: str, status: str) -> None:
    body = f"c = Conv<{attributes}>(x, W) r = Relu(c) y = Conv(r, V)"
    proto = model(body, W=(16, 3, 3, 3), V=(4, 16, 1, 1), x="float[1,3,n,m] x", y="float[1,4,k,l] y")()
    with bounded():
        report = onnx_clp.clean(proto, replace(PRUNE, include=("*",), u=3.0)).report
    assert next(layer.status for layer in report.layers if layer.channels == 16) == status


def test_a_dequantised_bias_is_folded_into_and_then_pruned() -> None:
    """A zero-point makes the fold store it as plain numbers, which the pruning then finds."""
    body = (
        "w = DequantizeLinear<axis = 0>(q, s) B = DequantizeLinear(qb, sb, zb) c = Conv(x, w, B) "
        "n = BatchNormalization(c, g, b, m, v) r = Relu(n) y = Conv(r, V)"
    )
    q = np.ones((12, 3, 3, 3), np.int8)
    q[5] = 100
    values: dict[str, Array] = {"q": q, "s": np.full(12, 0.1, np.float32), "qb": np.arange(12, dtype=np.int32)}
    zero: dict[str, Array] = {"sb": np.array(0.1, np.float32), "zb": np.array(3, np.int32)}
    plain: dict[str, Array] = {"g": np.ones(12, np.float32), "b": np.ones(12, np.float32), "m": np.ones(12, np.float32)}
    proto = model(body, V=(4, 12, 1, 1), v=np.ones(12, np.float32), **values, **zero, **plain)()
    result = onnx_clp.clean(proto, replace(PRUNE, u=3.0, layers="conv", fill="zero"))
    assert [layer.pruned for layer in result.report.layers] == [(5,), ()]
    assert check(result.model) == ""
    bias = next(node for node in result.model.graph.node if node.op_type == "Conv").input[2]
    stored = numpy_helper.to_array(initializer(result.model, bias))
    assert stored[5] == 0
    assert stored[4] != 0
