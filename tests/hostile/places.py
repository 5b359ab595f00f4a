"""What stands at the input's path, and what stands in the output's way."""

# ruff: noqa: E501 - a case of the tables is one line
from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Case, Outcome, saved
from tests.hostile.networks import network

PLAIN = ("--no-validate", "--no-prune")
OVER = (*PLAIN, "--overwrite")


def _model(folder: Path) -> Path:
    return saved(network())(folder)


def _made(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Return a builder whose input path is made by `make`."""

    def build(folder: Path) -> Path:
        make(folder / "m.onnx")
        return folder / "m.onnx"

    return build


def _beside(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Return a builder of a sound model that also makes something in the folder."""

    def build(folder: Path) -> Path:
        path = _model(folder)
        make(folder)
        return path

    return build


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\x08\x08")
        file.truncate(1 << 40)


def _linked_input(folder: Path) -> Path:
    (folder / "real").mkdir()
    target = _model(folder / "real")
    (folder / "m.onnx").symlink_to(target)
    return folder / "m.onnx"


def _odd_name(name: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        return _model(folder).rename(folder / name)

    return build


def _bad_odd_name(name: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(b"\xff")
        return path

    return build


INPUTS = [
    Case("a FIFO", _made(os.mkfifo), Outcome.REJECT, "FIFO"),
    Case("a socket", _made(_socket), Outcome.REJECT, "socket"),
    Case("a folder", _made(Path.mkdir), Outcome.REJECT, "folder"),
    Case("nothing", _made(Path.exists), Outcome.REJECT, "no such file"),
    Case("a device", _made(lambda p: p.symlink_to("/dev/null")), Outcome.REJECT, "device"),
    Case("an endless device", _made(lambda p: p.symlink_to("/dev/zero")), Outcome.REJECT, "device"),
    Case("a broken link", _made(lambda p: p.symlink_to("gone")), Outcome.REJECT, "broken link"),
    Case("a link to itself", _made(lambda p: p.symlink_to("m.onnx")), Outcome.REJECT, "circle"),
    Case("a file in /proc", _made(lambda p: p.symlink_to("/proc/self/maps")), Outcome.REJECT, "empty"),
    Case("a terabyte of zeros, over the limit", _made(_sparse), Outcome.REJECT, "--max-size"),
    Case("over --max-size", _model, Outcome.REJECT, "--max-size", (*PLAIN, "--max-size", "1000")),
    Case("just within --max-size", _model, Outcome.SAME_FUNCTION, "", (*PLAIN, "--max-size", "10K")),
    Case("a link to a model", _linked_input, Outcome.SAME_FUNCTION),
    Case("a name with spaces", _odd_name("a model .onnx"), Outcome.SAME_FUNCTION),
    Case("a name with an escape", _odd_name("\x1b[31m\n::error::.onnx"), Outcome.SAME_FUNCTION),
    Case("a name without suffix", _odd_name("model"), Outcome.SAME_FUNCTION),
    Case("a name that is not UTF-8", _odd_name(os.fsdecode(b"m\xff.onnx")), Outcome.SAME_FUNCTION),
    Case("a name with markup", _odd_name("[red]m[bold].onnx"), Outcome.SAME_FUNCTION),
    Case("noise under a name with an escape", _bad_odd_name("\x1b[31m\n::error::"), Outcome.REJECT, "\\x1b"),
    Case(
        "noise under a name that is not UTF-8",
        _bad_odd_name(os.fsdecode(b"m\xff")),
        Outcome.REJECT,
        "\\udcff",
    ),
]

OUTPUTS = [
    Case("the input itself", _model, Outcome.REJECT, "input", OVER, "m.onnx"),
    Case("the input by another spelling", _model, Outcome.REJECT, "input", OVER, "../model/./m.onnx"),
    Case("a link to the input", _beside(lambda f: (f / "o").symlink_to("m.onnx")), Outcome.REJECT, "input", OVER, "o"),
    Case("a hard link to the input", _beside(lambda f: os.link(f / "m.onnx", f / "o")), Outcome.REJECT, "input", OVER, "o"),
    Case("the input through a linked folder", _beside(lambda f: (f / "d").symlink_to(".")), Outcome.REJECT, "input", OVER, "d/m.onnx"),
    Case("an existing file", _beside(lambda f: (f / "out.onnx").write_bytes(b"x")), Outcome.REJECT, "--overwrite"),
    Case("a broken link to overwrite", _beside(lambda f: (f / "out.onnx").symlink_to("gone")), Outcome.REJECT, "--overwrite"),
    Case("a folder", _beside(lambda f: (f / "out.onnx").mkdir()), Outcome.REJECT, "folder", OVER),
    Case("a missing folder", _model, Outcome.REJECT, "folder", PLAIN, "gone/out.onnx"),
    Case("below a file", _model, Outcome.REJECT, "folder", PLAIN, "m.onnx/out.onnx"),
    Case("a name that is too long", _model, Outcome.REJECT, "", PLAIN, "o" * 300),
    Case("a name with a line break", _model, Outcome.SAME_FUNCTION, "", PLAIN, "o\n::error::.onnx"),
    Case("a long name", _model, Outcome.SAME_FUNCTION, "", PLAIN, "o" * 250),
]  # fmt: skip

CASES = [*INPUTS, *OUTPUTS]
