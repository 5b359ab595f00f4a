"""What is said where a model does not run: the cause in words, and only advice that can help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnx_clp import CleanConfig, NotValidated, clean
from onnx_clp.validation.anatomy import InputSpec
from onnx_clp.validation.refusal import leaves_open, refusal
from onnx_clp.validation.session import FailureKind, RunError
from tests.test_input_kinds import bare

ROOT = Path(__file__).parent.parent
TO_SHAPE = "say them with --shape"


def said(details: str, *, sizes_open: bool = False) -> str:
    return refusal(RunError(FailureKind.REFUSED, details), "9.9", sizes_open=sizes_open)


@pytest.mark.parametrize(
    "details",
    [
        "Unsupported model IR version: 99, max supported IR version: 13",
        "Opset 99 is under development and support for this is limited. support for domain ai.onnx is till opset 26.",
        "Fatal error: qonnx:Quant(-1) is not a registered function/op",
        "No Op registered for Nope with domain_version of 9",
        "Name:'c' Status Message: conv.cc bias must be a 1D tensor of size output_channels (16)",
        "Name:'b' Status Message: Invalid input scale: NumDimensions() != 3",
        "something else",
    ],
)
@pytest.mark.parametrize("sizes_open", [True, False])
def test_a_sentence_says_go_once_and_names_shapes_only_where_they_may_help(details: str, sizes_open: bool) -> None:
    sentence = said(details, sizes_open=sizes_open)
    assert sentence.startswith("not validated because ")
    assert sentence.count("go ") == sentence.count("go without a proof with --no-validate") == 1
    assert (TO_SHAPE in sentence) == (sizes_open and details == "something else")


def test_the_name_of_a_temporary_file_is_left_out() -> None:
    assert said("Load model from /tmp/x/.a.onnx.1234abcd.tmp failed:Type Error: odd").startswith(
        "not validated because ONNX Runtime 9.9 does not run the input model (Type Error: odd); go"
    )


def test_sizes_are_open_where_neither_model_nor_user_says_them() -> None:
    specs = [InputSpec("x", 1, (1, "h")), InputSpec("z", 1, (2,))]
    assert leaves_open(specs, {})
    assert not leaves_open(specs, {"x": (1, 2)})
    assert leaves_open([InputSpec("x", 1, None)], {})
    assert not leaves_open([InputSpec("x", 1, ())], {})


def _biased(shape: tuple[int, ...]) -> ModelProto:
    model = bare()
    model.graph.node[0].input.append("bias")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "bias"))
    return model


def _by_position() -> ModelProto:
    model = bare()
    model.opset_import[0].version, model.ir_version = 7, 3
    model.graph.node[1].attribute.append(helper.make_attribute("spatial", 0))
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer
    )
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_biased((1,)), "the bias of node 'conv' must be stored as 12 numbers in one dimension"),
        (_biased((1, 12, 1, 1)), "the bias of node 'conv' must be stored as 12 numbers in one dimension"),
        (_by_position(), "BatchNormalization 'bn' says spatial=0, .* take the attribute spatial out of it"),
    ],
    ids=["bias of one", "bias of four dimensions", "spatial"],
)
def test_the_runtimes_own_words_are_read(model: ModelProto, words: str) -> None:
    with pytest.raises(NotValidated, match=words) as caught:
        clean(model, CleanConfig(provider="cpu", prune=False))
    assert "--shape" not in str(caught.value)


def test_a_normalisation_by_position_that_holds_channels_is_left_with_the_contradiction() -> None:
    (left,) = clean(_by_position(), CleanConfig(validate=False)).report.affines_left
    assert left.sentence == "spatial=0 asks for a number for every position, and it holds 12, as for channels"


@pytest.mark.parametrize("words", [["a.onnx"], ["{model}", "o.onnx"], ["batch", "in", "out"]], ids=str)
def test_a_deleted_working_folder_is_named_as_the_cause(words: list[str], tmp_path: Path) -> None:
    model, gone = tmp_path / "m.onnx", tmp_path / "gone"
    model.write_bytes(bare().SerializeToString())
    gone.mkdir()
    code = f"import os, sys; os.rmdir('{gone}'); from onnx_clp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *(word.format(model=model) for word in words)],
        cwd=gone,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "the current folder has been deleted; change to another one" in done.stderr
    assert done.stderr.count("\n") == 1
