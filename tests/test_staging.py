"""What is put in place, with which mode, where it may not go, and what is left when it cannot."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_clp.cli.main import main
from onnx_clp.config import ExternalData
from onnx_clp.errors import Interrupted
from onnx_clp.modelfile import reader, relocation, staging
from onnx_clp.process import signals
from tests.hostile.case import snapshot
from tests.hostile.networks import evaluate, feeds_of, network


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    path.write_bytes(network(64).SerializeToString())
    return path


def run(source: Path, output: Path, *options: str) -> int:
    return main([str(source), str(output), "--no-validate", *options])


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o755])
@pytest.mark.parametrize("external", ["never", "always"])
def test_the_output_has_the_inputs_mode(model: Path, mode: int, external: str) -> None:
    model.chmod(mode)
    output = model.with_name("out.onnx")
    assert run(model, output, "--external-data", external) == 0
    written = sorted(model.parent.glob("out.onnx*"))
    assert len(written) == (2 if external == "always" else 1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {mode}


@pytest.mark.parametrize("choice", ["never", "always"])
def test_a_model_that_passes_is_the_same_and_is_not_forced_to_the_disk(
    model: Path, choice: ExternalData, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    written, counts = [], []
    for lasting in (True, False):
        synced.clear()
        beside = staging.staging(model.with_name("out.onnx"), lasting=lasting)
        with reader.read(model, 1 << 30) as file, beside as stage:
            staged = stage(file, file.model, choice)
            data = b"" if staged.data is None else staged.data.read_bytes()
            written.append((staged.model.read_bytes(), data))
            assert bool(staged.sha256) == lasting
        counts.append(len(synced))
    assert written[0] == written[1]
    assert counts == [2 if choice == "always" else 1, 0]


def test_a_passing_model_refers_to_the_weights_it_shares_with_what_is_written(model: Path) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(reader.read(model, 1 << 30))
        place = model.with_name("out.onnx")
        written = stack.enter_context(staging.staging(place))(file, file.model, "never")
        changed = onnx.ModelProto()
        changed.CopyFrom(file.model)
        (weight,) = (t for t in changed.graph.initializer if t.name == "w")
        values = file.store.array(weight) * np.float32(2)
        weight.CopyFrom(file.store.make("w", values, weight.data_type))
        for other, shared in ((file.model, {"w", "w2"}), (changed, {"w2"})):
            passing = stack.enter_context(staging.staging(place, lasting=False, beside=written))
            staged = passing(file, other, "never")
            alone = stack.enter_context(staging.staging(place, lasting=False))(file, other, "never")
            assert _whole(staged.model) == _whole(alone.model)
            light = onnx.load(staged.model, load_external_data=False).graph.initializer
            assert {t.name for t in light if t.data_location == onnx.TensorProto.EXTERNAL} == shared
            assert {e.value for t in light for e in t.external_data if e.key == "location"} == {written.model.name}
            assert staged.size == staged.model.stat().st_size < alone.size
    assert sorted(p.name for p in model.parent.iterdir()) == ["in.onnx"]


def _whole(path: Path) -> onnx.ModelProto:
    """The model with all its data, without a word of where it was."""
    loaded = onnx.load(path)
    for tensor in loaded.graph.initializer:
        tensor.ClearField("data_location")
    return loaded


def test_a_model_that_lasts_refers_to_no_temporary_file(model: Path) -> None:
    with reader.read(model, 1 << 30) as file, staging.staging(model.with_name("out.onnx")) as stage:
        first = stage(file, file.model, "never")
        with staging.staging(model.with_name("out.onnx"), beside=first) as again:
            assert again(file, file.model, "never").model.read_bytes() == first.model.read_bytes()


def test_a_fifo_as_output_stays_one(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("out.onnx")
    os.mkfifo(output)
    assert run(model, output, "--overwrite") == 2
    assert "a device, a FIFO or a socket" in capsys.readouterr().err
    assert stat.S_ISFIFO(output.stat().st_mode)


def test_a_data_file_that_cannot_be_placed_leaves_nothing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.with_name("out.onnx")
    assert run(model, output, "--external-data", "always") == 0
    data = next(model.parent.glob("out.onnx.*.data"))
    data.unlink()
    output.write_bytes(b"old")
    (data / "inside").mkdir(parents=True)
    before = snapshot(model.parent)
    capsys.readouterr()
    assert run(model, output, "--external-data", "always", "--overwrite") == 2
    assert "cannot be written (Is a directory)" in capsys.readouterr().err
    assert snapshot(model.parent) == before


@pytest.mark.parametrize(("external", "code"), [("auto", 0), ("always", 0), ("never", 2)])
def test_a_model_beyond_protobufs_limit(
    external: str, code: int, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is lowered to a few kilobytes, as if the model had two gigabytes."""
    for module in (relocation, staging):
        monkeypatch.setattr(module, "PROTOBUF_LIMIT", 6_000)
    output = model.with_name("out.onnx")
    before = snapshot(model.parent)
    assert run(model, output, "--external-data", external, "--no-prune") == code
    if code:
        assert "2 GiB; use --external-data auto" in capsys.readouterr().err
        assert snapshot(model.parent) == before
        return
    assert output.stat().st_size < 6_000
    assert len(list(model.parent.glob("out.onnx.*.data"))) == 1
    onnx.checker.check_model(str(output))
    feeds = feeds_of(str(model))
    one, other = evaluate(str(model), feeds), evaluate(str(output), feeds)
    assert one is not None
    assert other is not None
    assert abs(one[0] - other[0]).max() < 1e-4


# --- signals --------------------------------------------------------------------------------------------


@pytest.fixture
def caught() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signals.catch()
    yield
    signals.catch()  # forgets the one that came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("caught")
def test_a_signal_is_raised_at_once_and_only_once() -> None:
    with pytest.raises(Interrupted, match="nothing was written") as raised:
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.exit_code == 143
    signal.raise_signal(signal.SIGINT)  # ignored: the first one is being dealt with


@pytest.mark.usefixtures("caught")
def test_a_held_signal_waits_for_the_end_of_the_outer_block() -> None:
    steps = []

    def nested() -> None:
        with signals.held():
            with signals.held():
                signal.raise_signal(signal.SIGTERM)
                steps.append(1)
            steps.append(2)

    with pytest.raises(Interrupted) as raised:
        nested()
    assert steps == [1, 2]
    assert raised.value.exit_code == 143


@pytest.mark.usefixtures("caught")
def test_a_swallowed_signal_is_raised_again_and_says_what_was_written() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except Exception:  # as a library may do
        signals.tell("interrupted; the model was written")
    with pytest.raises(Interrupted, match="the model was written") as raised:
        signals.check()
    assert raised.value.exit_code == 130
