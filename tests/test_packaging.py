"""What is shipped: the metadata, and the content of the wheel."""

from __future__ import annotations

import email.message
import email.parser
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from onnx_clp.version import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VIEWS = {"report/report.html.j2", "report/schema.json", "batch/index.html.j2", "gauge/photographs.npz", "py.typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(built)


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "onnx_clp").rglob("*.py")}
    assert modules | {f"onnx_clp/{name}" for name in VIEWS} == {name for name in names if name.startswith("onnx_clp/")}
    others = {name.partition("/")[2] for name in names if not name.startswith("onnx_clp/")}
    assert others == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert sum(info.file_size for info in wheel.infolist()) < 8_000_000


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    found = metadata(wheel)
    assert (found["Name"], found["Version"]) == ("onnx-clp", __version__)
    assert found["Author"] == "The onnx_clp developers"
    assert found["License-Expression"] == "Apache-2.0"
    assert set(found.get_all("Provides-Extra", [])) >= {"report", "remote", "test", "dev"}
    entry = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "onnx-clp = onnx_clp.cli.main:console" in entry


def test_the_author_is_the_one_to_cite() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert [f"- name: {author['name']}" in cited for author in PROJECT["authors"]] == [True]


def test_every_python_from_the_oldest_on_has_a_classifier() -> None:
    minors = [int(m[1]) for c in PROJECT["classifiers"] if (m := re.search(r"Python :: 3\.(\d+)$", c))]
    assert minors == list(range(min(minors), max(minors) + 1))
    assert PROJECT["requires-python"] == f">=3.{min(minors)}"
    assert sys.version_info.minor in minors


def test_the_page_on_versions_names_this_ones_schema() -> None:
    from onnx_clp.document.run import SCHEMA

    text = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    assert f"schema {SCHEMA}" in text
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
