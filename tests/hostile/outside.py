"""External data that is unsound, or leads astray.

The folder they are made for holds `m.data` (32 bytes, the tensor's 24 from offset 8), `exact.data` (those 24)
and `sub/`; beside the folder lie `secret` and `modelling/secret`, 64 bytes each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def out(folder: Path) -> None:
    (folder / "x").symlink_to("../secret")


def out_by_folder(folder: Path) -> None:
    (folder / "d").symlink_to("..")
    (folder / "x").symlink_to("d/secret")


def absolute(folder: Path) -> None:
    (folder / "x").symlink_to(folder.parent / "secret")


def sibling_with_the_same_beginning(folder: Path) -> None:
    (folder / "x").symlink_to("../modelling/secret")


def proc(folder: Path) -> None:
    (folder / "x").symlink_to("/proc/self/environ")


def hard(folder: Path) -> None:
    os.link(folder.parent / "secret", folder / "x")


# (location, other entries, word of the refusal)
ENTRIES: list[tuple[str | None, dict[str, str], str]] = [
    (None, {}, "missing"),
    ("", {}, "missing"),
    ("/etc/passwd", {}, "absolute"),
    ("//etc/passwd", {}, "absolute"),
    ("../secret", {}, "climbs"),
    ("sub/../../secret", {}, "climbs"),
    ("sub/../../model/m.data", {}, "climbs"),
    ("..", {}, "climbs"),
    ("sub/..", {}, "does not name a file"),
    ("*/_ORT_MEM_ADDR_/*", {}, "address in memory"),
    ("_ORT_MEM_ADDR_", {}, "address in memory"),
    ("../model/m.data", {}, "climbs"),
    ("..\\secret", {}, "backslash"),
    ("C:/secret", {}, "absolute"),
    ("c:secret", {}, "absolute"),
    ("\\\\host\\share", {}, "backslash"),
    (".", {}, "does not name a file"),
    ("./", {}, "does not name a file"),
    ("sub/", {}, "does not name a file"),
    ("sub//m.data", {}, "does not name a file"),
    ("m.data/", {}, "does not name a file"),
    ("sub", {}, "folder"),
    ("m.data\0", {}, "NUL"),
    ("m.data/x", {}, "not a folder"),
    ("gone.data", {}, "no such file"),
    ("x" * 300, {}, "too long"),
    ("\x1b[2J\n", {}, "\\x1b[2J\\n"),
    ("m.data", {"offset": "-8"}, "decimal"),
    ("m.data", {"offset": "+8"}, "decimal"),
    ("m.data", {"offset": " 8"}, "decimal"),
    ("m.data", {"offset": "8\n"}, "decimal"),
    ("m.data", {"offset": "0x8"}, "decimal"),
    ("m.data", {"offset": "8.0"}, "decimal"),
    ("m.data", {"offset": "1_6"}, "decimal"),
    ("m.data", {"offset": "٨"}, "decimal"),
    ("m.data", {"offset": ""}, "decimal"),
    ("m.data", {"offset": "9" * 19}, "decimal"),
    ("m.data", {"offset": "9" * 5000}, "decimal"),
    ("m.data", {"offset": "9223372036854775807"}, "beyond the end"),
    ("m.data", {"offset": "9"}, "beyond the end"),
    ("m.data", {"offset": "32"}, "beyond the end"),
    ("m.data", {"offset": "8", "length": "25"}, "needs 24"),
    ("m.data", {"offset": "8", "length": "23"}, "needs 24"),
    ("m.data", {"offset": "8", "length": "0"}, "needs 24"),
    ("m.data", {"length": "-24"}, "decimal"),
]

# (make a file or link `x` in the folder, word of the refusal)
PLACES: list[tuple[Callable[[Path], object], str]] = [
    (out, "link out of"),
    (out_by_folder, "link out of"),
    (absolute, "link out of"),
    (sibling_with_the_same_beginning, "link out of"),
    (proc, "link out of"),
    (hard, "hard links"),
    (lambda f: (f / "x").symlink_to("x"), "circle"),
    (lambda f: (f / "x").symlink_to("nowhere"), "broken link"),
    (lambda f: (f / "x").symlink_to("/dev/zero"), "link out of"),
    (lambda f: os.mkfifo(f / "x"), "FIFO"),
    (lambda f: (f / "x").mkdir(), "folder"),
    (lambda f: (f / "x").symlink_to("."), "a folder, not a file"),
    (lambda f: (f / "x").write_bytes(b""), "beyond the end"),
]
