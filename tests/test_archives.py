"""Archives of arrays that are damaged in every way a library knows of: one sentence, never the library's own error."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnx_clp.errors import UsageError
from onnx_clp.validation.npz import Archive

IMAGES = np.arange(600, dtype=np.float32).reshape(2, 300)


def plain(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def packed(method: int, content: bytes | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("x.npy", plain(IMAGES) if content is None else content)
    return out.getvalue()


def torn(method: int) -> bytes:
    """The middle of the packed bytes overwritten."""
    data = bytearray(packed(method))
    start = 30 + len("x.npy") + 20
    data[start : start + 60] = b"\xa5" * 60
    return bytes(data)


def method_99() -> bytes:
    data = packed(zipfile.ZIP_STORED)
    return data.replace(b"PK\x03\x04\x14\x00\x00\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x00\x63\x00").replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63\x00"
    )


def encrypted() -> bytes:
    data = bytearray(packed(zipfile.ZIP_STORED))
    data[6] |= 1
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def headed(header: bytes) -> bytes:
    return packed(zipfile.ZIP_STORED, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


DAMAGED = {
    "lzma": lambda: torn(zipfile.ZIP_LZMA),
    "deflate": lambda: torn(zipfile.ZIP_DEFLATED),
    "bzip2": lambda: torn(zipfile.ZIP_BZIP2),
    "unknown method": method_99,
    "encrypted": encrypted,
    "no array": lambda: packed(zipfile.ZIP_STORED, b"text"),
    "header that does not parse": lambda: headed(b"{'descr': '<f4', 'shape': ((((\n"),
    "header of odd tokens": lambda: headed(b"{'descr': '\xff\n"),
    "header of no dictionary": lambda: headed(b"[1, 2]\n"),
    "no type": lambda: headed(b"{'descr': 'nope', 'fortran_order': False, 'shape': (2,)}\n"),
    "objects": lambda: packed(zipfile.ZIP_STORED, plain(np.zeros(1)).replace(b"'<f8'", b"'|O' ")),
    "a tail": lambda: packed(zipfile.ZIP_STORED)[-40:],
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("made", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_archive_is_one_sentence(made: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(made())
    with pytest.raises(UsageError) as caught:
        Archive("--images", path).read(lambda names: [n for n in ("x",) if n in names] or names, 1 << 20)
    said = str(caught.value)
    assert said.startswith(f"--images {path}: ")
    assert said.isprintable()
    assert len(said) < 400


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2], ids=str
)
def test_a_sound_archive_of_any_method_is_read(method: int, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(packed(method))
    np.testing.assert_array_equal(Archive("--images", path).read(lambda names: names, 1 << 20)["x"], IMAGES)


def test_too_little_memory_is_not_the_archives_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(packed(zipfile.ZIP_STORED))

    def starve(_: object) -> list[str]:
        raise MemoryError

    with pytest.raises(MemoryError):
        Archive("--images", path).read(starve, 1 << 20)
