"""Which execution provider really works here: asked of a tiny session, not of a list.

ONNX Runtime lists CUDA on machines without a GPU, its list of devices misses GPUs that exist, and a session that
cannot start CUDA becomes a CPU session without an error. So a session that may not use the CPU decides: it loads
only where the provider itself takes the one node.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from onnx_clp.errors import UsageError
from onnx_clp.validation.device import Gpu, driver_loads, find_gpu
from onnx_clp.validation.runtime import build, cure, installed, load_runtime, wheel_clash
from onnx_clp.verdicts import Finding

if TYPE_CHECKING:
    from onnx_clp.config import Provider

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

_OPTIONS: dict[str, dict[str, str]] = {
    CPU: {},
    # TF32 keeps 10 bits of mantissa: far coarser than the agreement asked for.
    CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    TENSORRT: {"trt_engine_cache_enable": "0", "trt_fp16_enable": "0", "trt_int8_enable": "0"},
}
# TensorRT has no option against TF32; this one binds all of NVIDIA's libraries.
_TF32 = ("NVIDIA_TF32_OVERRIDE", "0")


@dataclass(frozen=True, slots=True)
class Engine:
    """Where sessions run: providers in order of preference, and what to say about the choice.

    `runtime` is ONNX Runtime's build, `gpu` the device the driver named (None: none, or not asked). `overruled`
    says why the CPU took over from a GPU build under "auto"; it is empty otherwise. `fallback` is True only
    when there is also an NVIDIA GPU that should have worked.
    """

    providers: tuple[str, ...]
    version: str
    note: str
    fallback: bool = False
    findings: tuple[Finding, ...] = ()
    runtime: str = ""
    gpu: Gpu | None = None
    overruled: str = ""

    @property
    def options(self) -> list[dict[str, str]]:
        """Provider options, one mapping per provider."""
        return [_OPTIONS[name] for name in self.providers]

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU provider leads."""
        return self.providers[0] != CPU

    @property
    def memory(self) -> str:
        """Where its tensors live, in ONNX Runtime's words."""
        return "cuda" if self.on_gpu else "cpu"


def choose(asked: Provider) -> Engine:
    """The engine for `asked`.

    Raises:
        UsageError: a provider was named and does not work here.
        NotValidated: ONNX Runtime is missing or broken.
    """
    ort = load_runtime()
    if asked == "cpu":
        return cpu_engine()
    gpu = find_gpu()
    if gpu is not None or driver_loads():
        _make_ready(ort)
    if asked == "auto":
        return _best(ort, gpu)
    wanted = {"cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}[asked]
    if not starts(ort, wanted):
        raise UsageError(f"--provider {asked}: {_why_not(ort, wanted[0], gpu)}")
    return _engine(ort, wanted, gpu)


def cpu_engine() -> Engine:
    """The engine that asks no driver."""
    ort = load_runtime()
    return Engine((CPU,), ort.__version__, "", findings=wheel_clash(), runtime=build(ort))


def _engine(ort: ModuleType, providers: tuple[str, ...], gpu: Gpu | None) -> Engine:
    note = "on a GPU that its driver does not name" if gpu is None else f"on {gpu}"
    return Engine(providers, ort.__version__, note, findings=wheel_clash(), runtime=build(ort), gpu=gpu)


def _make_ready(ort: ModuleType) -> None:
    """Find CUDA and cuDNN that came as Python packages, and switch TF32 off in all of NVIDIA's libraries."""
    os.environ[_TF32[0]] = _TF32[1]
    if hasattr(ort, "preload_dlls"):  # ONNX Runtime 1.21 and later; it prints its complaints on stdout
        ort.preload_dlls()


def _best(ort: ModuleType, gpu: Gpu | None) -> Engine:
    listed = CUDA in ort.get_available_providers()
    # What the driver says of devices does not decide, only whether there is a driver at all.
    if (gpu is not None or driver_loads()) and starts(ort, (CUDA, CPU)):
        return _engine(ort, (CUDA, CPU), gpu)
    why = "no NVIDIA GPU answers here" if gpu is None else _why_not(ort, CUDA, gpu)
    return Engine(
        (CPU,),
        ort.__version__,
        f"on the CPU: {why}",
        fallback=listed and gpu is not None,
        findings=wheel_clash(),
        runtime=build(ort),
        gpu=gpu,
        overruled=why if listed or gpu is not None else "",
    )


def _why_not(ort: ModuleType, provider: str, gpu: Gpu | None) -> str:
    short = provider.removesuffix("ExecutionProvider")
    if provider not in ort.get_available_providers():
        found = installed()
        way = cure(found) if len(found) > 1 else "install onnxruntime-gpu in its place"
        return f"the ONNX Runtime {ort.__version__} here was built without {short}; {way}"
    if gpu is None:
        return f"{short} did not start: no NVIDIA GPU answers here"
    if provider == TENSORRT:
        return "TensorRT did not start: install its libraries, and put them on the library path"
    return (
        f"CUDA did not start on {gpu}: {build(ort)}, needs CUDA and cuDNN libraries of that version; "
        "install onnx-clp[cuda]"
    )


def starts(ort: ModuleType, providers: tuple[str, ...]) -> bool:
    """Whether a session of one node, barred from the CPU, loads and runs on the first of `providers` alone."""
    leader = providers[0]
    if leader not in ort.get_available_providers():
        return False
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if leader != CPU:
            # Loading then fails where ONNX Runtime would have given the node to the CPU.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        session = ort.InferenceSession(
            _tiny_model(), options, providers=[leader], provider_options=[_OPTIONS[leader]], enable_fallback=0
        )
        if session.get_providers()[0] != leader:
            return False
        (answer,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    except Exception:
        return False
    return bool(np.array_equal(answer, [0, 1, 4, 9]))


def _tiny_model() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(model.SerializeToString())
