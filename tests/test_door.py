"""The front door: regular files come in mapped, everything else is named; foreign formats are told apart."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.errors import LoadError
from onnx_clp.file import door
from onnx_clp.file.door import is_same_file, open_model, recognise
from tests.hostile.foreign import FORMATS, model

ROOM = 1 << 20


def refusal(path: Path, max_size: int = ROOM) -> str:
    with pytest.raises(LoadError) as caught:
        open_model(path, max_size)
    text = str(caught.value)
    assert text.isprintable()
    return text


def test_a_regular_file_is_mapped_read_only(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x0aabc")
    with open_model(path, ROOM) as file:
        assert bytes(file.view) == b"\x08\x0aabc"
        assert file.view.readonly
        assert (file.path, file.size, file.stat.st_ino) == (path, 5, path.stat().st_ino)


def test_a_link_to_a_regular_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("m.onnx")
    with open_model(tmp_path / "link", ROOM) as file:
        assert bytes(file.view) == b"abc"


def test_slices_outlive_the_file_and_close_twice_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"abcdef")
    file = open_model(path, ROOM)
    part = file.view[2:4]
    file.close()
    file.close()
    assert bytes(part) == b"cd"


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"abc")
    before = open_descriptors()
    open_model(path, ROOM).close()
    refusal(path, max_size=2)
    assert open_descriptors() == before


def test_the_size_limit_is_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x" * 100)
    with open_model(path, 100) as file:
        assert file.size == 100
    assert "--max-size" in refusal(path, 99)


def test_a_huge_sparse_file_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    assert "--max-size" in refusal(path)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _in_file(path: Path) -> None:
    path.with_name("plain").write_bytes(b"x")
    path.symlink_to("plain/below")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (_fifo, "FIFO"),
        (_socket, "socket"),
        (Path.mkdir, "folder"),
        (lambda p: p.symlink_to("/dev/null"), "character device"),
        (lambda p: p.symlink_to("nowhere"), "broken link"),
        (lambda p: p.symlink_to(p.name), "circle"),
        (_in_file, "not a folder"),
        (lambda p: p.write_bytes(b""), "empty"),
        (Path.exists, "no such file"),
    ],
)
def test_what_is_not_a_readable_regular_file_is_named(
    tmp_path: Path, make: Callable[[Path], object], word: str
) -> None:
    path = tmp_path / "m.onnx"
    make(path)
    assert refusal(path).startswith(f"{path}: ")
    assert word in refusal(path)


def test_a_path_no_system_can_open_is_refused(tmp_path: Path) -> None:
    assert "NUL" in refusal(Path("a\0b"))
    assert "too long" in refusal(tmp_path / ("x" * 300))


def test_a_name_cannot_forge_a_line(tmp_path: Path) -> None:
    assert "\\n" in refusal(tmp_path / "a\n::error::b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "permissions" in refusal(path)


# --- the same file --------------------------------------------------------------------------------------


def test_same_file_by_every_path(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    os.link(path, tmp_path / "hard")
    for other in ("m.onnx", "link", "hard", "folder/m.onnx", "sub/../m.onnx", "./m.onnx"):
        assert is_same_file(path, tmp_path / other), other


def test_another_file_is_not_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    (tmp_path / "twin").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "circle").symlink_to("circle")
    for other in ("twin", "new", "dangling", "circle", "missing/m.onnx", "a\0b"):
        assert not is_same_file(path, tmp_path / other), other


def test_two_missing_paths_to_one_place_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("new")
    assert is_same_file(tmp_path / "new", tmp_path / "dangling")


# --- what a file is when it is not ONNX -----------------------------------------------------------------


@pytest.mark.parametrize(("content", "what", "cure"), FORMATS)
@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_a_foreign_format_is_named_with_a_cure(
    content: bytes, what: str, cure: str, wrap: Callable[[bytes], bytes | memoryview]
) -> None:
    line = recognise(wrap(content), "dir/m.onnx")
    assert line is not None
    assert line.startswith("dir/m.onnx: ")
    assert what in line
    assert cure in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xf1\xf2\xf3\xf4",
        b"\x00\x01\x02",
        model().SerializeToString(),
        onnx.ModelProto(ir_version=8, producer_name="x").SerializeToString(),
    ],
)
def test_what_looks_like_nothing_known_is_not_guessed(content: bytes) -> None:
    assert recognise(content, "m.onnx") is None


@given(st.binary(max_size=400))
def test_any_bytes_get_one_line_or_none(content: bytes) -> None:
    line = recognise(content, "m.onnx")
    assert line is None or line.isprintable()


@given(st.sampled_from([case[0] for case in FORMATS]), st.integers(0, 200), st.binary(max_size=3))
def test_any_prefix_of_a_known_format_gets_one_line_or_none(content: bytes, length: int, tail: bytes) -> None:
    line = recognise(content[:length] + tail, "m.onnx")
    assert line is None or line.isprintable()


def _resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    part = text[text.index(str(path)) :]
    return 1024 * int(part[part.index("Rss:") + 4 :].split()[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is in memory")
def test_only_a_large_file_leaves_memory_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, size = tmp_path / "weights.onnx", 4 << 20
    path.write_bytes(bytes(size))
    with door.open_model(path, size) as opened:
        assert bytes(opened.view) == bytes(size)
        opened.forget(0, size)
        assert _resident(path) >= size
        monkeypatch.setattr(door, "KEPT", size - 1)
        opened.forget(0, size)
        assert _resident(path) < size // 2
