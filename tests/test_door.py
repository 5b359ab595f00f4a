"""The front door: regular files come in mapped, everything else is named; foreign formats are told apart."""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clp.door import is_same_file, open_model, recognise
from onnx_clp.errors import LoadError

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


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    assert number < 2048
    tag = number << 3 | 2
    return (
        (bytes([tag]) if tag < 128 else bytes([tag & 0x7F | 0x80, tag >> 7]))
        + bytes([len(content)])
        + content
    )


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


def model() -> onnx.ModelProto:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    return onnx.parser.parse_model(text)


GRAPH_DEF = field(1, field(1, b"input") + field(2, b"Placeholder")) + field(4, b"\x08\x1b")
FORMATS = [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS", "git lfs pull"),
    (b"<!DOCTYPE html><html></html>", "HTML", "download"),
    (b"\n  <HTML>\n", "HTML", "download"),
    (b'<?xml version="1.0"?><net/>', "XML", "OpenVINO"),
    (b'{"irVersion": 8}', "JSON", ""),
    (b"[1, 2]", "JSON", ""),
    (b"layer conv1 3 3\n", "plain text", ""),
    ("Größe".encode() * 1000, "plain text", ""),
    ("x".encode("utf-16"), "UTF-16", ""),
    (b'<ir_version: 8, opset_import: ["" : 17]>\ng () => () {}', "text syntax", "onnx.parser"),
    (b"ir_version: 8\ngraph {\n}\n", "protobuf text", "textproto"),
    (b"\0" * 9000, "zeros", "download"),
    (zipped("archive/data.pkl", "archive/data/0"), "PyTorch", "torch.onnx.export"),
    (zipped("m/code/x.py", "m/constants.pkl"), "TorchScript", "torch.onnx.export"),
    (zipped("metadata.json", "config.json", "model.weights.h5"), "Keras", "model.export"),
    (zipped("net.onnx"), "zip archive with an ONNX file", "unpack"),
    (zipped("x"), "zip archive", "unpack"),
    (zipped(), "zip archive", "unpack"),
    (npz(), "npz", ""),
    (pickle.dumps({"w": [1.0]}, protocol=2), "pickle", "do not trust"),
    (pickle.dumps([1], protocol=5), "pickle", "do not trust"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "PyTorch", "torch.onnx.export"),
    (b"\x89HDF\r\n\x1a\n\0\0", "HDF5", "Keras"),
    (b"\x1c\0\0\0TFL3\0\0", "TensorFlow Lite", "tf2onnx"),
    (b"\x08\0\0\0ORTM\0\0", "ORT format", ".onnx"),
    (struct.pack("<Q", 12) + b'{"a":{}}    ', "safetensors", ""),
    (b"GGUF\x03\0\0\0", "GGUF", ""),
    (b"\x1f\x8b\x08\0", "gzip", "unpack"),
    (b"\xfd7zXZ\0\0", "xz", "unpack"),
    (b"\x28\xb5\x2f\xfd\x04", "zstd", "unpack"),
    (b"BZh91AY&SY", "bzip2", "unpack"),
    (tarred(), "tar archive", "unpack"),
    (b"\x89PNG\r\n\x1a\n", "PNG", ""),
    (b"\xff\xd8\xff\xe0", "JPEG", ""),
    (b"\x7fELF\x02", "ELF", ""),
    (b"%PDF-1.7", "PDF", ""),
    (b"\x93NUMPY\x01\0", "NumPy array", ""),
    (b"\x08\x01" + field(2, field(1, b"\x0a\x05serve") + field(2, GRAPH_DEF)), "SavedModel", "tf2onnx"),
    (GRAPH_DEF, "GraphDef", "tf2onnx"),
    (b"\x08\x04" + field(2, b"\x0a\x00") + field(500, b"\x0a\x00"), "Core ML", ""),
    (onnx.helper.make_tensor("t", 1, [2], [1.0, 2.0]).SerializeToString(), "TensorProto", ""),
    (model().SerializeToString()[:-10], "cut short, 4 bytes or more", "again"),
]


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
