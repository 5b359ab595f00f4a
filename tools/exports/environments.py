"""One virtual environment per exporter: what is pinned in it, and how it is made (standard library only).

Sets that install together on Python 3.11 were found by trying; each pins its onnx too, because a newer one can
break an exporter that was released before it.
"""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onnx_clp.errors import UsageError

ROOT = Path(__file__).parents[2]
_MARK = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Environment:
    """Pinned packages, installed in this order of groups, and environment variables for what runs there."""

    groups: tuple[tuple[str, ...], ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    @property
    def pins(self) -> tuple[str, ...]:
        """Every pinned package."""
        return tuple(pin for group in self.groups for pin in group)


ENVIRONMENTS: dict[str, Environment] = {
    "torch": Environment(
        (("torch==2.13.0", "onnxscript==0.7.2", "onnx-ir==1.1.0", "onnx==1.23.2", "numpy==2.4.6"),),
        arguments=("--extra-index-url", "https://download.pytorch.org/whl/cpu"),
    ),
    "tensorflow": Environment(
        (("tensorflow-cpu==2.21.0", "keras==3.15.1", "tf2onnx==1.17.0", "tf_keras==2.21.0", "onnx==1.23.2"),),
        {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
    ),
    "jax": Environment(
        (("jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "jax2onnx==0.17.1", "onnx==1.23.2"),),
        {"JAX_PLATFORMS": "cpu"},
    ),
    "paddle": Environment(
        (
            ("onnx==1.17.0", "onnx-graphsurgeon==0.6.1", "sympy", "packaging", "setuptools"),
            ("paddlepaddle==3.3.1", "paddle2onnx==2.1.0"),
        ),
        {"POLYGRAPHY_AUTOINSTALL_DEPS": "0"},
    ),
}
"""Exporter set -> its environment; paddle2onnx needs its helpers first: they install packages by themselves."""


def python(folder: Path, name: str) -> Path:
    """The interpreter of environment `name` below `folder`, which is made and filled if it is not yet there.

    Raises:
        UsageError: it cannot be installed.
    """
    home = folder / name
    interpreter = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join(ENVIRONMENTS[name].pins) + "\n"
    mark = home / _MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return interpreter
    venv.create(home, with_pip=True, clear=True)
    for group in ENVIRONMENTS[name].groups:
        _install(interpreter, name, group)
    mark.write_text(wanted, encoding="utf-8")
    return interpreter


def _install(interpreter: Path, name: str, group: tuple[str, ...]) -> None:
    command = [str(interpreter), "-m", "pip", "install", "--quiet", *group, *ENVIRONMENTS[name].arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_surroundings(name))
    if done.returncode:
        raise UsageError(f"{name}: pip cannot install {' '.join(group)}: {_last_line(done.stderr)}")


def run(folder: Path, name: str, module: str, *arguments: str, timeout: float = 900) -> str:
    """Run `module` of this repository in environment `name`; "" when it went well, else its last line.

    Raises:
        UsageError: the environment cannot be made.
    """
    command = [str(python(folder, name)), "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, env=_surroundings(name), cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return f"not done after {timeout:.0f} s"
    return _last_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else ""


def _surroundings(name: str) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENTS[name].variables, "PYTHONPATH": str(ROOT)}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
