"""The first NVIDIA device, asked of the driver's own libraries; what they do not say is not known."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from onnx_clp.text import quoted

NOT_KNOWN = "not known"
_LIBRARIES = {"cuda": ("nvcuda.dll", "libcuda.so.1"), "nvml": ("nvml.dll", "libnvidia-ml.so.1")}


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first device: its name, the newest CUDA version its driver speaks, and the driver's own version."""

    name: str
    cuda: str
    driver: str = NOT_KNOWN

    def __str__(self) -> str:
        return f"{self.name} (driver {self.driver}, CUDA {self.cuda})"


def driver_loads() -> bool:
    """Whether the driver's library is here at all; without it no CUDA session can start."""
    return _library("cuda") is not None


def find_gpu() -> Gpu | None:
    """The first GPU the NVIDIA driver answers for; None without a driver or a device."""
    cuda = _library("cuda")
    if cuda is None:
        return None
    try:
        count, version = ctypes.c_int(), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
            return None
        cuda.cuDriverGetVersion(ctypes.byref(version))
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGetName(name, len(name), 0)
    except (OSError, AttributeError):
        return None
    newest = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(_text(name.value), newest, driver_version())


def driver_version() -> str:
    """The driver's version as its management library gives it, such as "580.65.06"; else "not known"."""
    nvml = _library("nvml")
    if nvml is None:
        return NOT_KNOWN
    try:
        version = ctypes.create_string_buffer(96)
        if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(version, len(version)):
            return NOT_KNOWN
    except (OSError, AttributeError):
        return NOT_KNOWN
    return _text(version.value) or NOT_KNOWN


def _text(value: bytes) -> str:
    return quoted(value.decode(errors="replace"))


def _library(kind: str) -> Any:
    windows, others = _LIBRARIES[kind]
    try:
        return ctypes.CDLL(windows if sys.platform == "win32" else others)
    except OSError:
        return None
