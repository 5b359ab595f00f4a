"""`run`, `clean` and `save`: where files go, when, and that nothing is left when something fails."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

import onnx_clp
from onnx_clp import CleanConfig, ClpError, NotValidated, SaveError, UsageError, ValidationFailed, validation
from onnx_clp.document.run import Report
from onnx_clp.modelfile.destination import check_destination
from onnx_clp.process.progress import Progress
from onnx_clp.run.pipeline import clean, run
from tests.hostile.case import snapshot
from tests.hostile.networks import network
from tests.judging import OUTLIER, exposed

ROOT = Path(__file__).parent.parent
QUIET = CleanConfig(validate=False)


def infected() -> ModelProto:
    """The small network with a channel that stands out."""
    proto = network()
    weight = next(t for t in proto.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(weight).copy()
    values[OUTLIER] *= 60
    weight.raw_data = values.tobytes()
    return proto


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    path.write_bytes(infected().SerializeToString())
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """The same model with its tensors in a data file."""
    path = tmp_path / "ext.onnx"
    onnx.save(infected(), path, save_as_external_data=True, location="ext.data", size_threshold=0)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- a run --------------------------------------------------------------------------------------------


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 8]) for n in "xy")
    node = onnx.helper.make_node("ReorderInput", ["x"], ["y"], domain="com.microsoft.nchwc")
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft.nchwc", 1)]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=imports, ir_version=8)
    path = tmp_path / "blocked.onnx"
    onnx.save(model, path)
    with pytest.raises(onnx_clp.UnsupportedModelError, match=r"blocked\.onnx: it was saved by ONNX Runtime"):
        run(path, tmp_path / "out.onnx", CleanConfig())
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_writes_what_clean_gives(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    report = run(source, out, QUIET)
    assert report.layers[0].pruned == (OUTLIER,)
    assert onnx.load(out) == clean(source, QUIET).model == clean(infected(), QUIET).model
    assert names(tmp_path) == {"in.onnx", "out.onnx"}
    assert report.input is not None
    assert report.output is not None
    for facts, path in ((report.input, source), (report.output, out)):
        assert facts.path == str(path)
        assert facts.bytes == path.stat().st_size
        assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_dry_run_writes_nothing_and_reports_the_same(source: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    dry = run(source, None, QUIET)
    assert snapshot(tmp_path) == before
    wet = run(source, tmp_path / "out.onnx", QUIET)
    assert dry.output is None
    assert dry.layers == wet.layers
    assert dry.summary == wet.summary


def test_fold_only(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    run(source, out, CleanConfig(validate=False, prune=False))
    (before,), (after,) = (exposed(m, "y").values() for m in (infected(), onnx.load(out)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    assert [n.op_type for n in onnx.load(out).graph.node] == ["Conv", "Relu", "Conv"]


def test_the_exact_bound_end_to_end(source: Path, tmp_path: Path) -> None:
    reshaped = run(source, tmp_path / "a.onnx", QUIET)
    exact = run(source, tmp_path / "b.onnx", CleanConfig(validate=False, bound="exact"))
    low, high = reshaped.layers[0].judgements[0], exact.layers[0].judgements[0]
    assert all(s <= e <= b * (1 + 1e-12) for s, e, b in zip(low.scores, high.scores, high.upper_bounds, strict=True))
    assert low.scores != high.scores
    assert exact.layers[0].pruned == (OUTLIER,)
    assert exact.options["bound"] == "exact"


def test_the_mode_of_the_input_is_kept(source: Path, tmp_path: Path) -> None:
    for mode in (0o640, 0o600, 0o444):
        source.chmod(mode)
        out = tmp_path / f"{mode}.onnx"
        run(source, out, QUIET)
        assert out.stat().st_mode & 0o777 == mode


def test_the_same_bytes_whatever_the_hash_seed(source: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from onnx_clp import CleanConfig; from onnx_clp.run.pipeline import run\n"
        "run(Path(sys.argv[1]), Path(sys.argv[2]), CleanConfig(validate=False, external_data='always'))"
    )
    made = []
    for seed in ("0", "1", "4242"):
        out = tmp_path / f"seed{seed}" / "out.onnx"
        out.parent.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, source, out], env=environment, check=True)
        made.append({path.name: path.read_bytes() for path in out.parent.iterdir()})
    assert len(made[0]) == 2
    assert made[0] == made[1] == made[2]


def test_a_second_run_copies_the_bytes(source: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    run(source, first, QUIET)
    report = run(first, second, CleanConfig(validate=False, prune=False))
    assert report.summary.affines_folded == 0
    assert second.read_bytes() == first.read_bytes()


def test_freeze_inputs() -> None:
    proto = infected()
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    left = clean(proto, QUIET)
    assert left.report.summary.affines_folded == 0
    assert left.model == proto
    assert "--freeze-inputs" in left.report.affines_left[0].sentence
    frozen = clean(proto, CleanConfig(validate=False, freeze_inputs=True))
    assert frozen.report.summary.affines_folded == 1
    assert [v.name for v in frozen.model.graph.input] == ["x"]
    assert frozen.model == clean(infected(), QUIET).model
    assert len(proto.graph.input) == 7


def test_freezing_leaves_the_inputs_of_an_old_format_listed() -> None:
    """Before IR 4 an initializer must be a graph input, and is a constant all the same."""
    proto = infected()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    frozen = clean(proto, CleanConfig(freeze_inputs=True, provider="cpu"))
    assert frozen.report.summary.affines_folded == 1
    onnx.checker.check_model(frozen.model)
    assert frozen.model == clean(proto, CleanConfig(provider="cpu")).model


# --- where the result may go --------------------------------------------------------------------------


def test_an_existing_output_is_replaced_only_on_request(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="--overwrite"):
        run(source, out, QUIET)
    assert out.read_bytes() == b"mine"
    run(source, out, QUIET, overwrite=True)
    onnx.load(out)


def test_a_dangling_link_counts_as_existing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="--overwrite"):
        run(source, out, QUIET)


@pytest.mark.parametrize("how", ["same", "dotted", "symlink", "hard link"])
def test_the_input_is_never_the_output(source: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "alias.onnx"
    if how == "same":
        out = source
    elif how == "dotted":
        out = tmp_path / "." / ".." / tmp_path.name / "in.onnx"
    elif how == "symlink":
        out.symlink_to(source)
    else:
        os.link(source, out)
    data = source.read_bytes()
    with pytest.raises(UsageError, match="input itself"):
        run(source, out, QUIET, overwrite=True)
    assert source.read_bytes() == data


def test_a_folder_and_a_missing_folder_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        check_destination(source, tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="folder does not exist"):
        check_destination(source, tmp_path / "no" / "out.onnx", overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_save_error(source: Path, tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(0o555)
    with pytest.raises(SaveError, match="cannot be written"):
        run(source, shut / "out.onnx", QUIET)


# --- external data ------------------------------------------------------------------------------------


def loaded(path: Path) -> ModelProto:
    """The whole model; onnx.load leaves an explicit default where data was external."""
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        tensor.ClearField("data_location")
    return proto


def data_of(out: Path) -> list[Path]:
    return sorted(out.parent.glob(f"{out.name}.*.data"))


@pytest.mark.parametrize(
    ("kind", "choice", "outside"),
    [
        ("source", "auto", False),
        ("source", "always", True),
        ("source", "never", False),
        ("external", "auto", True),
        ("external", "always", True),
        ("external", "never", False),
    ],
)
def test_external_data_goes_where_it_is_asked(
    kind: str, choice: Any, outside: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given = request.getfixturevalue(kind)
    folder = tmp_path / "result"
    folder.mkdir()
    out = folder / "out.onnx"
    report = run(given, out, CleanConfig(validate=False, external_data=choice))
    assert len(data_of(out)) == int(outside)
    assert names(folder) == {"out.onnx", *(p.name for p in data_of(out))}
    assert loaded(out).graph == clean(infected(), QUIET).model.graph
    onnx.checker.check_model(str(out))
    assert report.output is not None
    assert report.output.bytes == sum(path.stat().st_size for path in folder.iterdir())
    if outside:
        (data,) = data_of(out)
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
        assert data.name == f"out.onnx.{digest[:8]}.data"
        lean = onnx.load(out, load_external_data=False)
        moved = [t for t in lean.graph.initializer if t.data_location == TensorProto.EXTERNAL]
        assert {e.value for t in moved for e in t.external_data if e.key == "location"} == {data.name}
        offsets = [int(e.value) for t in moved for e in t.external_data if e.key == "offset"]
        assert all(offset % 4096 == 0 for offset in offsets)


def test_the_input_with_external_data_is_not_changed(external: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    run(external, tmp_path / "out.onnx", QUIET)
    after = snapshot(tmp_path)
    assert {name: after[name] for name in before} == before


def test_nothing_to_do_moves_the_data_all_the_same(external: Path, tmp_path: Path) -> None:
    """The output must not point at the input's data file."""
    folder = tmp_path / "result"
    folder.mkdir()
    out = folder / "out.onnx"
    run(external, out, CleanConfig(validate=False, prune=False, exclude=("*",)))
    first = folder / "again.onnx"
    report = run(out, first, CleanConfig(validate=False, prune=False))
    assert report.summary.affines_folded == 0
    for path in data_of(out):
        path.unlink()
    assert onnx.load(first).graph.initializer


def test_stale_data_of_an_earlier_run_is_removed_and_other_files_stay(external: Path, tmp_path: Path) -> None:
    folder = tmp_path / "result"
    folder.mkdir()
    out = folder / "out.onnx"
    run(external, out, QUIET)
    (old,) = data_of(out)
    bystanders = {"out.onnx.data", "out.onnx.0123456.data", "other.onnx.01234567.data", "out.onnx.01234567.data"}
    for name in bystanders:
        (folder / name).write_bytes(b"x")
    run(external, out, CleanConfig(validate=False, prune=False), overwrite=True)
    (new,) = (path for path in data_of(out) if path.name not in bystanders)
    assert new != old
    assert names(folder) == {"out.onnx", new.name, *bystanders}
    run(external, out, CleanConfig(validate=False, external_data="never"), overwrite=True)
    assert names(folder) == {"out.onnx", *bystanders}


def test_shared_external_ranges_are_written_once(tmp_path: Path) -> None:
    """Two tensors that point at the same bytes still do, unless one of them changes."""
    proto = infected()
    twin = TensorProto()
    twin.CopyFrom(next(t for t in proto.graph.initializer if t.name == "w2"))
    twin.name = "w2 twin"
    proto.graph.initializer.append(twin)
    path = tmp_path / "ext.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="ext.data", size_threshold=0)
    lean = onnx.load(path, load_external_data=False)
    tensors = {t.name: t for t in lean.graph.initializer}
    del tensors["w2 twin"].external_data[:]
    tensors["w2 twin"].external_data.extend(tensors["w2"].external_data)
    path.write_bytes(lean.SerializeToString())
    out = tmp_path / "out.onnx"
    run(path, out, QUIET)
    placed = {t.name: t for t in onnx.load(out, load_external_data=False).graph.initializer}
    where = [{e.key: e.value for e in placed[n].external_data} for n in ("w2", "w2 twin")]
    assert where[0] == where[1]


# --- the library --------------------------------------------------------------------------------------


def test_save_writes_the_model_and_keeps_the_rules(source: Path, tmp_path: Path) -> None:
    result = onnx_clp.clean(str(source), QUIET)
    out = tmp_path / "out.onnx"
    result.save(out)
    assert onnx.load(out) == result.model
    with pytest.raises(UsageError, match="exists"):
        result.save(out)
    result.save(str(out), overwrite=True)
    with pytest.raises(UsageError, match="input itself"):
        result.save(source, overwrite=True)
    assert names(tmp_path) == {"in.onnx", "out.onnx"}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files here")
def test_a_result_gives_its_files_back_when_closed_left_dropped_or_failed(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(infected(), path, save_as_external_data=True, location="in.data", size_threshold=0)
    before = open_files()
    kept = onnx_clp.clean(path, QUIET)
    assert open_files() > before
    kept.close()
    kept.close()
    assert open_files() == before
    with onnx_clp.clean(path, QUIET) as result:
        assert result.model.graph.node
    assert result.model.graph.node
    for _ in range(3):
        onnx_clp.clean(path, QUIET)
    for refused in (CleanConfig(max_size=100), CleanConfig(provider="cpu", memory=1 << 20)):
        with pytest.raises(ClpError):
            onnx_clp.clean(path, refused)
    assert open_files() == before


def test_a_closed_result_says_so(source: Path, tmp_path: Path) -> None:
    result = onnx_clp.clean(source, QUIET)
    result.close()
    with pytest.raises(UsageError, match="closed"):
        _ = result.model
    with pytest.raises(UsageError, match="closed"):
        result.save(tmp_path / "out.onnx")


def test_save_of_a_model_without_a_file(tmp_path: Path) -> None:
    result = onnx_clp.clean(infected(), QUIET)
    result.save(tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == result.model
    assert result.report.input is None


def test_model_is_complete_with_external_data(external: Path) -> None:
    result = onnx_clp.clean(external, QUIET)
    assert result.model.graph == onnx_clp.clean(infected(), QUIET).model.graph


def test_external_data_of_a_proto_needs_a_path(external: Path) -> None:
    lean = onnx.load(external, load_external_data=False)
    with pytest.raises(ClpError):
        onnx_clp.clean(lean, QUIET)


def test_clean_writes_no_file_and_prints_nothing(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    onnx_clp.clean(source, QUIET)
    assert snapshot(tmp_path) == before
    assert capfd.readouterr() == ("", "")


# --- progress, order and failure ----------------------------------------------------------------------


def test_progress_tells_of_the_stages_in_order(source: Path, tmp_path: Path) -> None:
    heard: list[Progress] = []
    run(source, tmp_path / "out.onnx", QUIET, progress=heard.append)
    stages = [step.stage for step in heard]
    assert [s for at, s in enumerate(stages) if at == 0 or s != stages[at - 1]] == [
        "read",
        "analyse",
        "score",
        "write",
    ]
    scored = [(s.done, s.total) for s in heard if s.stage == "score"]
    assert scored == [(1, 2), (2, 2)]


def test_before_write_sees_the_report_and_no_output(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    seen: list[Report] = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        assert not out.exists()
        yield
        assert out.exists()

    def look(report: Report) -> contextlib.AbstractContextManager[None]:
        assert not out.exists()
        seen.append(report)
        return around()

    report = run(source, out, QUIET, before_write=look)
    assert seen == [report]
    assert out.exists()


def test_a_failure_in_before_write_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def fail(_: Report) -> contextlib.AbstractContextManager[None]:
        raise SaveError("the report cannot be written")

    before = snapshot(tmp_path)
    with pytest.raises(SaveError, match="report"):
        run(source, tmp_path / "out.onnx", QUIET, before_write=fail)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", ["source", "external"])
@pytest.mark.parametrize("error", [ValidationFailed("no"), NotValidated("no"), KeyboardInterrupt()])
def test_a_failed_validation_leaves_nothing(
    kind: str,
    error: BaseException,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = request.getfixturevalue(kind)
    out = tmp_path / "out.onnx"
    out.write_bytes(b"mine")
    before = snapshot(tmp_path)
    asked: list[Any] = []

    def validate(what: Any) -> None:
        asked.append(what)
        assert onnx.load(what.final).graph.node
        assert onnx.load(what.folded).graph.node
        raise error

    monkeypatch.setattr(validation, "validate", validate, raising=False)
    with pytest.raises(type(error)):
        run(given, out, CleanConfig(budget=1.0), overwrite=True)
    assert len(asked) == 1
    assert asked[0].original == given
    assert snapshot(tmp_path) == before


def test_a_model_that_cannot_be_read_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(infected().SerializeToString()[:-100])
    before = snapshot(tmp_path)
    with pytest.raises(ClpError) as caught:
        run(tmp_path / "in.onnx", tmp_path / "out.onnx", QUIET)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(str(tmp_path / "in.onnx"))
    assert snapshot(tmp_path) == before


def test_validation_for_real(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    report = run(source, out, CleanConfig(provider="cpu"))
    assert report.validation.outcome == "validated"
    assert report.validation.fold_error is not None
    assert report.validation.fold_error < 1e-5
    assert report.gauge is not None
    assert report.gauge.prediction is not None
    assert report.gauge.prediction.loss.high <= report.gauge.budget == 0.01
    assert names(tmp_path) == {"in.onnx", "out.onnx"}
    assert set(report.seconds) >= {"read", "analyse", "gauge", "write", "validate"}
