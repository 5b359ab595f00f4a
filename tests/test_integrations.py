"""Completion, the pre-commit hook, the GitHub Action and the Dockerfile, as far as they run without a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onnx_clp.cli.options import main_parser
from tests.test_head_check import BIAS, GEMM, model, rows
from tests.test_pipeline import infected

ROOT = Path(__file__).parent.parent
CALM = ["--exclude", "*"]


@pytest.fixture
def tool(tmp_path: Path) -> dict[str, str]:
    """An environment in which `onnx-clp` is this package."""
    script = tmp_path / "bin" / "onnx-clp"
    script.parent.mkdir()
    code = "import sys; sys.argv[0] = 'onnx-clp'; from onnx_clp.cli.main import console; console()"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{code}" "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(script.parent), os.environ["PATH"]])
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": python}


def sh(script: str, tool: dict[str, str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        env=tool | more,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def document(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


# --- completion ---------------------------------------------------------------------------------------


def completions(line: str, tool: dict[str, str], folder: Path) -> list[str]:
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    done = sh("onnx-clp 8>answer", tool, folder, **asked, _ARGCOMPLETE_SUPPRESS_SPACE="1")
    assert done.stdout == ""
    return (folder / "answer").read_text().split("\n")


def test_a_shell_is_offered_options_and_their_choices(tool: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    assert "--sweep" in completions("onnx-clp --sw", tool, tmp_path)
    assert completions("onnx-clp --fail-on ", tool, tmp_path) == ["never", "suspicious", "unusual", "unjudged"]
    assert not any("--sweep" in word for word in completions("onnx-clp --fail-on s", tool, tmp_path))


def test_completion_without_its_package_fails_in_silence(tool: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "argcomplete.py").write_text("raise ImportError\n")
    path = os.pathsep.join([str(tmp_path / "none"), tool["PYTHONPATH"]])
    done = sh("onnx-clp", tool, tmp_path, _ARGCOMPLETE="1", PYTHONPATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_without_a_shell_asking_nothing_of_it_is_imported(tool: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "argcomplete.py").write_text("raise SystemExit(77)\n")
    path = os.pathsep.join([str(tmp_path / "none"), tool["PYTHONPATH"]])
    assert sh("onnx-clp --version", tool, tmp_path, PYTHONPATH=path).returncode == 0
    assert sh("onnx-clp --version", tool, tmp_path, PYTHONPATH=path, _ARGCOMPLETE="1").returncode == 77


# --- pre-commit ---------------------------------------------------------------------------------------


def test_the_hook_has_what_pre_commit_asks_for() -> None:
    (hook,) = document(".pre-commit-hooks.yaml")
    assert {"id", "name", "entry", "language"} <= set(hook)
    assert set(hook) <= {"id", "name", "description", "entry", "language", "files", "types", "require_serial"}
    assert re.search(hook["files"], "a/b.onnx")
    assert not re.search(hook["files"], "b.onnx.txt")


def test_the_hook_fails_on_a_suspicious_model_and_only_then(tool: dict[str, str], tmp_path: Path) -> None:
    (hook,) = document(".pre-commit-hooks.yaml")
    (tmp_path / "calm one.onnx").write_bytes(infected().SerializeToString())  # a channel stands out, and nothing else
    (tmp_path / "-bad.onnx").write_bytes(model(GEMM, rows(), bias=BIAS).SerializeToString())
    run = [*shlex.split(hook["entry"])]
    one, both = (
        subprocess.run([*run, *names], env=tool, cwd=tmp_path, capture_output=True, text=True, check=False)
        for names in (["calm one.onnx"], ["-bad.onnx", "calm one.onnx"])
    )
    assert (one.returncode, one.stderr) == (0, "")
    assert both.returncode == 1
    assert "onnx-clp: -bad.onnx: --fail-on suspicious: suspicious (class that stands out: class 3" in both.stderr


# --- GitHub -------------------------------------------------------------------------------------------


def action_step(identity: str) -> Any:
    return next(s for s in document("action.yml")["runs"]["steps"] if s.get("name") == identity)


def test_the_action_has_the_keys_of_a_composite_action() -> None:
    found = document("action.yml")
    assert set(found) == {"name", "description", "branding", "inputs", "outputs", "runs"}
    assert set(found["inputs"]) == {"model", "args", "python-version", "upload-sarif"}
    assert all(set(i) <= {"description", "required", "default"} and i["description"] for i in found["inputs"].values())
    assert set(found["runs"]) == {"using", "steps"}
    assert found["runs"]["using"] == "composite"
    for step in found["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "uses" in step or step["shell"] == "bash"
        assert "${{" not in step.get("run", ""), "an expression in a script lets its value run as code"


def run_action(tool: dict[str, str], folder: Path, model: str, args: str) -> subprocess.CompletedProcess[str]:
    more = {"MODEL": model, "ARGS": args, "RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": str(folder / "outputs")}
    return sh(action_step("Run")["run"], tool, folder, **more)


def test_the_action_runs_writes_sarif_and_gates(tool: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a b.onnx").write_bytes(infected().SerializeToString())
    done = run_action(tool, tmp_path, "a b.onnx", "--no-validate\n\n--fail-on\nunusual")
    assert done.returncode == 1, done.stderr
    assert "1 channel stood out" in done.stderr
    assert (tmp_path / "outputs").read_text() == f"sarif={tmp_path}/onnx-clp.sarif\n"
    assert (tmp_path / "onnx-clp.sarif").read_text().startswith("{")


def test_the_action_takes_many_models_and_gives_one_sarif_file(tool: dict[str, str], tmp_path: Path) -> None:
    for name in ("a.onnx", "deep/b c.onnx", "deep/er/c.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(infected().SerializeToString())
    done = run_action(tool, tmp_path, "a.onnx\n\ndeep/**/*.onnx", "--no-validate\n--fail-on\nunusual")
    assert done.returncode == 1, done.stderr
    assert "3  unusual" in done.stdout
    (run,) = json.loads((tmp_path / "onnx-clp.sarif").read_bytes())["runs"]
    uris = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]
    assert {uri.rpartition("/")[2] for uri in uris} == {"a.onnx", "b%20c.onnx", "c.onnx"}
    missing = run_action(tool, tmp_path, "no/*.onnx", "")
    assert missing.returncode == 2
    assert "no/*.onnx" in missing.stderr


def test_what_the_action_is_given_is_never_run(tool: dict[str, str], tmp_path: Path) -> None:
    done = run_action(tool, tmp_path, "$(touch model).onnx; touch model", "--include\n$(touch args)\n`touch args`")
    assert done.returncode == 2
    assert not {"model", "args", "outputs"} & {path.name for path in tmp_path.iterdir()}


# --- Docker -------------------------------------------------------------------------------------------


def test_the_image_is_small_and_runs_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FROM python:3.12-slim"
    assert "USER 10001" in lines
    assert lines.index("USER 10001") < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    for line in (line for line in lines if line.startswith("COPY")):
        for source in line.split()[1:-1]:
            assert (ROOT / source).exists()
            assert source not in (ROOT / ".dockerignore").read_text().split()


def test_the_documents_name_real_options() -> None:
    known = {name for action in main_parser()._actions for name in action.option_strings}
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert {"--config", "--no-config"} <= set(re.findall(r"--[a-z-]+", text)) & known
