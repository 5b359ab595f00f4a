"""Who imports whom: the layers of the package, what stays lazy, and that the public names are there."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import onnx_clp

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "onnx_clp"


@dataclass(frozen=True)
class Import:
    """One imported module; `lazy` where it stands inside a function, `typing` under TYPE_CHECKING."""

    module: str
    lazy: bool
    typing: bool


def modules() -> dict[str, list[Import]]:
    """Every module of the package, by its name below it, with what it imports."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = list(_walk(tree, lazy=False, typing=False))
    return found


def _walk(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            module = child.module or ""
            for alias in child.names:
                inner = f"{module}.{alias.name}"
                yield Import(inner if _is_module(inner) else module, lazy, typing)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _walk(child, lazy=lazy, typing=True)
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _walk(child, lazy=lazy or function, typing=typing)


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("onnx_clp.") and (path.with_suffix(".py").exists() or path.is_dir())


MODULES = modules()


def test_the_walk_sees_imports() -> None:
    assert Import("numpy", False, False) in MODULES["numerics.affine"]
    assert Import("scipy.linalg", True, False) in MODULES["numerics.eigenvalues"]
    assert Import("onnx_clp.config", False, True) in MODULES["run.probe"]
    assert Import("onnx_clp.judge.prune_channels", False, False) in MODULES["run.analysis"]


ORDER = (
    *("version", "errors", "text", "config", "verdicts", "numerics", "process", "document", "file"),
    *("operators", "graph", "check", "modelfile", "layers", "gradient", "fold", "cleanup", "compaction", "cap"),
    *("judge", "validation", "gauge", "audit", "inversion", "report", "run", "cli", "batch", "", "__main__"),
)
"""Packages and modules at the top, in the order of imports; "" is the package itself, with its public names."""


def package_of(module: str) -> str:
    return module.removeprefix("onnx_clp").removeprefix(".").split(".")[0]


def own_imports(module: str) -> Iterator[str]:
    """The modules of this package that one of them imports, at its top, lazily or for its types."""
    for found in MODULES[module]:
        if found.module == "onnx_clp" or found.module.startswith("onnx_clp."):
            yield found.module.removeprefix("onnx_clp").removeprefix(".")


def test_the_order_names_everything_at_the_top_once() -> None:
    assert sorted(ORDER) == sorted({package_of(name) for name in MODULES})
    assert len(ORDER) <= 30


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_its_own_package_and_those_before(module: str) -> None:
    here = ORDER.index(package_of(module))
    above = [name for name in own_imports(module) if ORDER.index(package_of(name)) > here]
    assert above == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: {one for one in own_imports(name) if one != name} for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)
    with pytest.raises(CycleError):
        list(TopologicalSorter({**graph, "version": {"batch.command"}}).static_order())


@pytest.mark.parametrize("first", ["report.html", "cli.main", "validation.child"])
def test_an_arrow_upward_would_be_seen(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, first, [*MODULES[first], Import("onnx_clp.batch.command", lazy=True, typing=True)])
    with pytest.raises(AssertionError):
        test_a_module_imports_its_own_package_and_those_before(first)


def users(library: str) -> set[str]:
    """Modules that import a library at run time, at their top or lazily."""
    return {
        module
        for module, found in MODULES.items()
        for one in found
        if not one.typing and (one.module == library or one.module.startswith(f"{library}."))
    }


def test_one_module_imports_onnx_runtime() -> None:
    assert users("onnxruntime") == {"validation.runtime"}


def test_numerics_imports_numpy_and_scipy_alone() -> None:
    allowed = {"numpy", "scipy", "math", "typing", "collections", "dataclasses", "__future__", "onnx_clp"}
    for module, found in MODULES.items():
        if module.startswith("numerics"):
            assert {one.module.split(".")[0] for one in found} <= allowed
    for library in ("onnx", "onnx_graphsurgeon"):
        assert not any(module.startswith("numerics") for module in users(library))


def test_pictures_and_templates_belong_to_the_html_report() -> None:
    assert users("matplotlib") == {"report.pictures"}
    assert users("jinja2") == {"report.html", "batch.page"}
    assert Import("onnx_clp.report.pictures", True, False) in MODULES["report.html"]
    assert not [m for m in MODULES if _imports_at_top(m, "onnx_clp.report.pictures")]


def _imports_at_top(module: str, target: str) -> bool:
    return any(one.module == target and not one.lazy and not one.typing for one in MODULES[module])


@pytest.mark.parametrize("library", ["scipy", "rich", "onnxruntime", "jinja2", "argcomplete", "tomllib"])
def test_what_a_run_may_not_need_is_imported_where_it_is_used(library: str) -> None:
    at_top = {
        module
        for module, found in MODULES.items()
        for one in found
        if one.module.split(".")[0] == library and not one.lazy and not one.typing
    }
    assert at_top == set()


def test_nothing_of_torch_or_a_framework_is_imported() -> None:
    for library in ("torch", "tensorflow", "jax", "pickle"):
        assert users(library) == set()


# --- what really gets loaded --------------------------------------------------------------------------


def loaded(code: str) -> set[str]:
    """The top-level modules a fresh interpreter has after running `code`."""
    program = f"{code}\nimport sys; print('\\n'.join(sys.modules), file=sys.__stdout__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()} | set(done.stdout.split())


HEAVY = {"onnx", "numpy", "scipy", "onnxruntime", "rich", "matplotlib", "jinja2", "google.protobuf"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import onnx_clp; onnx_clp.CleanConfig(); onnx_clp.ClpError") & HEAVY == set()


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_asking_for_the_version_loads_nothing_heavy(option: str) -> None:
    code = f"import onnx_clp.cli.main as c\ntry:\n    c.main(['{option}'])\nexcept SystemExit:\n    pass"
    assert loaded(code) & HEAVY == set()


def test_a_run_without_validation_loads_neither_runtime_nor_frameworks(tmp_path: Path) -> None:
    from tests.hostile.networks import network

    (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
    code = (
        "import onnx_clp\n"
        f"r = onnx_clp.clean(r'{tmp_path / 'm.onnx'}', onnx_clp.CleanConfig(validate=False))\n"
        "assert r.report.summary.affines_folded == 1"
    )
    found = loaded(code)
    assert {"onnx", "numpy"} <= found
    assert found & {"scipy", "onnxruntime", "rich", "matplotlib", "jinja2"} == set()


LATER = {
    *("numpy.ma", "tomllib", "secrets", "filecmp", "difflib"),
    *("onnx_clp.document.audit", "onnx_clp.document.gauge", "onnx_clp.document.search"),
    *("onnx_clp.gauge.dials", "onnx_clp.gauge.request", "onnx_clp.validation.request", "onnx_clp.process.errand"),
    *("onnx_clp.run.auditor", "onnx_clp.run.dosing"),
}
"""What a run without validation does not need where nothing is found: a fifth of its start, if it is imported."""


def test_a_run_without_findings_loads_nothing_of_what_it_would_do_about_them(tmp_path: Path) -> None:
    from tests.hostile.networks import network

    (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
    words = [str(tmp_path / "m.onnx"), str(tmp_path / "o.onnx"), "-q", "--no-config", "-u", "9"]
    found = loaded(f"from onnx_clp.cli.main import main\nassert main({[*words, '--no-validate']!r}) == 0")
    assert (tmp_path / "o.onnx").exists()
    assert found & LATER == set()


def test_a_median_loads_no_masked_arrays() -> None:
    code = "import numpy as np\nfrom onnx_clp.numerics.outliers import find_outliers\n"
    assert "numpy.ma" not in loaded(f"{code}assert find_outliers(np.arange(40.0) ** 2, 3.5, 'mad').spread > 0")
    assert "numpy.ma" in loaded("import numpy as np; np.median(np.arange(4.0))")


def test_parts_of_the_document_are_loaded_where_they_are_used() -> None:
    from onnx_clp.document import run

    assert not loaded("import onnx_clp.document.run") & LATER
    assert "onnx_clp.document.gauge" in loaded("from onnx_clp.document.run import Gauge")
    for name, home in run._HOMES.items():
        assert getattr(run, name).__module__ == f"onnx_clp.document.{home}"
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = run.nothing_like_it


# --- the public names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", onnx_clp.__all__)
def test_a_public_name_resolves(name: str) -> None:
    found = getattr(onnx_clp, name)
    assert found is getattr(onnx_clp, name)
    if name not in ("__version__", "Rule"):
        assert found.__module__.startswith("onnx_clp.")
        assert found.__doc__
        assert found.__name__ == name


def test_the_public_names_are_these() -> None:
    assert set(onnx_clp.__all__) >= {"__version__", "clean", "CleanConfig", "CleanResult", "ClpError"}
    assert dir(onnx_clp) == sorted(onnx_clp.__all__)
    from onnx_clp import errors

    tree = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.ClpError)}
    assert tree - {"Interrupted"} <= set(onnx_clp.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = onnx_clp.nothing_like_it
