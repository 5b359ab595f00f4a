"""Files of other formats: (content, what the refusal calls it, what it advises)."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import onnx


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    assert number < 2048
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 128 else bytes([tag & 0x7F | 0x80, tag >> 7])) + bytes([len(content)]) + content


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
