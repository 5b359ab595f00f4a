"""What the driver's libraries say, read through stand-ins for them."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from onnx_clp.validation import device
from onnx_clp.validation.device import NOT_KNOWN, Gpu


def fill(value: int) -> object:
    def answer(target: object) -> int:
        target._obj.value = value  # type: ignore[attr-defined]
        return 0

    return answer


def put(text: bytes) -> object:
    def answer(buffer: object, size: int, *_: object) -> int:
        assert size >= 96
        buffer.value = text  # type: ignore[attr-defined]
        return 0

    return answer


def install(monkeypatch: pytest.MonkeyPatch, cuda: object, nvml: object) -> None:
    def load(name: str) -> object:
        found = nvml if "ml" in name else cuda
        if found is None:
            raise OSError(name)
        return found

    monkeypatch.setattr(ctypes, "CDLL", load)


def driver() -> SimpleNamespace:
    return SimpleNamespace(
        cuInit=lambda _: 0,
        cuDeviceGetCount=fill(1),
        cuDriverGetVersion=fill(13020),
        cuDeviceGetName=put(b"Test\x1b GPU"),
    )


def manager(version: bytes = b"580.65.06", status: int = 0) -> SimpleNamespace:
    return SimpleNamespace(nvmlInit_v2=lambda: status, nvmlSystemGetDriverVersion=put(version))


def test_device_and_driver_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, driver(), manager())
    assert device.find_gpu() == Gpu("Test\\x1b GPU", "13.2", "580.65.06")
    assert str(device.find_gpu()) == "Test\\x1b GPU (driver 580.65.06, CUDA 13.2)"
    assert device.driver_loads()


@pytest.mark.parametrize(
    "nvml", [None, SimpleNamespace(), manager(status=9), manager(b"")], ids=["absent", "old", "refuses", "empty"]
)
def test_a_driver_that_does_not_tell_its_version_is_not_known(monkeypatch: pytest.MonkeyPatch, nvml: object) -> None:
    install(monkeypatch, driver(), nvml)
    found = device.find_gpu()
    assert found is not None
    assert found.driver == NOT_KNOWN


@pytest.mark.parametrize(
    ("change", "loads"),
    [({"cuDeviceGetCount": fill(0)}, True), ({"cuInit": lambda _: 100}, True), (None, False)],
    ids=["no device", "no start", "no library"],
)
def test_no_device_is_none(monkeypatch: pytest.MonkeyPatch, change: dict[str, object] | None, loads: bool) -> None:
    cuda = driver() if change is not None else None
    for name, value in (change or {}).items():
        setattr(cuda, name, value)
    install(monkeypatch, cuda, manager())
    assert device.find_gpu() is None
    assert device.driver_loads() == loads
