"""Options from a file: what may stand there, who wins, and what a hostile folder cannot do."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from onnx_clp.cli import settings
from onnx_clp.cli.arguments import parse
from onnx_clp.cli.main import main
from onnx_clp.cli.options import main_parser
from onnx_clp.config.options import HARMLESS
from onnx_clp.errors import UsageError
from tests.test_pipeline import infected

WRITES_OR_WEAKENS: dict[str, object] = {
    "attestation": ["in-toto=a.json"],
    "report": ["r.json"],
    "sarif": "r.sarif",
    "json": True,
    "baseline": "old.json",
    "overwrite": True,
    "dry-run": True,
    "eval": "e.npz",
    "calibrate": "c.npz",
    "images": "i.npz",
    "max-size": "1T",
    "memory": "1T",
    "timeout": 1e9,
    "search-seconds": 0.001,
    "tolerance": 1e9,
    "no-validate": True,
    "quiet": True,
    "verbose": True,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else repr(value)


def write(path: str, table: str, **options: object) -> None:
    lines = [f"{name.replace('_', '-')} = {toml(value)}" for name, value in options.items()]
    Path(path).write_text("\n".join([table, *lines]), encoding="utf-8")


def here(**options: object) -> None:
    write("pyproject.toml", "[tool.onnx-clp]", **options)


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(["m.onnx", *argv])
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is taken ------------------------------------------------------------------------------------


def test_the_current_folder_sets_options() -> None:
    here(u=2.5, include=["a*", "b"], layers="all", no_prune=True, shape=["x:1,3,8,8"], seed=7)
    found = parse(["m.onnx"])
    assert (found.config.u, found.config.include, found.config.layers) == (2.5, ("a*", "b"), "all")
    assert (found.config.prune, dict(found.config.shapes), found.config.seed) == (False, {"x": (1, 3, 8, 8)}, 7)
    assert found.configured == "options from pyproject.toml: include, layers, no-prune, seed, shape, u"


def test_the_command_line_wins_also_over_lists() -> None:
    here(u=2.5, include=["a*"], exclude=["z"], sweep="1:2:0.5", fail_on="pruned")
    found = parse(["-u", "4", "m.onnx", "--include", "c", "--fail-on=never"])
    assert (found.config.u, found.config.include, found.config.exclude) == (4.0, ("c",), ("z",))
    assert (found.config.sweep, found.fail_on) == ((1.0, 1.5, 2.0), ())
    assert parse(["m.onnx", "-u", "3"]).config.u == 3.0


def test_a_flag_that_is_false_and_an_empty_list_change_nothing() -> None:
    here(no_prune=False, include=[])
    assert parse(["m.onnx"]).config == parse(["m.onnx", "--no-config"]).config


def test_no_config_and_no_table_leave_the_defaults() -> None:
    plain = parse(["m.onnx"])
    write("pyproject.toml", "[tool.other]\nname = 'onnx-clp'\n[project]", u=1.0)
    assert parse(["m.onnx"]) == plain
    here(u=1.0)
    assert parse(["m.onnx", "--no-config"]) == plain
    assert plain.configured == ""


@pytest.mark.parametrize("table", ["", "[tool.onnx-clp]", '[tool."onnx-clp"]'])
def test_a_named_file_wins_over_the_folders_and_may_set_everything(table: str) -> None:
    here(u=1.0, seed=3)
    write("mine.toml", table, u=2.0, report=["r.json"], timeout=5, eval="e.npz", max_size="2G")
    found = parse(["m.onnx", "--config", "mine.toml"])
    assert (found.config.u, found.config.seed, found.reports) == (2.0, 0, (Path("r.json"),))
    assert (found.config.timeout, found.config.eval_data, found.config.max_size) == (5.0, Path("e.npz"), 2 << 30)
    assert parse(["m.onnx", "--config=mine.toml", "--report", "s.html"]).reports == (Path("s.html"),)


def test_every_option_but_a_few_can_be_set_by_a_named_file() -> None:
    parser = main_parser()
    for action in parser._actions:
        for name in (n for n in action.option_strings if n.startswith("--")):
            value = True if action.nargs == 0 else ["x"] if isinstance(action, argparse._AppendAction) else "x"
            found = settings.Settings(Path("f"), {name[2:]: value}, trusted=True)
            if name in ("--help", "--version", "--config", "--no-config"):
                with pytest.raises(UsageError):
                    found.words(parser)
            else:
                assert found.words(parser) == {action.dest: [name if value is True else f"{name}=x"]}


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITES_OR_WEAKENS)
def test_the_folder_may_neither_write_nor_weaken(name: str) -> None:
    here(**{name: WRITES_OR_WEAKENS[name]})
    said = refusal()
    assert said.startswith(f"pyproject.toml: {name} may not be set here")
    assert "--config" in said


def test_the_two_lists_hold_every_option() -> None:
    longs = {n[2:] for a in main_parser()._actions for n in a.option_strings if n.startswith("--")}
    assert longs | {"u"} == HARMLESS | set(WRITES_OR_WEAKENS) | {"help", "version", "config", "no-config"}
    assert not HARMLESS & set(WRITES_OR_WEAKENS)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ("typo = 1", "typo"),
        ("source = 'x'", "source"),
        ("destination = 'x'", "destination"),
        ("config = 'x'", "config"),
        ("version = true", "version"),
        ("q = true", "no option q"),
        ('"-u" = 3', "-u"),
        ('"\\u001b[31m" = 3', r"\x1b"),
        ("u = 'many'", "invalid float"),
        ("u = true", "must be a string or a number"),
        ("u = [1]", "must be a string or a number"),
        ("no-prune = 'yes'", "must be true or false"),
        ("include = [1, {a = 1}]", "must be a string or a number"),
        ("layers = 'some'", "invalid choice"),
        ("include.a = 'x'", "must be a string or a number"),
        ("u = 2024-01-01", "must be a string or a number"),
    ],
)
def test_what_makes_no_sense_is_one_line(lines: str, word: str, named: bool) -> None:
    path = "mine.toml" if named else "pyproject.toml"
    Path(path).write_text(f"[tool.onnx-clp]\n{lines}\n", encoding="utf-8")
    options = ["--config", path] if named else []
    said = refusal(*options)
    assert said.startswith(path)
    assert word in said
    assert main(["m.onnx", *options]) == 2


@pytest.mark.parametrize(
    "content",
    [b"onnx-clp = [", b"\xff onnx-clp", b"tool.onnx-clp = 3", b"[tool.onnx-clp]\na = " + b"[" * 100_000,
     b"[tool.onnx-clp]\nu = " + b"9" * 10_000, b"[tool.onnx-clp]\nu = 1\nu = 2",
     b"[tool.onnx-clp]\n" + b"a." * 400_000 + b"a = 1"],
    ids=["open", "bytes", "no table", "deep", "digits", "twice", "dots"],
)  # fmt: skip
def test_broken_toml_is_one_line_too(content: bytes) -> None:
    Path("pyproject.toml").write_bytes(content)
    assert refusal().startswith("pyproject.toml: ")
    assert parse(["m.onnx", "--no-config"]).config.u == 3.0


def test_a_broken_file_that_does_not_speak_of_us_is_none_of_ours() -> None:
    Path("pyproject.toml").write_bytes(b"= [ \xff")
    assert parse(["m.onnx"]).configured == ""


@pytest.mark.parametrize("what", ["missing", "folder", "large", "device"])
def test_a_named_file_must_be_one(what: str, folder: Path) -> None:
    path = Path("/dev/zero") if what == "device" else folder / "c.toml"
    if what == "folder":
        path.mkdir()
    elif what == "large":
        path.write_bytes(b"#" * settings.LARGEST)
    assert "below 1,000,000 bytes" in refusal("--config", str(path))


def test_a_named_file_and_none_contradict_each_other() -> None:
    assert "contradict" in refusal("--config", "c.toml", "--no-config")


# --- a hostile folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["link", "dangling link", "fifo", "folder", "large"])
def test_only_a_small_regular_file_is_read(what: str, folder: Path) -> None:
    path = folder / "pyproject.toml"
    write("elsewhere.toml", "[tool.onnx-clp]", u=1.0)
    if what == "link":
        path.symlink_to("elsewhere.toml")
    elif what == "dangling link":
        path.symlink_to("nowhere.toml")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"[tool.onnx-clp]\nu = 1.0\n#" + b"x" * settings.LARGEST)
    found = parse(["m.onnx"])
    assert (found.config.u, found.configured) == (3.0, "")


def test_the_limit_is_where_it_says(folder: Path) -> None:
    start = b"[tool.onnx-clp]\nu = 1.0\n#"
    (folder / "pyproject.toml").write_bytes(start + b"x" * (settings.LARGEST - 1 - len(start)))
    assert parse(["m.onnx"]).config.u == 1.0
    (folder / "pyproject.toml").write_bytes(start + b"x" * (settings.LARGEST - len(start)))
    assert parse(["m.onnx"]).config.u == 3.0


def test_what_the_folder_sets_is_said_even_when_quiet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "m.onnx").write_bytes(infected().SerializeToString())
    gate = ["m.onnx", "--no-validate", "-q", "--fail-on", "unusual"]
    assert main(gate) == 1
    assert "options from" not in capsys.readouterr().err
    here(exclude=["*"])
    assert main(gate) == 0
    assert "onnx-clp: options from pyproject.toml: exclude\n" in capsys.readouterr().err
    assert main([*gate, "--no-config"]) == 1
