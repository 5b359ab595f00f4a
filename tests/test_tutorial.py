"""The tutorial's commands, run: what it shows is what they print, times, hashes and rounding aside."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnx_clp.cli.main import main

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(<!-- slow -->\n)?```console\n(.*?)```", TUTORIAL, re.DOTALL)
ELIDED = "…"
FALLBACK = "onnx-clp: validated on the CPU: "
MASKS = (
    (r"sha256 [0-9a-f]{12}", "sha256 *"),
    (r"validated (on a fallback )?on \w+", "validated on *"),
    (r"fold error  [\d.e-]+", "fold error  *"),
)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block with the lines shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def masked(line: str) -> str:
    for pattern, mask in MASKS:
        line = re.sub(pattern, mask, line)
    return line.rstrip()


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether what is shown is what was printed, an elided line standing for any number of lines."""
    pattern = "".join(".*" if line == ELIDED else re.escape(masked(line) + "\n") for line in shown)
    return re.fullmatch(pattern, "".join(masked(line) + "\n" for line in printed), re.DOTALL) is not None


def play(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = 0
    for command, shown in commands(text):
        program, *words = shlex.split(command)
        if command == "echo $?":
            printed = [str(status)]
        else:
            assert program == "onnx-clp"
            status = main(words)
            out, err = capsys.readouterr()
            printed = [line for line in (out + err).splitlines() if not line.startswith(FALLBACK)]
        assert matches(shown, printed), "\n".join([command, "shows", *shown, "prints", *printed])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_tutorial_shows_is_what_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for slow, text in BLOCKS:
        if not slow:
            play(text, capsys)
    assert {path.name for path in folder.iterdir()} == {"models", "repaired.onnx", "report.json"}


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_so_it_is_where_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    for slow, text in BLOCKS:
        if slow:
            play(text, capsys)


def test_the_blocks_are_found() -> None:
    assert len(BLOCKS) == TUTORIAL.count("```console") == 5
    assert [bool(slow) for slow, _ in BLOCKS] == [False, False, False, True, False]
    assert sum(len(list(commands(text))) for _, text in BLOCKS) == 10


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        (["a", "b", "c"], True),
        (["a", "…", "c"], True),
        (["…", "c"], True),
        (["a", "b", "…", "c", "…"], True),
        (["a", "c"], False),
        (["a", "b"], False),
        (["a", "…", "b"], False),
        (["…", "d", "…"], False),
    ],
)
def test_only_elided_lines_may_differ(shown: list[str], same: bool) -> None:
    assert matches(shown, ["a", "b", "c"]) is same


def test_only_what_varies_is_masked() -> None:
    assert matches(["x, sha256 000000000000"], ["x, sha256 0123456789ab"])
    assert not matches(["x, sha256 00000000000"], ["x, sha256 0123456789ab"])
    assert not matches(["  2      39"], ["  2      38"])
