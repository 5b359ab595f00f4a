"""Other forms of a network: half precision, and 8-bit integers as ONNX Runtime's static quantisation writes them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx.version_converter import convert_version
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from onnx_clp.errors import UsageError

CALIBRATION = 32
"""Inputs that ranges are calibrated on: the last ones, so that what is measured is hardly touched."""

_PER_CHANNEL_OPSET = 13

Feed = dict[str, NDArray[Any]]
_FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def write(form: str, source: Path, out: Path, feeds: list[Feed]) -> None:
    """Write `source` in another form; 8-bit weights are per channel, ranges come from `feeds`.

    Raises:
        UsageError: no such form.
    """
    if form == "fp16":
        onnx.save(in_order(convert_float_to_float16(onnx.load(source), keep_io_types=True)), out)
    elif form in _FORMATS:
        _quantise(_FORMATS[form], source, out, feeds)
    else:
        raise UsageError(f"no form of a network is called {form}")


def in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its nodes behind what they read, as ONNX asks for; the converter puts its casts at the end."""
    graph = model.graph
    made = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if made.issuperset(node.input)]
        if not ready:
            raise UsageError(f"{graph.name}: its nodes form a cycle")
        ordered += ready
        made.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not made.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)
    return model


def scales_per_channel(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset whose DequantizeLinear has an axis."""
    held = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    return model if held >= _PER_CHANNEL_OPSET else convert_version(model, _PER_CHANNEL_OPSET)


def _quantise(layout: QuantFormat, source: Path, out: Path, feeds: list[Feed]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"
        onnx.save(scales_per_channel(onnx.load(source)), folded)
        quant_pre_process(str(folded), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(out),
            _Reader(feeds),
            quant_format=layout,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
