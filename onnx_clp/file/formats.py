"""What a file is when it is not an ONNX model: recognised by its bytes, never by its name.

A model's bytes may begin with almost anything (a producer may be called `TFL3`), so ask only after the file
has failed to parse as one, or has parsed into something without a graph.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from onnx_clp.text import shown_path

Bytes = bytes | memoryview

_EXPORT = "export it to ONNX"
_UNPACK = "unpack it first"

# (offset, magic bytes, what it is, what to do)
_MAGIC = (
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the model",
        "run `git lfs pull`",
    ),
    (4, b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx --tflite"),
    (4, b"ORTM", "an ONNX Runtime model (ORT format)", "use the .onnx file it was made from"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, perhaps a Keras .h5 model", _EXPORT),
    (0, b"GGUF", "a GGUF model", "use an ONNX export of it"),
    (0, b"\x1f\x8b", "gzip-compressed", _UNPACK),
    (0, b"\xfd7zXZ\x00", "xz-compressed", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK),
    (0, b"BZh", "bzip2-compressed", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x93NUMPY", "a NumPy array", "name the model file"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image", "name the model file"),
    (0, b"\xff\xd8\xff", "a JPEG image", "name the model file"),
    (0, b"%PDF-", "a PDF document", "name the model file"),
    (0, b"\x7fELF", "an ELF program or library", "name the model file"),
)

_ZIPPED = (
    (b"data.pkl", "a PyTorch file (zip)", "load it in PyTorch and use torch.onnx.export"),
    (b"constants.pkl", "a TorchScript file (zip)", "load it in PyTorch and use torch.onnx.export"),
    (b"model.weights.h5", "a Keras file (zip)", 'load it in Keras and use model.export(format="onnx")'),
    (b"config.json", "a Keras file (zip)", 'load it in Keras and use model.export(format="onnx")'),
    (b".npy", "a NumPy .npz archive", "name the model file"),
    (b".onnx", "a zip archive with an ONNX file in it", _UNPACK),
)

_TEXTS = (
    (
        rb"<!doctype html|<html|<head|<body",
        "an HTML page, perhaps a login or error page",
        "download the model again",
    ),
    (rb"<\?xml|<net\b", "XML, perhaps an OpenVINO model", _EXPORT),
    (rb"<\s*ir_version", "ONNX in text syntax", "parse it with onnx.parser and save it as binary"),
    (
        rb"ir_version\s*:",
        "ONNX as protobuf text",
        'load it with onnx.load(format="textproto") and save it as binary',
    ),
    (rb"[\[{]", "JSON", "name the model file, or save a JSON model as binary with onnx.save"),
    (rb"", "plain text", "name the model file"),
)

_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_PICKLE_END = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LOOK = 1 << 12
_FIELDS_LOOK = 64
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def recognise(head: Bytes, path: os.PathLike[str] | str) -> str | None:
    """Say in one line (file, what it is, what to do) what a file that is not an ONNX model is.

    Args:
        head: the file's bytes from its start; all of them where a truncated model is to be recognised.
        path: only to name the file.

    Returns:
        None when the bytes look like nothing known. About 4 KiB of `head` are looked at, whatever its size.
    """
    start = bytes(head[:_LOOK])
    found = _by_magic(start) or _zip(start) or _pickle(start) or _safetensors(start) or _text(start)
    if found is None:
        fields = list(_top_fields(head))
        missing = _missing(fields)
        if missing:
            cure = "download or export it again"
            return f"{shown_path(path)}: cut short, {missing:,} bytes or more are missing; {cure}"
        found = _protobuf(head, fields)
    return f"{shown_path(path)}: not an ONNX model but {found[0]}; {found[1]}" if found else None


def _by_magic(start: bytes) -> tuple[str, str] | None:
    return next(((what, cure) for at, magic, what, cure in _MAGIC if start.startswith(magic, at)), None)


def _zip(start: bytes) -> tuple[str, str] | None:
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    return next(((what, cure) for name, what, cure in _ZIPPED if name in start), ("a zip archive", _UNPACK))


def _pickle(start: bytes) -> tuple[str, str] | None:
    if start.startswith(_LEGACY_TORCH):
        return "a PyTorch file (old pickle form)", "load it in PyTorch and use torch.onnx.export"
    if start.startswith(_PICKLE_END):
        return (
            "a Python pickle",
            "never open one you do not trust; export the model to ONNX where it was made",
        )
    return None


def _safetensors(start: bytes) -> tuple[str, str] | None:
    length = int.from_bytes(start[:8], "little")
    if start[8:10] in (b'{"', b"{}") and 2 <= length < 1 << 30:
        return "a safetensors file: weights without a graph", "export the model to ONNX with its code"
    return None


def _text(start: bytes) -> tuple[str, str] | None:
    if start and not start.strip(b"\0"):
        return "zeros, as a broken download leaves", "download the model again"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text", "name the model file"
    words = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not words or not _is_text(start):
        return None
    return next((what, cure) for pattern, what, cure in _TEXTS if re.match(pattern, words, re.IGNORECASE))


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode("utf-8")
    return all(char.isprintable() or char.isspace() or char == "\ufeff" for char in text)


def _protobuf(head: Bytes, fields: list[tuple[int, int, int]]) -> tuple[str, str] | None:
    kinds = [(number, kind) for number, kind, _ in fields]
    numbers = {number for number, _ in kinds}
    if kinds[:1] == [(1, _VARINT)]:
        return _starts_with_number(head, fields)
    if kinds[:1] == [(1, _LENGTH)] and numbers <= {1, 2, 3, 4} and _is_graph_def(head, fields[0][2]):
        return "a TensorFlow graph (GraphDef)", "convert it with tf2onnx"
    return None


def _starts_with_number(head: Bytes, fields: list[tuple[int, int, int]]) -> tuple[str, str] | None:
    kinds = {(number, kind) for number, kind, _ in fields}
    if (2, _VARINT) in kinds:
        return "a single ONNX tensor (TensorProto)", "name the model file"
    if any(200 <= number <= 3000 for number, _ in kinds):
        return "a Core ML model", "export the model to ONNX where it was made"
    if kinds == {(1, _VARINT), (2, _LENGTH)} and _is_meta_graph(head, fields[0][2], fields[1][2]):
        return "a TensorFlow SavedModel", "convert its folder with tf2onnx --saved-model"
    return None


def _is_meta_graph(head: Bytes, after_version: int, meta_graph: int) -> bool:
    """Say whether schema version 1 is followed by a message that begins with one, as in SavedModel."""
    return head[after_version - 1] == 1 and bytes(head[meta_graph : meta_graph + 1]) == b"\x0a"


def _missing(fields: list[tuple[int, int, int]]) -> int:
    """Return how many bytes a file that begins as an ONNX model lacks at its end."""
    whole = not fields or fields[-1][1] >= 0
    if whole or fields[0][0] != 1 or not all(number < 30 for number, _, _ in fields):
        return 0
    return -fields[-1][1]


def _is_graph_def(head: Bytes, at: int) -> bool:
    """Say whether the first length-delimited field at `at` is a NodeDef: a name and then an op."""
    node = bytes(head[at : at + 256])
    return len(node) > 2 and node[0] == 0x0A and node[1] < 0x80 and node[2 + node[1] : 3 + node[1]] == b"\x12"


def _top_fields(head: Bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (number, wire type, offset of the content) of the first top-level fields.

    A field that ends after the bytes do comes last, its wire type replaced by minus the bytes missing. Bytes
    that are no protobuf yield nothing further.
    """
    at, end = 0, len(head)
    for _ in range(_FIELDS_LOOK):
        tag, at = _varint(head, at)
        kind = tag & 7
        if at > end or tag >> 3 == 0 or kind not in (_VARINT, _FIXED64, _LENGTH, _FIXED32):
            return
        content, length = at, {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind in (_VARINT, _LENGTH):
            value, content = _varint(head, at)
            length = value if kind == _LENGTH else 0
        at = content + length
        yield tag >> 3, kind if at <= end else end - at, content
        if at >= end:
            return


def _varint(head: Bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at` and the offset after it; one that never ends is followed by no offset."""
    value = 0
    for shift, byte in enumerate(bytes(head[at : at + 10])):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return 0, len(head) + 1
