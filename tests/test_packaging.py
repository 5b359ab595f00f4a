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
from tools import release

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


def test_the_page_on_the_cpu_build_installs_all_that_the_package_needs() -> None:
    (line,) = re.findall(r"^pip install (ml-dtypes .*)$", (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8"), re.M)
    needed = {re.match(r"[\w-]+", one)[0] for one in PROJECT["dependencies"]}  # type: ignore[index]
    assert set(line.split()) == needed - {"onnxruntime-gpu"}


# --- a release ----------------------------------------------------------------------------------------


def repository(folder: Path, changelog: str, citation: str) -> Path:
    (folder / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    (folder / "CITATION.cff").write_text(citation, encoding="utf-8")
    return folder


def test_a_release_says_what_the_changelog_says_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"# Changelog\n\n## {__version__}\n\n- a\n- b\n\n## 0.0.1\n\n- c\n"
    monkeypatch.setattr(release, "ROOT", repository(tmp_path, text, f"version: {__version__}\n"))
    assert release.faults(f"v{__version__}") == []
    assert release.notes(__version__) == "- a\n- b"
    assert release.notes("0.0.1") == "- c"


def test_a_release_that_does_not_agree_with_itself_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"# Changelog\n\n## {__version__} (unreleased)\n\n- a\n"
    monkeypatch.setattr(release, "ROOT", repository(tmp_path, text, "title: x\n"))
    assert len(release.faults(f"v{__version__}")) == 2
    assert len(release.faults("v99.0.0")) == 3


def test_the_workflow_of_a_release_runs_for_tags_and_lets_no_expression_into_a_script() -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    assert found[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads "on" as true
    runs = [step["run"] for step in found["jobs"]["release"]["steps"] if "run" in step]
    assert any("tools.release" in run and "twine check" in run and "mkdocs build --strict" in run for run in runs)
    assert not any("${{" in run for run in runs)


def test_the_checks_of_a_change_build_the_site_and_the_distribution() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "mkdocs build --quiet --strict" in text
    assert "twine check --strict" in text
