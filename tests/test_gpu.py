"""The whole run where a GPU works, where one is there and does not start, and where wheels clash.

A driver that answers without a device behind it is compiled here, so that the middle case is real too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import DTypeLike

from onnx_clp.config import RunLimits
from onnx_clp.validation import Request, validate
from onnx_clp.validation.compare import tolerance_for
from onnx_clp.validation.device import find_gpu
from onnx_clp.validation.provider import CUDA, TENSORRT
from onnx_clp.validation.runtime import installed
from tests.validation_models import network, save

ROOT = Path(__file__).parent.parent
FAKE_DRIVER = """
#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, "Compiled GPU"); return 0; }
"""


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), environment.pop("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-m", "onnx_clp", *map(str, words)],
        env={**os.environ, **environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(network(folded=False), tmp_path / "in.onnx")


def report_of(*words: str | Path, **environment: str) -> tuple[dict[str, Any], str]:
    done = run(*words, "--json", **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


# --- no GPU -------------------------------------------------------------------------------------------

without_gpu = pytest.mark.skipif(find_gpu() is not None, reason="an NVIDIA GPU answers here")
gpu_build = pytest.mark.skipif("onnxruntime-gpu" not in installed(), reason="no GPU build of ONNX Runtime here")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds its libraries in another way")


@without_gpu
@gpu_build
def test_auto_says_in_one_line_that_the_cpu_took_over(model: Path) -> None:
    report, stderr = report_of(model)
    assert stderr.count("\n") == 1
    assert stderr.startswith("onnx-clp: validated on the CPU: no NVIDIA GPU answers here")
    assert report["validation"]["provider_used"] == "CPUExecutionProvider"
    assert report["validation"]["engine"]["runtime"].startswith("onnxruntime-gpu 1.")
    assert report_of(model, "--provider", "cpu")[1] == ""
    assert run(model, "-q").stderr == ""


@without_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_named_provider_is_an_error_and_writes_nothing(model: Path, tmp_path: Path, provider: str) -> None:
    done = run(model, tmp_path / "out.onnx", "--provider", provider)
    assert done.returncode == 2
    assert done.stderr.startswith(f"onnx-clp: error: --provider {provider}: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


@without_gpu
@gpu_build
@linux
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_gpu_whose_cuda_does_not_start_is_a_fallback(model: Path, tmp_path: Path) -> None:
    (tmp_path / "d.c").write_text(FAKE_DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "d.c"], check=True)
    here = {"LD_LIBRARY_PATH": str(tmp_path)}
    report, stderr = report_of(model, **here)
    assert report["validation"]["outcome"] == "validated on a fallback"
    assert "CUDA did not start on Compiled GPU (driver not known, CUDA 13.0)" in stderr
    assert "install onnx-clp[cuda]" in stderr
    assert stderr.count("\n") == 1
    named = run(model, "--provider", "cuda", **here)
    assert named.returncode == 2
    assert "--provider cuda: CUDA did not start on Compiled GPU" in named.stderr


def test_two_wheels_in_one_environment_are_found_and_the_cure_named(model: Path, tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-1.30.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.30.0\n")
    report, _ = report_of(model, "--provider", "cpu", PYTHONPATH=str(tmp_path / "site"))
    found = [f for f in report["findings"] if f["kind"] == "runtime"]
    assert len(found) == 1
    assert "run pip uninstall -y onnxruntime-gpu onnxruntime, then pip install" in found[0]["sentence"]
    assert not [f for f in report_of(model, "--provider", "cpu")[0]["findings"] if f["kind"] == "runtime"]


@pytest.mark.parametrize(("ir", "opset", "words"), [(99, 17, "at most IR version"), (8, 99, "at most opset")])
def test_a_runtime_too_old_for_the_input_is_said_and_the_input_not_raised(
    model: Path, tmp_path: Path, ir: int, opset: int, words: str
) -> None:
    proto = onnx.load(model)
    proto.ir_version, proto.opset_import[0].version = ir, opset
    path = save(proto, tmp_path / "new.onnx")
    done = run(path, tmp_path / "out.onnx", "--provider", "cpu")
    if done.returncode == 2:  # refused before validation: unknown to onnx itself
        assert "99" in done.stderr
    else:
        assert done.returncode == 4
        assert f"loads {words}" in done.stderr
        assert "the file has 99; install a newer one, or go without a proof with --no-validate" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_the_default_of_the_newest_onnx_is_kept_or_refused_clearly(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    proto.ir_version, proto.opset_import[0].version = onnx.IR_VERSION, onnx.defs.onnx_opset_version()
    path = save(proto, tmp_path / "new.onnx")
    proven = run(path, tmp_path / "out.onnx", "--provider", "cpu")
    if proven.returncode != 0:
        assert proven.returncode == 4
        assert f"the file has {onnx.IR_VERSION}; install a newer one" in proven.stderr
    assert run(path, tmp_path / "out.onnx", "--no-validate", "--overwrite").returncode == 0
    written = onnx.load(tmp_path / "out.onnx")
    assert (written.ir_version, written.opset_import[0].version) == (proto.ir_version, proto.opset_import[0].version)


def test_comparing_providers_without_validation_is_a_contradiction(model: Path) -> None:
    done = run(model, "--compare-providers", "--no-validate")
    assert done.returncode == 2
    assert "drop --no-validate or --compare-providers" in done.stderr


# --- a GPU --------------------------------------------------------------------------------------------


@cache
def missing(provider: str, folder: Path) -> str:
    """Why `provider` does not work here; empty where it does. Asked once, of the run itself."""
    if find_gpu() is None:
        return "no NVIDIA GPU answers here"
    done = run(save(network(folded=False), folder / "probe.onnx"), "-q", "--provider", provider)
    return "" if done.returncode == 0 else done.stderr.strip()


@pytest.fixture(params=["cuda", "tensorrt"])
def provider(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name = str(request.param)
    why = missing(name, tmp_path_factory.getbasetemp())
    if why:
        pytest.skip(why)
    return name


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=["float32", "float16", "bfloat16"])
def test_a_fold_is_proven_on_the_gpu(provider: str, tmp_path: Path, dtype: DTypeLike) -> None:
    original = save(network(folded=False, dtype=dtype, opset=22), tmp_path / "original.onnx")
    folded = save(network(folded=True, dtype=dtype, opset=22), tmp_path / "folded.onnx")
    limits = RunLimits(provider=provider)  # type: ignore[arg-type]
    report = validate(Request(original=original, folded=folded, final=None, limits=limits)).validation
    name = {"cuda": CUDA, "tensorrt": TENSORRT}[provider]
    if np.dtype(dtype) != ml_dtypes.bfloat16:  # a kernel for it may be missing, and the report then says so
        assert report.provider_used == name
        assert report.engine is not None
        assert report.engine.placed.get(name, 0) > 0 or not report.engine.placed
    assert report.outcome == "validated"
    assert report.fold_error is not None
    assert report.fold_error < tolerance_for(np.dtype(dtype).name, name)


@pytest.mark.gpu
def test_a_wrong_fold_is_caught_on_the_gpu(provider: str, tmp_path: Path) -> None:
    from onnx_clp.errors import ValidationFailed

    original = save(network(folded=False), tmp_path / "original.onnx")
    wrong = save(network(folded=True, tweak=1.01), tmp_path / "wrong.onnx")
    with pytest.raises(ValidationFailed, match="folding changed output y"):
        validate(Request(original=original, folded=wrong, final=None, limits=RunLimits(provider=provider)))  # type: ignore[arg-type]


@pytest.mark.gpu
def test_the_four_runs_agree(provider: str, model: Path) -> None:
    report, stderr = report_of(model, "--provider", provider, "--compare-providers")
    runs = report["validation"]["comparison"]["runs"]
    assert len(runs) == 4
    assert all(run["failure"] == "" for run in runs)
    assert all(run["error"] < 1e-3 for run in runs[2:])
    assert stderr == ""
