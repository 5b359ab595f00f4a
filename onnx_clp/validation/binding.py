"""Runs of one session with its inputs and outputs bound, so that batches reuse the same device memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def bindable(types: Sequence[str]) -> bool:
    """Whether inputs and outputs of these types can be bound: tensors of numbers, in ONNX Runtime's spelling."""
    return all(t.startswith("tensor(") and t != "tensor(string)" for t in types)


class Binding:
    """One session's bound runs in `memory` ("cuda" or "cpu").

    A device buffer is made for each input at first, written over by every batch of its shape and type, and
    made anew for any other. Outputs come back in host memory, in a buffer of their own for every run.
    """

    def __init__(self, ort: ModuleType, session: Any, memory: str) -> None:
        self._ort, self._session, self._memory = ort, session, memory
        self._binding = session.io_binding()
        self._names = [output.name for output in session.get_outputs()]
        self._buffers: dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]] = {}

    def run(self, feeds: Mapping[str, Array], foreign: Mapping[str, Any]) -> list[Any]:
        """The outputs as OrtValues in host memory.

        `foreign` holds inputs that are OrtValues already (types that NumPy does not know).
        """
        for name, array in feeds.items():
            self._fill(name, array)
        for name, value in foreign.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.clear_binding_outputs()
        for name in self._names:
            self._binding.bind_output(name, "cpu")
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return list(self._binding.get_outputs())

    def _fill(self, name: str, array: Array) -> None:
        shape, dtype, buffer = self._buffers.get(name, ((), None, None))
        if buffer is None or (shape, dtype) != (array.shape, array.dtype):
            # Never made from the array itself: on the CPU it would share, and then overwrite, the caller's.
            buffer = self._ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype, self._memory, 0)
            self._buffers[name] = (array.shape, array.dtype, buffer)
            self._binding.bind_ortvalue_input(name, buffer)
        buffer.update_inplace(np.ascontiguousarray(array))
