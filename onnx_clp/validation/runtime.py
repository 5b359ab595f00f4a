"""ONNX Runtime itself: loading it silently, what it was built for, and wheels that break one another."""

from __future__ import annotations

import contextlib
from importlib import metadata
from types import ModuleType

from onnx_clp.errors import NotValidated
from onnx_clp.text import quoted
from onnx_clp.validation.device import NOT_KNOWN
from onnx_clp.verdicts import Finding

WHEELS = (
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
)


def load_runtime() -> ModuleType:
    """The onnxruntime module, silenced.

    Raises:
        NotValidated: it is missing, broken or half removed.
    """
    try:
        import onnxruntime as ort  # noqa: TID251

        ort.set_default_logger_severity(4)
    except (ImportError, AttributeError, OSError) as error:
        found = installed()
        listed = ", ".join(f"{name} {version}" for name, version in found.items()) or "none"
        way = cure(found) if len(found) > 1 else "reinstall exactly one of onnxruntime-gpu and onnxruntime"
        raise NotValidated(
            f"ONNX Runtime cannot be used ({quoted(error)}; installed: {listed}); {way}, "
            "or go without a proof with --no-validate"
        ) from error
    return ort  # type: ignore[no-any-return]


def installed() -> dict[str, str]:
    """The distributions that bring a module `onnxruntime`, with their versions."""
    found = {}
    for name in WHEELS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def cure(found: dict[str, str]) -> str:
    """What to type where several wheels share one module."""
    names = " ".join(found)
    return f"run pip uninstall -y {names}, then pip install {next(iter(found))} (or the one of them you want)"


def wheel_clash() -> tuple[Finding, ...]:
    """A finding where two wheels write the same files: the later one wins, and removing one breaks the other."""
    found = installed()
    if len(found) < 2:
        return ()
    both = " and ".join(f"{name} {version}" for name, version in found.items())
    sentence = (
        f"{both} are installed together: they overwrite each other's files and the last one installed wins; "
        f"{cure(found)}"
    )
    return (Finding("runtime", "ONNX Runtime", sentence),)


def build(ort: ModuleType) -> str:
    """The distribution that the module says it came from, its version, and the CUDA it was built for."""
    name = getattr(ort, "package_name", "") or "ONNX Runtime"
    cuda = getattr(ort, "cuda_version", "") or (NOT_KNOWN if "gpu" in name else "")
    return quoted(f"{name} {ort.__version__}" + (f" for CUDA {cuda}" if cuda else ""))
