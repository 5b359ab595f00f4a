"""The command line against hostile, broken and odd files: one line or a right output, nothing else touched.

Every case is run in process, without ONNX Runtime unless it is about that; what could stop or kill the run is
run as a program of its own.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_clp.cli.main import main
from onnx_clp.modelfile import reader
from onnx_clp.text import shown_path
from tests.hostile import beside, foreign, limits, numbers, places, structures, wires
from tests.hostile.case import Case, Outcome, edited, saved, snapshot
from tests.hostile.networks import change, evaluate, feeds_of, load, network

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-4
UNFOLDED = Outcome.SAME_BYTES


def _limit_cases() -> list[Case]:
    big = edited(lambda: limits.doubling(60), ModelProto.ByteSize)
    circle = edited(lambda: limits.doubling(3), lambda m: setattr(m.functions[-1].node[0], "op_type", "f0"))
    return [
        Case("a chain of 20,000 nodes", saved(limits.chain(20_000)), UNFOLDED),
        Case("5,000 functions in a row", saved(limits.doubling(5000, calls=1)), Outcome.EITHER),
        Case("functions that double 60 times", big, Outcome.REJECT, "expand"),
        Case("functions in a circle", circle, Outcome.REJECT),
        Case("20 nested graphs", saved(limits.nested(20)), UNFOLDED),
    ]


TABLE: dict[str, list[Case]] = {
    "wire": wires.CASES,
    "foreign": [Case(w, saved(data), Outcome.REJECT, w) for data, w, _ in foreign.FORMATS],
    "structure": [Case(n, edited(structures.model, e), Outcome.REJECT, w) for n, e, w in structures.BROKEN],
    "sound": [Case(name, edited(structures.model, edit), UNFOLDED) for name, edit in structures.SOUND],
    "limits": _limit_cases(),
    "numbers": numbers.CASES,
    "places": places.CASES,
    "beside": beside.CASES,
}  # fmt: skip
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, cases in TABLE.items() for case in cases]


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(CASES) >= 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "box" / "model"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize("case", CASES)
def test_a_case(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = case.build(folder)
    output = folder / case.output
    before = snapshot(folder.parent)
    options = [option.replace("{folder}", str(folder)) for option in case.options]
    code = main([str(source), str(output), *options])
    written = capsys.readouterr()
    if code == 0 and case.outcome is not Outcome.REJECT:
        assert written.err == ""
        kept_and_added(before, folder, output)
        same(case.outcome, source, output)
    else:
        assert case.outcome in (Outcome.REJECT, Outcome.EITHER), written.err
        assert code == case.code, written.err
        assert written.out == ""
        one_line(written.err, case.says)
        assert shown_path(source) in written.err or shown_path(output) in written.err or "exact" in written.err
        assert snapshot(folder.parent) == before


def one_line(text: str, words: str = "") -> None:
    line = text.removesuffix("\n")
    assert line.isprintable(), text
    assert text.endswith("\n")
    assert line.startswith("onnx-clp: error: ")
    assert "Traceback" not in line
    assert len(line) < 1500
    assert words in line


def kept_and_added(before: dict[str, tuple[object, ...]], folder: Path, output: Path) -> None:
    """Nothing that was there has changed, and only the output and its data file were added."""
    after = snapshot(folder.parent)
    assert {name: after.get(name) for name in before} == before
    allowed = {str(output.relative_to(folder.parent))}
    added = set(after) - set(before)
    data = {name for name in added if any(name.startswith(f"{out}.") and name.endswith(".data") for out in allowed)}
    assert added - data == allowed


def same(outcome: Outcome, source: Path, output: Path) -> None:
    if outcome is Outcome.SAME_BYTES:
        assert output.read_bytes() == source.read_bytes()
        return
    feeds = feeds_of(str(source))
    expected, found = evaluate(str(source), feeds), evaluate(str(output), feeds)
    if expected is None:
        assert outcome is Outcome.EITHER or load(str(output)) == load(str(source))
        reader.read(output, 1 << 30).close()
        return
    assert found is not None
    for one, other in zip(expected, found, strict=True):
        limit = TOLERANCE if one.dtype != np.float16 else 2e-2
        largest = np.abs(one[np.isfinite(one)]).max(initial=0)
        np.testing.assert_allclose(other, one, rtol=limit, atol=limit * largest)


# --- names in every sink --------------------------------------------------------------------------------

NAMES = {
    "an escape": "\x1b[31mred\x1b]0;title\x07",
    "a line break and a command": "a\n::error file=x::boo\r\n::set-output",
    "an old command": "##[error]boo",
    "markup": "[bold red]x[/bold red][link=file:///etc/passwd]y[/link]",
    "broken markup": "[/] [/x] [[",
    "HTML": "<script>alert(1)</script>&amp;",
    "turned reading direction": "\u202eexe.xnno\u2066",
    "invisible characters": "a\u200b\ufeff\u00ad\U000e0041",
    "a NUL and C1 codes": "a\x00\x85\x9b",
    "formatting": "%s %d {0} {x!r} $(id) `id`",
    "a million characters": "x" * 1_000_000,
}


def renamed(name: str) -> Callable[[ModelProto], None]:
    """Return an edit that puts a name everywhere a model has one."""

    def edit(m: ModelProto) -> None:
        for number, node in enumerate(m.graph.node):
            node.name = f"{name}{number}"
            for values in (node.input, node.output):
                values[:] = [v if v in ("x", "y") else f"{name}{v}" for v in values]
        for each in m.graph.initializer:
            each.name = f"{name}{each.name}"
        m.graph.name = m.producer_name = m.producer_version = m.domain = m.doc_string = name
        m.metadata_props.add(key=name, value=name)
        m.opset_import.add(domain=name, version=1)

    return edit


@pytest.mark.parametrize("name", [pytest.param(name, id=key) for key, name in NAMES.items()])
@pytest.mark.parametrize("options", [(), ("--json",), ("-v",), ("-vv", "--color", "always")], ids=str)
def test_a_name_cannot_speak_to_the_terminal(
    name: str, options: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = edited(lambda: network(12), renamed(name))(folder)
    code = main([str(source), str(folder / "out.onnx"), "--no-validate", *options])
    written = capsys.readouterr()
    assert code == 0, written.err
    for line in (written.out + written.err).split("\n"):
        assert re.sub(r"\x1b\[[0-9;]*m", "", line).isprintable() if "always" in options else line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
        assert "--json" in options or len(line) < 20_000
    assert "\x1b[31mred" not in written.out


# --- with ONNX Runtime ----------------------------------------------------------------------------------


def endless(m: ModelProto) -> None:
    """A loop that never ends."""
    body = onnx.parser.parse_graph(
        "body (int64 n, bool go, float v) => (bool go2, float v2) { go2 = Identity(go) v2 = Add(v, v) }"
    )
    m.graph.initializer.extend(
        [helper.make_tensor("go0", TensorProto.BOOL, [], [True]), helper.make_tensor("v0", 1, [], [1.0])]
    )
    m.graph.node.append(helper.make_node("Loop", ["", "go0", "v0"], ["looped"], body=body))
    m.graph.output.append(helper.make_tensor_value_info("looped", 1, []))


def bomb(m: ModelProto) -> None:
    """A constant of a terabyte, which the runtime computes when it loads the model."""
    m.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [1], [1 << 38]))
    m.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["huge"]))
    m.graph.output.append(helper.make_tensor_value_info("huge", 1, [1 << 38]))


def by_zero(m: ModelProto) -> None:
    """An integer division by zero, which kills some runtimes by a signal."""
    for name, value in (("seven", 7), ("zero", 0)):
        m.graph.initializer.append(helper.make_tensor(name, TensorProto.INT32, [1], [value]))
    m.graph.node.append(helper.make_node("Mod", ["seven", "zero"], ["rest"]))
    m.graph.output.append(helper.make_tensor_value_info("rest", TensorProto.INT32, [1]))


def unknown(m: ModelProto) -> None:
    m.opset_import.add(domain="nowhere", version=1)
    m.graph.node.append(helper.make_node("Nothing", ["c"], ["q"], domain="nowhere"))
    m.graph.output.append(helper.make_tensor_value_info("q", 1, None))


def noisy(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("RandomNormalLike", ["c"], ["q"]))
    m.graph.output.append(helper.make_tensor_value_info("q", 1, [1, 16, 8, 8]))


def lying_shape(m: ModelProto) -> None:
    m.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 400


RUNTIME: list[tuple[str, Callable[[ModelProto], object], tuple[int, ...]]] = [
    ("sound", ModelProto.ByteSize, (0,)),
    ("an endless loop", endless, (4,)),
    ("a memory bomb", bomb, (4,)),
    ("an integer division by zero", by_zero, (0, 4)),
    ("an operator from nowhere", unknown, (4,)),
    ("random outputs", noisy, (0, 4)),
    ("a lying output shape", lying_shape, (0, 2, 3, 4)),
    ("statistics of another length", numbers.statistics(5), (2, 4)),
    ("NaN weights", change("w", lambda w: w * np.nan), (0, 4)),
    ("huge weights", change("w", lambda w: np.full_like(w, 3e38)), (0, 3, 4)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("edit", "codes"), [pytest.param(e, c, id=n) for n, e, c in RUNTIME])
def test_what_a_model_does_to_the_runtime_stays_in_the_child(
    edit: Callable[[ModelProto], object],
    codes: tuple[int, ...],
    folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, output = edited(network, edit)(folder), folder / "out.onnx"
    before = snapshot(folder.parent)
    code = main([str(source), str(output), "--no-prune", "--provider", "cpu", "--timeout", "5", "--memory", "2G"])
    written = capfd.readouterr()
    assert code in codes, written.err
    if code == 0:
        assert written.err == ""
        kept_and_added(before, folder, output)
        if edit is not noisy:
            same(Outcome.EITHER, source, output)
    else:
        one_line(written.err)
        assert written.out == ""
        assert snapshot(folder.parent) == before


# --- as a program ---------------------------------------------------------------------------------------


def program(
    *arguments: str | Path, cwd: Path = ROOT, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Start the command line as a program of its own; `before` runs in it first."""
    return subprocess.Popen(
        [sys.executable, "-m", "onnx_clp", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        preexec_fn=before,
    )


def test_a_fifo_does_not_hang_the_program(folder: Path) -> None:
    os.mkfifo(folder / "m.onnx")
    run = program(folder / "m.onnx", folder / "out.onnx", "--no-validate")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    one_line(err, "FIFO")


def test_a_module_in_the_current_folder_is_not_run(folder: Path) -> None:
    source = saved(network())(folder)
    for name in ("onnx.py", "numpy.py", "rich.py", "json.py"):
        (folder / name).write_text("raise SystemExit('taken over')")
    run = program(source, "out.onnx", "--no-validate", cwd=folder)
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    assert (folder / "out.onnx").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    source = saved(limits.chain(20_000))(folder)
    before = snapshot(folder.parent)
    run = program(source, folder / "out.onnx", "--provider", "cpu")
    time.sleep(1.0)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    if run.returncode == 0:
        pytest.skip("the run was over before the signal came")
    assert (run.returncode, out) == (128 + number, "")
    one_line(err.replace("onnx-clp: interrupted", "onnx-clp: error: interrupted"))
    assert snapshot(folder.parent) == before


def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    """A limit on the size of files stands for a disk that fills up while the output is written."""
    source = saved(network())(folder)
    before = snapshot(folder.parent)

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    run = program(source, folder / "out.onnx", "--no-validate", before=small_files)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    one_line(err, "written")
    assert snapshot(folder.parent) == before
