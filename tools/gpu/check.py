"""Proof that validation runs on a GPU: `python -m tools.gpu.check [--corpus DIR] [--json FILE] [--docs docs/gpu.md]`.

Cleans every model of models/ (with its evaluation images) and every .onnx file below --corpus through CUDA, and
through TensorRT where that starts, each as a user would: one `onnx_clp --provider ... --compare-providers` a model.
A model passes when the run ended with 0, the provider that was asked for really took nodes of it, and its outputs
agree with the CPU's. `--provider cpu` rehearses all of it without a GPU.

Exit status: 0 every model passed · 1 at least one did not · 2 usage, or no model found · 3 no GPU provider starts
here, so nothing was checked.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tools.gpu.page import put_block

ROOT = Path(__file__).resolve().parents[2]
FULL_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# Of provider and CPU, each with its own algorithms and its own way to optimise the graph: as many times what a fold may
# change in the model's arithmetic, and at least the other.
TIMES_TOLERANCE, LEAST_AGREEMENT = 4.0, 2e-3
_PROBE = "import sys; from onnx_clp.validation.provider import choose; choose(sys.argv[1])"
PASSED, FAILED, NO_MODEL, NO_GPU = 0, 1, 2, 3

Outcome = Literal["passed", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Check:
    """One model on one provider.

    `outcome` is "refused" where the tool does not take the model on the CPU either, so that nothing is said of the GPU.
    `error` is the largest of max|Δ|/max|reference| between provider and CPU; `load_seconds` and `run_seconds` are
    of the cleaned model on the provider, `cpu_run_seconds` on the CPU; `speed_up` is their ratio. None: not measured.
    """

    model: str
    provider: str
    outcome: Outcome
    reason: str
    provider_used: str = ""
    placed: int | None = None
    nodes: int | None = None
    fold_error: float | None = None
    tolerance: float | None = None
    error: float | None = None
    load_seconds: float | None = None
    run_seconds: float | None = None
    cpu_run_seconds: float | None = None
    speed_up: float | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to check, how it is called in the table, and the evaluation images that belong to it."""

    path: Path
    name: str
    images: Path | None = None


def subjects(models: Path, corpus: Path | None) -> Iterator[Subject]:
    """The models of the zoo with their images, as its manifest pairs them, then the corpus by name."""
    manifest = json.loads((models / "MANIFEST.json").read_text(encoding="utf-8"))
    for path in sorted(models.glob("*.onnx")):
        yield Subject(path, path.name, _images(models, manifest, path.name))
    if corpus is not None:
        for path in sorted(corpus.rglob("*.onnx")):
            yield Subject(path, str(path.relative_to(corpus)))


def _images(models: Path, manifest: dict[str, Any], name: str) -> Path | None:
    """The evaluation images of the entry that lists the file `name`, in itself or among its `files`."""
    for part in ("models", "exported"):
        for entry in manifest.get(part, {}).values():
            files = {entry.get("file"), *(file["file"] for file in entry.get("files", {}).values())}
            if name in files and "evaluation" in entry:
                return models / str(entry["evaluation"])
    return None


def starts(provider: str) -> str:
    """Why `provider` does not start here; empty where it does. Asked in a process of its own."""
    command = [sys.executable, "-c", _PROBE, provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else lines[-1].partition(": ")[2] if lines else f"exit {done.returncode}"


def check(subject: Subject, provider: str, timeout: float, batch: int) -> Check:
    """Clean one model on `provider` and judge the report."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        report, out = Path(folder) / "report.json", Path(folder) / "out.onnx"
        command = [sys.executable, "-m", "onnx_clp", str(subject.path.absolute()), str(out), "-q", "--no-config"]
        command += ["--compare-providers", "--report", str(report), "--timeout", str(timeout)]
        command += [] if subject.images is None else ["--eval", str(subject.images.absolute())]
        command += [f"--shape={shape}" for shape in shapes(subject.path, batch)]
        done = _run([*command, "--provider", provider])
        if done.returncode != 0:
            # A model that the tool refuses as it stands, or that nothing runs, says nothing of the GPU.
            refused = provider == "cpu" or _run([*command, "--provider", "cpu"]).returncode == done.returncode
            return Check(subject.name, provider, "refused" if refused else "failed", _last(done.stderr))
        return judge(subject.name, provider, json.loads(report.read_text(encoding="utf-8"))["validation"])


def shapes(path: Path, batch: int) -> Iterator[str]:
    """What to say of inputs whose batch alone is open, so that a run is of `batch` images."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # what is wrong with it the tool says itself
        return
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    dims = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in inputs]
    if len(inputs) == 1 and len(dims[0]) == 4 and not dims[0][0] and all(dims[0][1:]):
        yield f"{inputs[0].name}:{','.join(map(str, [batch, *dims[0][1:]]))}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _last(stderr: str) -> str:
    lines = stderr.strip().splitlines() or ["no word of why"]
    return lines[-1].removeprefix("onnx-clp: error: ").replace(f"{ROOT}/", "")[:300]


def judge(name: str, provider: str, validation: dict[str, Any]) -> Check:
    """The verdict on one report's validation part."""
    full = FULL_NAMES[provider]
    runs = {(run["model"], run["provider"]): run for run in validation["comparison"]["runs"]}
    last = "cleaned" if ("cleaned", full) in runs else "input"
    own, cpu = runs.get((last, full)), runs.get((last, FULL_NAMES["cpu"]))
    placed = validation["engine"]["placed"]
    errors = [run["error"] for run in runs.values() if run["provider"] == full and run["error"] is not None]
    trouble = _trouble(full, validation, own, max(errors, default=None))
    own, cpu = own or {}, cpu or {}
    seconds, on_cpu = own.get("run_seconds"), cpu.get("run_seconds")
    return Check(
        model=name,
        provider=provider,
        outcome="failed" if trouble else "passed",
        reason=trouble,
        provider_used=validation["provider_used"],
        placed=placed.get(full, 0) if placed else None,
        nodes=sum(placed.values()) if placed else None,
        fold_error=validation["fold_error"],
        tolerance=validation["tolerance"],
        error=max(errors, default=None),
        load_seconds=own.get("load_seconds"),
        run_seconds=seconds,
        cpu_run_seconds=on_cpu,
        speed_up=on_cpu / seconds if seconds and on_cpu else None,
    )


def _trouble(full: str, validation: dict[str, Any], own: dict[str, Any] | None, error: float | None) -> str:
    if validation["provider_used"] != full:
        return f"{validation['provider_used']} ran, not {full}: {validation['note']}"
    placed = validation["engine"]["placed"]
    if placed and not placed.get(full):
        return f"{full} took none of {sum(placed.values())} nodes"
    if own is None or own["failure"]:
        return f"{full} did not run it with optimisations on: {'no session' if own is None else own['failure']}"
    allowed = max(LEAST_AGREEMENT, TIMES_TOLERANCE * (validation["tolerance"] or 0.0))
    if error is not None and not error <= allowed:
        return f"differs from the CPU by {error:.2g}, at most {allowed:.2g} is allowed"
    return ""


def facts(provider: str) -> dict[str, Any]:
    """What the checks ran on, as one run of the product names it."""
    model = next((ROOT / "models").glob("*.onnx"))
    command = [sys.executable, "-m", "onnx_clp", str(model), "--json", "--no-config", "--provider", provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    engine = {k: report["validation"]["engine"][k] for k in ("runtime", "device", "driver")}
    return {
        **engine,
        "libraries": report["libraries"],
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def shown(found: Check) -> str:
    """One line for a person who watches."""
    if found.outcome != "passed":
        return f"{found.outcome:<8} {found.provider:<9} {found.model}: {found.reason}"
    nodes = "" if found.placed is None else f", {found.placed} of {found.nodes} nodes"
    return (
        f"{found.outcome:<8} {found.provider:<9} {found.model}: fold {_number(found.fold_error)}, error "
        f"{_number(found.error)}, load {_number(found.load_seconds)} s, run {_number(found.run_seconds)} s, "
        f"{_number(found.speed_up)} x the CPU{nodes}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the zoo (default: models/)")
    parser.add_argument("--corpus", type=Path, help="a folder of further models, searched below")
    parser.add_argument("--provider", choices=tuple(FULL_NAMES), action="append", help="default: cuda, and tensorrt")
    parser.add_argument("--batch", type=int, default=64, help="images a run, where the batch is open (default 64)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a model may take (default 600)")
    parser.add_argument("--limit", type=int, help="stop after so many models")
    parser.add_argument("--json", type=Path, help="write everything measured there")
    parser.add_argument("--docs", type=Path, help="put the tables into this page, between its marks")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Check everything; the exit status."""
    arguments = parse(argv)
    if arguments.corpus is not None and not arguments.corpus.is_dir():
        print(f"gpu_check: {arguments.corpus}: no such folder", file=sys.stderr)
        return NO_MODEL
    asked = arguments.provider or ["cuda", "tensorrt"]
    missing = {provider: why for provider in asked if (why := starts(provider))}
    for provider, why in missing.items():
        print(f"gpu_check: {provider} is not checked: {why}", file=sys.stderr)
    providers = [provider for provider in asked if provider not in missing]
    if not providers or (arguments.provider and missing):
        print("gpu_check: nothing was checked: a provider asked for does not start here", file=sys.stderr)
        return NO_GPU
    chosen = list(subjects(arguments.models, arguments.corpus))[: arguments.limit]
    if not chosen:
        print(f"gpu_check: {arguments.models}: no model", file=sys.stderr)
        return NO_MODEL
    found: list[Check] = []
    for subject in chosen:
        for provider in providers:
            found.append(check(subject, provider, arguments.timeout, arguments.batch))
            print(shown(found[-1]), flush=True)
    _write(arguments, providers, missing, found)
    failed = sum(one.outcome == "failed" for one in found)
    print(
        f"{len(found)} runs: {len(found) - failed - _refused(found)} passed, {failed} failed, {_refused(found)} refused"
    )
    return FAILED if failed else PASSED


def _refused(found: Sequence[Check]) -> int:
    return sum(one.outcome == "refused" for one in found)


def _write(arguments: argparse.Namespace, providers: list[str], missing: dict[str, str], found: list[Check]) -> None:
    page = {
        "ran_on": {provider: facts(provider) for provider in providers},
        "not_started": missing,
        "batch": arguments.batch,
        "checks": [asdict(one) for one in found],
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")
    if arguments.docs is not None:
        put_block(arguments.docs, page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
