"""A graph compiled for many runs: values by name in, values by name out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_clp.errors import NotValidated, UnsupportedModelError
from onnx_clp.validation.plan import most_threads
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.runtime import load_runtime
from onnx_clp.validation.session import FailureKind, failure

Array = NDArray[Any]
Feeds = Mapping[str, Array]

_LARGEST: Final = 1 << 31


class OutOfMemory(NotValidated):
    """A run that needs more memory than there is; fewer images at once may do."""


class Program:
    """An ONNX Runtime session with all its optimisations on.

    Raises:
        UnsupportedModelError: the runtime refuses the graph.
        OutOfMemory: there is no memory for it.
    """

    def __init__(self, model: ModelProto, engine: Engine) -> None:
        if model.ByteSize() >= _LARGEST:
            raise UnsupportedModelError("models of 2 GiB and more cannot be searched for triggers")
        ort = load_runtime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = most_threads()
        options.inter_op_num_threads = 1
        # Without an arena, memory that a run which failed had got is there for the next one, and for NumPy.
        options.enable_cpu_mem_arena = False
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(
                model.SerializeToString(), options, providers=list(engine.providers), provider_options=engine.options
            )
        except Exception as error:
            raise _trouble(error) from error
        self.provider = str(self._session.get_providers()[0])

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """The values named in `outputs`; the whole graph is computed for them."""
        try:
            return [np.asarray(value) for value in self._session.run(list(outputs), dict(feeds))]
        except Exception as error:
            raise _trouble(error) from error


def _trouble(error: Exception) -> UnsupportedModelError | OutOfMemory:
    found = failure(error)
    if found.kind is FailureKind.MEMORY:
        return OutOfMemory(f"there is not enough memory for it: {found}; allow more with --memory")
    return UnsupportedModelError(f"ONNX Runtime does not run it with its gradient: {found}")
