"""Which execution provider really works here: asked of a tiny session, not of a list.

ONNX Runtime lists CUDA on machines without a GPU and misses GPUs that exist, and a session that cannot
start CUDA becomes a CPU session without an error. So a session that says afterwards what it runs on decides.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

import numpy as np

from onnx_clp.config import Provider
from onnx_clp.errors import NotValidated, UsageError
from onnx_clp.report.document import Finding
from onnx_clp.validation.wording import one_line

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

_OPTIONS: dict[str, dict[str, str]] = {
    CPU: {},
    # TF32 keeps 10 bits of mantissa: far coarser than the agreement asked for.
    CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    TENSORRT: {"trt_engine_cache_enable": "0"},
}
_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
)


@dataclass(frozen=True, slots=True)
class Engine:
    """Where sessions run: providers in order of preference, and what to say about the choice.

    `fallback` is True only when the machine has an NVIDIA GPU, ONNX Runtime was built for it, and the
    GPU provider still did not start.
    """

    providers: tuple[str, ...]
    version: str
    note: str
    fallback: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def options(self) -> list[dict[str, str]]:
        """Provider options, one mapping per provider."""
        return [_OPTIONS[name] for name in self.providers]

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU provider leads."""
        return self.providers[0] != CPU


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first NVIDIA device the driver names, and the newest CUDA version the driver speaks."""

    name: str
    cuda: str


def choose(asked: Provider) -> Engine:
    """The engine for `asked`.

    Raises:
        UsageError: a provider was named and does not work here.
        NotValidated: ONNX Runtime is missing or broken.
    """
    ort = load_runtime()
    gpu = None if asked == "cpu" else find_gpu()
    if gpu is not None and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    findings = _wheel_clash()
    if asked == "auto":
        return _best(ort, gpu, findings)
    wanted = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}[asked]
    if wanted[0] != CPU and not starts(ort, wanted):
        raise UsageError(f"--provider {asked}: {_why_not(ort, wanted[0], gpu)}")
    return Engine(wanted, ort.__version__, _device_note(gpu) if gpu else "", findings=findings)


def _best(ort: ModuleType, gpu: Gpu | None, findings: tuple[Finding, ...]) -> Engine:
    listed = CUDA in ort.get_available_providers()
    if gpu is not None and starts(ort, (CUDA, CPU)):
        return Engine((CUDA, CPU), ort.__version__, _device_note(gpu), findings=findings)
    if gpu is not None:
        note = f"on the CPU: {_why_not(ort, CUDA, gpu)}"
        return Engine((CPU,), ort.__version__, note, fallback=listed, findings=findings)
    return Engine((CPU,), ort.__version__, "on the CPU: no NVIDIA GPU answers here", findings=findings)


def _device_note(gpu: Gpu) -> str:
    return f"on {gpu.name} (driver for CUDA {gpu.cuda})"


def _why_not(ort: ModuleType, provider: str, gpu: Gpu | None) -> str:
    short = provider.removesuffix("ExecutionProvider")
    if provider not in ort.get_available_providers():
        return f"the ONNX Runtime {ort.__version__} here was built without {short}; install onnxruntime-gpu"
    if gpu is None:
        return f"{short} did not start: no NVIDIA GPU answers here"
    if provider == TENSORRT:
        return "TensorRT did not start: install its libraries, and put them on the library path"
    return (
        f"CUDA did not start on {gpu.name} (driver for CUDA {gpu.cuda}): ONNX Runtime {ort.__version__} "
        "needs its CUDA and cuDNN libraries; install onnx-clp[cuda]"
    )


def starts(ort: ModuleType, providers: tuple[str, ...]) -> bool:
    """Whether a one-node session on `providers` really runs on the first of them."""
    if providers[0] not in ort.get_available_providers():
        return False
    try:
        options = [_OPTIONS[name] for name in providers]
        session = ort.InferenceSession(
            _tiny_model(), providers=list(providers), provider_options=options, enable_fallback=0
        )
        if session.get_providers()[0] != providers[0]:
            return False
        session.run(None, {"x": np.ones(4, np.float32)})
    except Exception:
        return False
    return True


def _tiny_model() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(model.SerializeToString())


def load_runtime() -> ModuleType:
    """The onnxruntime module, silenced.

    Raises:
        NotValidated: it is missing, broken or half removed.
    """
    try:
        import onnxruntime as ort  # noqa: TID251

        ort.set_default_logger_severity(4)
    except (ImportError, AttributeError, OSError) as error:
        installed = ", ".join(_installed()) or "none"
        raise NotValidated(
            f"ONNX Runtime cannot be used ({one_line(error)}; installed: {installed}); reinstall exactly one "
            "of onnxruntime-gpu and onnxruntime, or go without a proof with --no-validate"
        ) from error
    return ort  # type: ignore[no-any-return]


def _installed() -> list[str]:
    found = []
    for name in _WHEELS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _wheel_clash() -> tuple[Finding, ...]:
    found = _installed()
    if len(found) < 2:
        return ()
    sentence = (
        f"{' and '.join(found)} are installed together: they overwrite each other's files and the last one "
        "installed wins; uninstall all of them, then install the one you want"
    )
    return (Finding("runtime", "ONNX Runtime", sentence),)


def find_gpu() -> Gpu | None:
    """The first GPU the NVIDIA driver answers for; None without a driver or a device."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
        count, version = ctypes.c_int(), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
            return None
        cuda.cuDriverGetVersion(ctypes.byref(version))
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGetName(name, len(name), 0)
    except (OSError, AttributeError):
        return None
    shown = one_line(name.value.decode(errors="replace"))
    return Gpu(shown, f"{version.value // 1000}.{version.value % 1000 // 10}")
