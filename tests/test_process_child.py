"""What the parent hears of a child at work, and what it sends and gets back of a gauge."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from onnx_clp.config import RunLimits
from onnx_clp.document.gauge import Gauge, Loss, Ordinary, OutputChange, Prediction
from onnx_clp.gauge.request import Controls, Dial, DialSetting, Dosed, DoseRequest, Landmark, Switch, Wish
from onnx_clp.process.child import ticks
from onnx_clp.process.codec import decode, encode


@pytest.mark.parametrize(
    ("written", "heard"),
    [
        (b"", None),
        (b"\n", None),
        (b"tick gauge 1 16\n", ("gauge", 1, 16)),
        (b"tick gauge 1 16\ntick gauge 2 16\n", ("gauge", 2, 16)),
        (b"tick gauge 1 16\ntick gauge 2 1", ("gauge", 1, 16)),
        (b"tick gauge 1 1", None),
        (b'tick gauge 1 16\n{"outcome": 1}\n', None),
        (b"tick gauge 1\n", None),
        (b"tock gauge 1 16\n", None),
        (b"noise\ntick look 3 4\n", ("look", 3, 4)),
    ],
)
def test_the_last_whole_line_is_heard_if_it_is_a_tick(written: bytes, heard: tuple[str, int, int] | None) -> None:
    found: list[tuple[str, int, int]] = []
    ticks(lambda *tick: found.append(tick))(bytearray(written))
    assert found == ([] if heard is None else [heard])


SWITCH = Switch("v\n", 8, 3, 1, (1, 5), (4.5, math.inf), None, (0.25, 1e-300), (0.5, 128.0), (0.0, math.inf))


@pytest.mark.parametrize("images", [None, Path("/i.npz")])
def test_a_request_survives_the_wire(images: Path | None) -> None:
    dials = (Dial(SWITCH, "off", "fill", "before"),)
    controls = Controls(dials, "caps", Landmark("l", (0.5,), (1.0,)), ("y", "z"))
    asked = DoseRequest(
        original=Path("/a"),
        model=Path("/b"),
        controls=controls,
        wish=Wish(0.01, 3.0, None if images is None else 2.5, (1.0, 2.0)),
        images=images,
        pixels=None if images is None else (-1.0, 1.0),
        limits=RunLimits(provider="cuda", seed=3, shapes={"x": (1, 2)}, timeout=1.5, memory=7),
    )
    assert decode(DoseRequest, encode(asked)) == asked
    assert asked.written == Path("/b")
    assert not asked.on_cpu


def test_an_answer_survives_the_wire() -> None:
    change = OutputChange("y\x00", "values", relative=math.inf)
    prediction = Prediction(Loss(1.0, 1.0, 1.0), (change, OutputChange("z", "classes", 0.5, 1.0, 0.25, classes=10)))
    settings = (DialSetting("v", (0.1, -2.0), (5,)), DialSetting("w", (), ()))
    gauge = Gauge(Ordinary("photographs", 72, "0..1", "scale"), 0.01, "", prediction, prediction)
    whole = Dosed(gauge, settings, 2.5, (prediction,))
    assert decode(Dosed, encode(whole)) == whole
    bare = Dosed(Gauge(Ordinary("noise", 32), 0.01, "", Prediction(Loss(0.0, 0.0, 0.0), ())), (), None)
    assert decode(Dosed, encode(bare)) == bare


def test_a_switch_is_as_wide_as_its_value_needs() -> None:
    assert SWITCH.shape == (8, 1, 1)
    assert Switch("v", 8, 1, 1, (), (), None, None).shape == (8,)
