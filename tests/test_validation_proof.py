"""The proof: what passes, what is a mismatch, what cannot be validated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import DTypeLike

from onnx_clp.errors import NotValidated, UsageError, ValidationFailed
from onnx_clp.validation.provider import CPU
from onnx_clp.validation.session import REFERENCE
from tests.validation_models import network, run, save, text_model


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return save(network(folded=False), tmp_path / "original.onnx")


def test_right_fold_is_validated_with_its_error_and_tolerance(original: Path, tmp_path: Path) -> None:
    outcome = run(original, save(network(folded=True), tmp_path / "folded.onnx"))
    report = outcome.validation
    assert (report.outcome, report.provider_asked, report.provider_used) == ("validated", "cpu", CPU)
    assert report.tolerance == 1e-4
    assert report.fold_error is not None
    assert 0 < report.fold_error < 1e-5
    assert outcome.findings == ()
    assert outcome.evaluation is None


@pytest.mark.parametrize("tweak", [1.05, 1.005])
def test_wrong_fold_is_a_mismatch(original: Path, tmp_path: Path, tweak: float) -> None:
    with pytest.raises(ValidationFailed, match=r"original\.onnx: folding changed output y: .* 0\.0001 is allowed"):
        run(original, save(network(folded=True, tweak=tweak), tmp_path / "folded.onnx"))


def test_tolerance_decides_between_mismatch_and_agreement(original: Path, tmp_path: Path) -> None:
    folded = save(network(folded=True, tweak=1.005), tmp_path / "folded.onnx")
    assert run(original, folded, tolerance=0.5).validation.tolerance == 0.5
    with pytest.raises(ValidationFailed):
        run(original, save(network(folded=True), tmp_path / "f.onnx"), tolerance=0.0)


@pytest.mark.parametrize("changes", [{"tweak": 0.0}, {"bias": 2.0}, {}])
def test_pruning_may_move_the_outputs_that_folding_may_not(
    original: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folded = save(network(folded=True), tmp_path / "folded.onnx")
    final = save(network(folded=True, **changes), tmp_path / "final.onnx")
    report = run(original, folded, final).validation
    assert report.outcome == "validated"
    assert report.fold_error is not None
    assert 0 < report.fold_error < 1e-5
    if changes:
        with pytest.raises(ValidationFailed, match="folding changed output y"):
            run(original, final)


@pytest.mark.parametrize("before", ["original", "folded", "final"])
def test_taking_channels_out_must_not_move_what_the_model_before_it_gave(
    original: Path, tmp_path: Path, before: str
) -> None:
    folded = save(network(folded=True), tmp_path / "folded.onnx") if before != "original" else None
    final = save(network(folded=True, tweak=1.3), tmp_path / "final.onnx") if before == "final" else None
    last = final or folded or original
    report = run(original, folded, final, compacted=last).validation
    assert report.compaction_error == 0
    assert report.tolerance == 1e-4
    other = save(network(folded=True, tweak=1.02), tmp_path / "other.onnx")
    with pytest.raises(ValidationFailed, match=r"original\.onnx: compaction changed output y: .* 0\.0001 is allowed"):
        run(original, folded, final, compacted=other)
    assert run(original, folded, final, compacted=other, tolerance=0.9).validation.compaction_error is not None


def test_nothing_taken_out_has_no_error(original: Path) -> None:
    assert run(original).validation.compaction_error is None


@pytest.mark.parametrize(
    ("dtype", "provider", "tolerance"),
    [
        (np.float64, REFERENCE, 1e-9),
        (ml_dtypes.bfloat16, REFERENCE, 1e-1),
        (np.float16, CPU, 2e-2),
    ],
)
def test_dtype_sets_tolerance_and_evaluator(tmp_path: Path, dtype: DTypeLike, provider: str, tolerance: float) -> None:
    original = save(network(folded=False, dtype=dtype, opset=22), tmp_path / "original.onnx")
    report = run(original, save(network(folded=True, dtype=dtype, opset=22), tmp_path / "folded.onnx")).validation
    assert report.provider_used == provider
    assert ("no kernel" in report.note) == (provider == REFERENCE)
    assert report.tolerance == tolerance
    assert report.fold_error is not None
    assert report.fold_error <= tolerance


def test_reference_evaluator_finds_wrong_folds_too(tmp_path: Path) -> None:
    original = save(network(folded=False, dtype=np.float64), tmp_path / "original.onnx")
    wrong = save(network(folded=True, dtype=np.float64, tweak=1 + 1e-6), tmp_path / "folded.onnx")
    with pytest.raises(ValidationFailed, match="folding changed output y"):
        run(original, wrong)


def test_changed_output_shape_is_a_failure(tmp_path: Path) -> None:
    original = text_model("g (float[1,4] x) => (float[] y) { y = Relu(x) }", tmp_path)
    final = text_model("g (float[1,4] x) => (float[] y) { y = Transpose(x) }", tmp_path, "final.onnx")
    with pytest.raises(ValidationFailed, match=r"pruning changed output y: shape \(1, 4\) became \(4, 1\)"):
        run(original, None, final)


def test_shape_that_follows_the_data_may_change(tmp_path: Path) -> None:
    body = "g (float[1,40] x) => (int64[2, n] y, float[1,40] z) {{ m = {op}(x) y = NonZero(m) z = Relu(x) }}"
    original = text_model(body.format(op="Relu"), tmp_path)
    final = text_model(body.format(op="Identity"), tmp_path, "final.onnx")
    assert run(original, None, final).validation.outcome == "validated"


def test_changed_output_type_is_a_failure(tmp_path: Path) -> None:
    original = text_model("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }", tmp_path)
    final = text_model("g (float[1,4] x) => (double[1,4] y) { y = Cast<to: int = 11>(x) }", tmp_path, "f.onnx")
    with pytest.raises(ValidationFailed, match="pruning changed the model's inputs or outputs"):
        run(original, None, final)


def test_new_non_finite_values_are_a_failure(tmp_path: Path) -> None:
    original = text_model("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }", tmp_path)
    final = text_model("g (float[1,4] x) => (float[1,4] y) { y = Log(x) }", tmp_path, "final.onnx")
    with pytest.raises(ValidationFailed, match="NaN or infinite that were finite"):
        run(original, None, final)


def test_non_finite_values_in_the_same_places_agree(tmp_path: Path) -> None:
    original = text_model("g (float[1,9] x) => (float[1,9] y) { y = Log(x) }", tmp_path)
    report = run(original, original, original).validation
    assert report.fold_error == 0.0


def test_non_finite_values_in_other_places_disagree(tmp_path: Path) -> None:
    original = text_model("g (float[1,9] x) => (float[1,9] y) { y = Log(x) }", tmp_path)
    folded = text_model("g (float[1,9] x) => (float[1,9] y) { a = Neg(x) y = Log(a) }", tmp_path, "folded.onnx")
    with pytest.raises(ValidationFailed, match="is infinite"):
        run(original, folded)


def test_output_without_finite_values_is_a_finding(tmp_path: Path) -> None:
    body = "g (float[1,4] x) => (float[1,4] y) <float[1] nan = {nan}> { y = Add(x, nan) }"
    original = text_model(body.replace("nan}", "0}"), tmp_path)
    model = onnx.load_model(original)
    model.graph.initializer[0].float_data[:] = [float("nan")]
    save(model, original)
    (finding,) = run(original, original).findings
    assert (finding.kind, finding.where) == ("non-finite output", "y")


def test_discrete_outputs_agree_by_share(tmp_path: Path) -> None:
    body = "g (float[8,4] x) => (int64[8,1] y) {{ z = {op}(x) y = ArgMax<axis: int = 1>(z) }}"
    original = text_model(body.format(op="Identity"), tmp_path)
    same = text_model(body.format(op="Softmax"), tmp_path, "same.onnx")
    other = text_model(body.format(op="Neg"), tmp_path, "other.onnx")
    report = run(original, same).validation
    assert (report.fold_error, report.discrete_agreement) == (None, 1.0)
    with pytest.raises(ValidationFailed, match="entries are equal, 90% are needed"):
        run(original, other)


def test_random_output_is_set_aside_and_the_rest_judged(tmp_path: Path) -> None:
    body = "g (float[1,4] x) => (float[1,4] y, float[1,4] z) { y = RandomNormalLike(x) z = Mul(x, x) }"
    original = text_model(body, tmp_path)
    outcome = run(original, original)
    assert [(f.kind, f.where) for f in outcome.findings] == [("nondeterministic", "y")]
    assert outcome.validation.fold_error == 0.0
    wrong = text_model(
        "g (float[1,4] x) => (float[1,4] y, float[1,4] z) { y = RandomNormalLike(x) z = Relu(x) }",
        tmp_path,
        "wrong.onnx",
    )
    with pytest.raises(ValidationFailed, match="output z"):
        run(original, wrong)


def test_only_random_outputs_cannot_be_validated(tmp_path: Path) -> None:
    original = text_model("g (float[1,4] x) => (float[1,4] y) { y = RandomNormalLike(x) }", tmp_path)
    folded = text_model("g (float[1,4] x) => (float[1,4] y) { a = Abs(x) y = RandomNormalLike(a) }", tmp_path, "f")
    with pytest.raises(NotValidated, match="other values each time it runs"):
        run(original, folded)


def test_checker_errors_the_input_lacks_are_a_failure(original: Path, tmp_path: Path) -> None:
    model = network(folded=True)
    model.graph.node.append(model.graph.node[0])
    with pytest.raises(ValidationFailed, match="fails onnx's check, which the input passes"):
        run(original, save(model, tmp_path / "folded.onnx"))


def test_full_check_errors_the_input_lacks_are_a_failure(original: Path, tmp_path: Path) -> None:
    model = network(folded=True)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", 1, ["n", 99, 6, 6]))
    with pytest.raises(ValidationFailed, match="fails onnx's full check, which the input passes"):
        run(original, save(model, tmp_path / "folded.onnx"))


def test_full_check_errors_of_the_input_are_a_finding(tmp_path: Path) -> None:
    models = [network(folded=folded) for folded in (False, True)]
    for model in models:
        model.graph.value_info.append(onnx.helper.make_tensor_value_info("f", 1, ["n", 99]))
    original = save(models[0], tmp_path / "original.onnx")
    outcome = run(original, save(models[1], tmp_path / "folded.onnx"))
    assert [f.kind for f in outcome.findings] == ["checker"]
    assert outcome.validation.outcome == "validated"


@pytest.mark.parametrize(
    ("opset", "ir", "op", "words"),
    [
        (17, 99, "Relu", r"loads at most IR version \d+, the file has 99"),
        (99, 8, "Relu", r"loads at most opset \d+ of ai\.onnx, the file has 99"),
        (17, 8, "NoSuchOperator", "has no operator NoSuchOperator"),
    ],
)
def test_input_the_runtime_is_too_old_for(tmp_path: Path, opset: int, ir: int, op: str, words: str) -> None:
    original = text_model(f"g (float[1,4] x) => (float[1,4] y) {{ y = {op}(x) }}", tmp_path, opset=opset, ir=ir)
    with pytest.raises(NotValidated, match=words) as caught:
        run(original)
    assert "original.onnx: not validated because ONNX Runtime" in str(caught.value)
    assert "--no-validate" in str(caught.value)


def test_old_batch_normalization_goes_to_the_reference_evaluator(tmp_path: Path) -> None:
    body = (
        "g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[1] s = {2.0}> "
        "{ y = BatchNormalization<is_test: int = 1>(x, s, s, s, s) }"
    )
    assert run(text_model(body, tmp_path, opset=6, ir=3)).validation.provider_used == REFERENCE


def test_kernel_nobody_has_cannot_be_validated(tmp_path: Path) -> None:
    original = save(network(folded=False, dtype=np.float64), tmp_path / "original.onnx")
    model = onnx.load_model(original)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    node = onnx.helper.make_node("FusedMatMul", ["y", "y"], ["z"], domain="com.microsoft", transB=1)
    model.graph.node.append(node)
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", 11, None))
    with pytest.raises(NotValidated, match=r"nothing here can run it: ONNX Runtime .* onnx\.reference says"):
        run(save(model, original))


def test_rewritten_model_that_does_not_load_is_a_failure(tmp_path: Path) -> None:
    original = text_model("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }", tmp_path)
    body = "g (float[1,4] x) => (float[1,4] y) <int64[1] far = {7}> { y = Gather(x, far) }"
    broken = text_model(body, tmp_path, "folded.onnx")
    with pytest.raises(ValidationFailed, match="the input runs and the model after folding does not"):
        run(original, broken)


def test_named_output_must_exist(original: Path) -> None:
    with pytest.raises(UsageError, match="--output nope: the model has no such output, only y"):
        run(original, output_name="nope")
    assert run(original, output_name="y").validation.outcome == "validated"


def test_candidates_are_measured_and_never_judged(original: Path, tmp_path: Path) -> None:
    good = save(network(folded=True, tweak=0.0), tmp_path / "good.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x08")
    first, second = run(original, candidates=(good, bad)).candidates
    assert (first.path, first.rates, first.failure) == (str(good), None, "")
    assert second.failure
    assert second.rates is None


def test_same_seed_gives_the_same_report(original: Path, tmp_path: Path) -> None:
    folded = save(network(folded=True), tmp_path / "folded.onnx")
    assert run(original, folded, seed=3) == run(original, folded, seed=3)
    assert run(original, folded, seed=3) != run(original, folded, seed=4)


def test_external_data_is_found_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "original.onnx"
    onnx.save_model(network(folded=False), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert run(path, save(network(folded=True), tmp_path / "folded.onnx")).validation.outcome == "validated"
