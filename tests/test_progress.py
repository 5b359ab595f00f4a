"""The progress bar: on a terminal, for long runs only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys, time, types
import onnx_clp.run
from onnx_clp.process.progress import Progress
from onnx_clp.report import bar
from tests import reports
bar.ProgressBar.__init__.__defaults__ = (0.2,)
def run(source, destination, config, *, progress=None, before_write, **rest):
    if progress is None:
        return reports.report()
    progress(Progress("score \\x1b[31m[red]", 3, 7))
    time.sleep(float(str(source)))
    progress(Progress("validate", 0, 0))
    time.sleep(float(str(source)))
    with before_write(reports.report()):
        return reports.report()
module = types.SimpleNamespace(run=run)
sys.modules["onnx_clp.run.pipeline"] = onnx_clp.run.pipeline = module
from onnx_clp.cli.main import main
status = main(sys.argv[1:])
print("rich" if "rich" in sys.modules else "no rich")
sys.exit(status)
"""


def on_a_terminal(*argv: str, **changes: str) -> tuple[str, str]:
    """What the run writes to stdout and to the terminal behind stderr."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **changes}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        check=True,
    )
    os.write(follower, b"END")
    os.close(follower)
    seen = b""
    while not seen.endswith(b"END"):
        seen += os.read(leader, 65536)
    os.close(leader)
    return done.stdout, seen.removesuffix(b"END").decode()


def test_a_long_run_shows_its_stages_and_leaves_no_trace() -> None:
    out, err = on_a_terminal("0.6")
    assert out.endswith("\nrich\n")
    assert "score \\x1b[31m[red]" in err
    assert "3/7" in err
    assert "validate" in err
    assert "\x1b[31m[red]" not in err
    assert err.rstrip().endswith("\x1b[2K")


@pytest.mark.parametrize(
    ("argv", "changes"),
    [(["0"], {}), (["0.4", "-q"], {}), (["0.4", "-v"], {}), (["0.4"], {"TERM": "dumb"})],
    ids=["short", "quiet", "verbose", "dumb terminal"],
)
def test_otherwise_there_is_none_and_nothing_is_drawn_with(argv: list[str], changes: dict[str, str]) -> None:
    out, err = on_a_terminal(*argv, **changes)
    assert out.endswith("no rich\n")
    assert err == ""
