"""The provider probe: what is used is what a session says it runs on."""

from __future__ import annotations

import builtins
import os
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.validation import device, provider, runtime
from onnx_clp.validation.device import Gpu
from onnx_clp.validation.provider import CPU, CUDA, choose

GPU = Gpu("NVIDIA Test", "13.0", "580.65")


def machine(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, listed: list[str], works: bool) -> SimpleNamespace:
    """The runtime of a machine with `gpu`, whose runtime lists `listed`, and where a GPU session starts if `works`."""
    ort = SimpleNamespace(
        __version__="9.9",
        package_name="onnxruntime-gpu",
        cuda_version="13.0",
        get_available_providers=lambda: listed,
        preload_dlls=lambda: None,
    )
    monkeypatch.setattr(provider, "load_runtime", lambda: ort)
    monkeypatch.setattr(provider, "find_gpu", lambda: gpu)
    monkeypatch.setattr(provider, "driver_loads", lambda: gpu is not None)
    monkeypatch.setattr(provider, "starts", lambda _, wanted: works and wanted[0] in listed)
    return ort


@pytest.mark.parametrize(
    ("gpu", "listed", "works", "used", "fallback", "note"),
    [
        pytest.param(GPU, [CUDA, CPU], True, CUDA, False, "on NVIDIA Test (driver 580.65, CUDA 13.0)", id="works"),
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
    assert bool(engine.overruled) == (used == CPU)
    assert engine.runtime == "onnxruntime-gpu 9.9 for CUDA 13.0"


def test_a_machine_without_gpu_and_gpu_build_overrules_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, None, [CPU], works=False)
    assert (choose("auto").overruled, choose("auto").fallback) == ("", False)


@pytest.mark.parametrize(
    ("asked", "gpu", "listed", "words"),
    [
        ("cuda", None, [CUDA, CPU], "--provider cuda: CUDA did not start: no NVIDIA GPU answers here"),
        (
            "cuda",
            GPU,
            [CUDA, CPU],
            r"for CUDA 13.0, needs CUDA and cuDNN libraries of that version; install onnx-clp\[cuda\]",
        ),
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


class Lying:
    """A runtime whose sessions say what they are told to, and keep what they were asked."""

    def __init__(self, providers: list[str], answer: list[float], refuses: bool = False) -> None:
        self.providers, self.answer, self.refuses = providers, answer, refuses
        self.entries: dict[str, str] = {}
        self.asked: list[list[str]] = []

    def get_available_providers(self) -> list[str]:
        return [CUDA]

    def SessionOptions(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(add_session_config_entry=self.entries.__setitem__)

    def InferenceSession(self, *_: object, providers: list[str], **__: object) -> SimpleNamespace:  # noqa: N802
        self.asked.append(providers)
        if self.refuses:
            raise RuntimeError("assigned to the default CPU EP")
        return SimpleNamespace(get_providers=lambda: self.providers, run=lambda *_: [np.array(self.answer)])


@pytest.mark.parametrize(
    ("lying", "believed"),
    [
        (Lying([CUDA, CPU], [0, 1, 4, 9]), True),
        (Lying([CPU], [0, 1, 4, 9]), False),
        (Lying([CUDA, CPU], [0, 1, 4, 8]), False),
        (Lying([CUDA, CPU], [0, 1, 4, 9], refuses=True), False),
    ],
    ids=["runs", "fell back", "computes wrong", "left the node to the CPU"],
)
def test_probe_believes_the_session_and_its_answer_not_the_list(lying: Lying, believed: bool) -> None:
    assert provider.starts(lying, (CUDA, CPU)) == believed  # type: ignore[arg-type]
    assert lying.asked == [[CUDA]], "the CPU provider is not offered"
    assert lying.entries == {"session.disable_cpu_ep_fallback": "1"}


def test_the_probe_runs_here_on_the_cpu_and_not_on_what_is_only_listed() -> None:
    ort = runtime.load_runtime()
    assert provider.starts(ort, (CPU,))
    if device.find_gpu() is None:
        assert not provider.starts(ort, (CUDA, CPU))
        assert not provider.starts(ort, (provider.TENSORRT, CUDA, CPU))


@pytest.mark.parametrize(("old", "calls"), [(False, 1), (True, 0)])
def test_nvidia_packages_are_looked_for_only_where_the_runtime_can(
    monkeypatch: pytest.MonkeyPatch, old: bool, calls: int
) -> None:
    made: list[int] = []
    ort = machine(monkeypatch, GPU, [CUDA, CPU], works=True)
    del ort.preload_dlls
    if not old:
        ort.preload_dlls = lambda: made.append(1)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert choose("auto").on_gpu
    assert len(made) == calls
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_the_cpu_looks_for_no_nvidia_package(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = machine(monkeypatch, GPU, [CUDA, CPU], works=True)
    ort.preload_dlls = lambda: pytest.fail("looked for CUDA")
    assert choose("cpu").runtime == "onnxruntime-gpu 9.9 for CUDA 13.0"


def test_a_gpu_that_the_driver_does_not_name_is_still_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, None, [CUDA, CPU], works=True)
    monkeypatch.setattr(provider, "driver_loads", lambda: True)
    assert choose("auto").providers[0] == CUDA
    monkeypatch.setattr(provider, "driver_loads", lambda: False)
    assert choose("auto").providers[0] == CPU


@pytest.mark.parametrize(("wheels", "count"), [({"onnxruntime-gpu"}, 0), ({"onnxruntime", "onnxruntime-gpu"}, 1)])
def test_two_wheels_are_a_finding(monkeypatch: pytest.MonkeyPatch, wheels: set[str], count: int) -> None:
    have(monkeypatch, wheels)
    findings = choose("cpu").findings
    assert len(findings) == count
    cure = "run pip uninstall -y onnxruntime-gpu onnxruntime, then pip install onnxruntime-gpu"
    assert all(cure in f.sentence for f in findings)


def test_two_wheels_are_named_where_the_cpu_one_won(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, GPU, [CPU], works=False)
    have(monkeypatch, {"onnxruntime", "onnxruntime-gpu"})
    with pytest.raises(UsageError, match="was built without CUDA; run pip uninstall -y onnxruntime-gpu onnxruntime"):
        choose("cuda")


def have(monkeypatch: pytest.MonkeyPatch, wheels: set[str]) -> None:
    def version(name: str) -> str:
        if name in wheels:
            return "1.31.1"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def test_missing_runtime_is_not_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "onnxruntime":
            raise ImportError("no module\nof that name")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotValidated, match=r"ONNX Runtime cannot be used \(no module of that name; installed"):
        choose("cpu")
