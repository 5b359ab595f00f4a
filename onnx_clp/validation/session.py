"""One model, ready to run: on ONNX Runtime, or on onnx's reference evaluator where that has no kernel."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto, TypeProto

from onnx_clp.text import quoted
from onnx_clp.validation.binding import Binding, bindable
from onnx_clp.validation.mapping import Mapped, map_weights
from onnx_clp.validation.plan import Plan, options
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.runtime import load_runtime

Array = np.ndarray[Any, np.dtype[Any]]
Feeds = Mapping[str, Array]
Outputs = dict[str, Array]
Signature = tuple[tuple[str, str], ...]

REFERENCE = "onnx.reference"
_MEMORY_WORDS = re.compile(r"bad_alloc|allocate memory|bad allocation|out of memory|Cannot allocate", re.IGNORECASE)
_KERNEL_WORDS = re.compile(r"NOT_IMPLEMENTED|Could not find an implementation")


class FailureKind(Enum):
    """Why a model could not be loaded or run."""

    KERNEL = "no kernel"
    MEMORY = "memory"
    REFUSED = "refused"


class RunError(Exception):
    """A model could not be loaded or run; its text is one line, `details` up to five times as long."""

    def __init__(self, kind: FailureKind, details: str) -> None:
        super().__init__(quoted(details))
        self.kind = kind
        self.details = details


class OrtTensor(Protocol):
    """What is used of ONNX Runtime's own value type."""

    def data_type(self) -> str: ...  # noqa: D102
    def device_name(self) -> str: ...  # noqa: D102
    def shape(self) -> list[int]: ...  # noqa: D102
    def data_ptr(self) -> int: ...  # noqa: D102
    def numpy(self) -> object: ...  # noqa: D102


class Runner(Protocol):
    """A loaded model. `provider` is where it really runs; inputs and outputs are (name, type) pairs.

    `placed` counts its nodes by the provider they were given to; it is empty where that is not known.
    """

    provider: str
    placed: Mapping[str, int]
    inputs: Signature
    outputs: Signature

    def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
        """Every output by name, or those `wanted`, lists and maps flattened to arrays. Raises RunError."""


def open_runner(path: Path, engine: Engine, plan: Plan | None = None, *, reference: bool = False) -> Runner:
    """Load the model at `path` as `plan` says, or on the reference evaluator if `reference`.

    Raises:
        RunError: it cannot be loaded.
    """
    if reference:
        return ReferenceRunner(path)
    plan = plan or Plan()
    if plan.mapped and (light := _mapped(path)) is not None:
        # A model that does not load in this way says why when it is loaded as it lies.
        with contextlib.suppress(RunError):
            return OrtRunner(path, engine, plan, light, bound=engine.on_gpu)
    return OrtRunner(path, engine, plan, bound=engine.on_gpu)


def _mapped(path: Path) -> Mapped | None:
    try:
        return map_weights(path)
    except MemoryError:
        raise
    except Exception:
        return None


class OrtRunner:
    """A session, with graph optimisation off unless asked for: the runtime would fold the input model too.

    `light` is the model with its weights left in the file. `bound` keeps inputs in device memory from batch to batch,
    which pays on a GPU.
    """

    def __init__(
        self, path: Path, engine: Engine, plan: Plan, light: Mapped | None = None, *, bound: bool = False
    ) -> None:
        ort = load_runtime()
        try:
            self._session = ort.InferenceSession(
                os.fspath(path) if light is None else light.model,
                options(ort, path.stat().st_size, plan, light),
                providers=list(engine.providers),
                provider_options=engine.options,
                enable_fallback=0,
            )
        except Exception as error:
            raise failure(error) from error
        self._session.disable_fallback()
        self._ort = ort
        self.provider = str(self._session.get_providers()[0])
        self.inputs: Signature = tuple((i.name, i.type) for i in self._session.get_inputs())
        self.outputs: Signature = tuple((o.name, o.type) for o in self._session.get_outputs())
        self.placed: Mapping[str, int] = _placed(self._session)
        self._binding: Binding | None = None
        if bound and bindable([kind for _, kind in (*self.inputs, *self.outputs)]):
            self._binding = Binding(ort, self._session, engine.memory)

    def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
        """The outputs by name; types NumPy does not know travel as ml_dtypes arrays."""
        names = [name for name, _ in self.outputs] if wanted is None else list(wanted)
        try:
            values = self._run(feeds, None if wanted is None else names)
        except Exception as error:
            raise failure(error) from error
        return flatten(names, values)

    def _run(self, feeds: Feeds, wanted: list[str] | None) -> Sequence[Any]:
        foreign = {name: self._to_ort(array) for name, array in feeds.items() if _is_foreign(array.dtype)}
        if self._binding is not None and wanted is None:
            own = {name: array for name, array in feeds.items() if name not in foreign}
            return [_from_ort(v) for v in self._binding.run(own, foreign)]
        asked = [kind for name, kind in self.outputs if wanted is None or name in wanted]
        if not foreign and not any("bfloat16" in t or "float8" in t for t in asked):
            return list(self._session.run(wanted, dict(feeds)))
        values = {name: foreign.get(name) or self._to_ort(array) for name, array in feeds.items()}
        return [_from_ort(v) for v in self._session.run_with_ort_values(wanted, values)]

    def _to_ort(self, array: Array) -> object:
        make = self._ort.OrtValue
        if not _is_foreign(array.dtype):
            return make.ortvalue_from_numpy(array)
        from onnx.helper import np_dtype_to_tensor_dtype

        raw = array.view(f"u{array.dtype.itemsize}")
        return make.ortvalue_from_numpy_with_onnx_type(raw, np_dtype_to_tensor_dtype(array.dtype))


class ReferenceRunner:
    """onnx's own evaluator: slow, in Python, and knows kernels that the runtime lacks."""

    provider = REFERENCE
    placed: Mapping[str, int] = {}

    def __init__(self, path: Path) -> None:
        try:
            from onnx.reference import ReferenceEvaluator

            self._evaluator = ReferenceEvaluator(os.fspath(path))
        except MemoryError:
            raise
        except Exception as error:
            raise failure(error) from error
        pairs = zip(self._evaluator.input_names, self._evaluator.input_types, strict=True)
        self.inputs: Signature = tuple((name, _type_name(kind)) for name, kind in pairs)
        pairs = zip(self._evaluator.output_names, self._evaluator.output_types, strict=True)
        self.outputs: Signature = tuple((name, _type_name(kind)) for name, kind in pairs)

    def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
        """The outputs by name."""
        names = [name for name, _ in self.outputs] if wanted is None else list(wanted)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = list(self._evaluator.run(names, dict(feeds)))
        except MemoryError:
            raise
        except Exception as error:
            raise failure(error) from error
        return flatten(names, values)


def failure(error: Exception) -> RunError:
    """`error` of a runtime, sorted by what it means."""
    text = str(error)
    if isinstance(error, MemoryError) or _MEMORY_WORDS.search(text):
        return RunError(FailureKind.MEMORY, quoted(text, 1500))
    kind = FailureKind.KERNEL if _KERNEL_WORDS.search(text) else FailureKind.REFUSED
    return RunError(kind, quoted(text, 1500) or type(error).__name__)


def flatten(names: Sequence[str], values: Sequence[Any]) -> Outputs:
    """Arrays by name: the i-th member of a sequence is `name[i]`, a map's values in key order."""
    arrays: Outputs = {}
    for name, value in zip(names, values, strict=True):
        arrays.update(_leaves(name, value))
    return arrays


def _leaves(name: str, value: object) -> Outputs:
    if isinstance(value, list):
        return {k: a for i, v in enumerate(value) for k, a in _leaves(f"{name}[{i}]", v).items()}
    if isinstance(value, dict):
        return {name: np.asarray([value[key] for key in sorted(value)])}
    return {name: np.asarray(value)}


def _placed(session: Any) -> dict[str, int]:
    """Nodes by provider, where this ONNX Runtime tells (1.24 and later) and was asked to note it."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    found: dict[str, int] = {}
    try:
        for part in session.get_provider_graph_assignment_info():
            found[part.ep_name] = found.get(part.ep_name, 0) + len(part.get_nodes())
    except Exception:  # it was not asked to take note
        return {}
    return found


def _is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether NumPy knows `dtype` only through ml_dtypes."""
    return dtype.kind == "V" or dtype.name.startswith(("bfloat", "float8", "float4", "int4", "uint4"))


def _from_ort(value: OrtTensor) -> object:
    kind = value.data_type()
    if not ("bfloat16" in kind or "float8" in kind):
        return value.numpy()
    if value.device_name() != "cpu":
        raise ValueError(f"an output of type {kind} stayed in device memory")
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, _ML_NAMES[kind.removeprefix("tensor(").removesuffix(")")]))
    count = int(np.prod(value.shape()))
    raw = ctypes.string_at(value.data_ptr(), count * dtype.itemsize) if count else b""
    return np.frombuffer(raw, dtype).reshape(value.shape())


_ML_NAMES = {
    "bfloat16": "bfloat16",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
}


def _type_name(kind: TypeProto) -> str:
    """A TypeProto in ONNX Runtime's spelling, as far as comparing needs it."""
    if kind.HasField("tensor_type"):
        return f"tensor({TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()})"
    return str(kind.WhichOneof("value"))
