"""The provider probe: what is used is what a session says it runs on."""

from __future__ import annotations

import builtins
import ctypes
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.validation import Request, provider, validate
from onnx_clp.validation.provider import CPU, CUDA, Gpu, choose
from tests.validation_models import network, save

GPU = Gpu("NVIDIA Test", "13.0")


def machine(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, listed: list[str], works: bool) -> None:
    """A machine with `gpu`, whose runtime lists `listed`, and where a GPU session starts if `works`."""
    runtime = SimpleNamespace(__version__="9.9", get_available_providers=lambda: listed, preload_dlls=lambda: None)
    monkeypatch.setattr(provider, "load_runtime", lambda: runtime)
    monkeypatch.setattr(provider, "find_gpu", lambda: gpu)
    monkeypatch.setattr(provider, "starts", lambda _, wanted: works and wanted[0] in listed)


@pytest.mark.parametrize(
    ("gpu", "listed", "works", "used", "fallback", "note"),
    [
        pytest.param(GPU, [CUDA, CPU], True, CUDA, False, "on NVIDIA Test (driver for CUDA 13.0)", id="works"),
        pytest.param(GPU, [CUDA, CPU], False, CPU, True, "CUDA did not start on NVIDIA Test", id="broken"),
        pytest.param(GPU, [CPU], False, CPU, False, "was built without CUDA", id="cpu build"),
        pytest.param(None, [CUDA, CPU], False, CPU, False, "no NVIDIA GPU answers here", id="no gpu"),
    ],
)
def test_auto_takes_cuda_only_where_it_runs(
    monkeypatch: pytest.MonkeyPatch,
    gpu: Gpu | None,
    listed: list[str],
    works: bool,
    used: str,
    fallback: bool,
    note: str,
) -> None:
    machine(monkeypatch, gpu, listed, works)
    engine = choose("auto")
    assert engine.providers[0] == used
    assert engine.on_gpu == (used != CPU)
    assert engine.fallback == fallback
    assert note in engine.note


@pytest.mark.parametrize(
    ("asked", "gpu", "listed", "words"),
    [
        ("cuda", None, [CUDA, CPU], "--provider cuda: CUDA did not start: no NVIDIA GPU answers here"),
        ("cuda", GPU, [CUDA, CPU], r"needs its CUDA and cuDNN libraries; install onnx-clp\[cuda\]"),
        ("cuda", GPU, [CPU], "built without CUDA; install onnxruntime-gpu"),
        ("tensorrt", GPU, [provider.TENSORRT, CUDA, CPU], "TensorRT did not start: install its libraries"),
        ("tensorrt", GPU, [CUDA, CPU], "built without Tensorrt"),
    ],
)
def test_named_provider_never_falls_back(
    monkeypatch: pytest.MonkeyPatch, asked: str, gpu: Gpu | None, listed: list[str], words: str
) -> None:
    machine(monkeypatch, gpu, listed, works=False)
    with pytest.raises(UsageError, match=words):
        choose(asked)  # type: ignore[arg-type]


def test_cpu_asks_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, GPU, [CPU], works=False)
    monkeypatch.setattr(provider, "find_gpu", lambda: pytest.fail("asked for a GPU"))
    assert choose("cpu").providers == (CPU,)


def test_probe_believes_the_session_not_the_list() -> None:
    assert provider.starts(provider.load_runtime(), (CPU,))
    lying = SimpleNamespace(
        get_available_providers=lambda: [CUDA],
        InferenceSession=lambda *_, **__: SimpleNamespace(get_providers=lambda: [CPU], run=lambda *_: None),
    )
    assert not provider.starts(lying, (CUDA, CPU))  # type: ignore[arg-type]


@pytest.mark.parametrize(("wheels", "count"), [({"onnxruntime-gpu"}, 0), ({"onnxruntime", "onnxruntime-gpu"}, 1)])
def test_two_wheels_are_a_finding(monkeypatch: pytest.MonkeyPatch, wheels: set[str], count: int) -> None:
    def version(name: str) -> str:
        if name in wheels:
            return "1.31.1"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    findings = choose("cpu").findings
    assert len(findings) == count
    assert all("uninstall all of them" in f.sentence for f in findings)


def test_missing_runtime_is_not_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "onnxruntime":
            raise ImportError("no module\nof that name")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotValidated, match=r"ONNX Runtime cannot be used \(no module of that name; installed"):
        choose("cpu")


def test_driver_answers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(value: int) -> object:
        def answer(target: object) -> int:
            target._obj.value = value  # type: ignore[attr-defined]
            return 0

        return answer

    def name(buffer: object, size: int, device: int) -> int:
        assert (size, device) == (256, 0)
        buffer.value = b"Test\x1b GPU"  # type: ignore[attr-defined]
        return 0

    driver = SimpleNamespace(
        cuInit=lambda _: 0, cuDeviceGetCount=fill(1), cuDriverGetVersion=fill(13020), cuDeviceGetName=name
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert provider.find_gpu() == Gpu("Test\\x1b GPU", "13.2")
    driver.cuDeviceGetCount = fill(0)
    assert provider.find_gpu() is None
    driver.cuInit = lambda _: 100
    assert provider.find_gpu() is None


@pytest.mark.gpu
def test_cuda_really_runs(tmp_path: Path) -> None:
    if provider.find_gpu() is None:
        pytest.skip("no NVIDIA GPU answers here")
    original = save(network(folded=False), tmp_path / "original.onnx")
    folded = save(network(folded=True), tmp_path / "folded.onnx")
    report = validate(Request(original=original, folded=folded, final=None, provider="cuda")).validation
    assert (report.outcome, report.provider_used) == ("validated", CUDA)
    assert report.fold_error is not None
    assert report.fold_error < 1e-4
