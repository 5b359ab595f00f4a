"""Where the real and exported files lie that some tests run on: they are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("ONNX_CLP_CORPUS") or Path(__file__).parent.parent.parent / "shared" / "corpus")
MISSING = f"the files to run on are not there ({ROOT.name}; ONNX_CLP_CORPUS names their folder)"


def file(name: str) -> Path:
    """A file by its path in the corpus; the test is skipped where it is missing."""
    path = ROOT / name
    if not path.is_file():
        pytest.skip(MISSING)
    return path


def files() -> list[Path]:
    """Every model in the corpus; empty where it is missing."""
    return sorted(ROOT.rglob("*.onnx")) if ROOT.is_dir() else []
