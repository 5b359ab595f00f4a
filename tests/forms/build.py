"""Small models in ONNX's text form with weights added by name, and the rows of the table of forms."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper, parser, shape_inference

Array = NDArray[Any]
Weight = Array | tuple[int, ...]  # a tuple asks for a seeded random array of that shape
Recipe = Callable[[], ModelProto]
Edit = Callable[[ModelProto], None]

NUMPY_OF = {
    "float": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "double": np.dtype(np.float64),
}


class Expect(enum.Enum):
    """What a folder does with a form; MAY is for forms the specification or exactness leaves open."""

    FOLDS = "folds"
    MAY = "may fold"
    STAYS = "stays"


class Oracle(enum.Enum):
    """Who computes a form's outputs; NONE only for models that no evaluator can run."""

    ORT = "ONNX Runtime"
    REFERENCE = "onnx.reference"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Form:
    """One row: a model and what folding it must come to.

    Attributes:
        id: group/name, unique in the table.
        make: builds the model afresh.
        remain: affine operators that may be left (a MatMul's shift stays behind as an Add).
        left: affine operators that must be left, though others go.
        why: why it must stay, or why it is open; shown when the row fails.
        listed: whether the report must list the affine left (not for what is no channel affine at all).
        visible: dropping the affine changes the output (proves that a wrong fold would be seen).
        freeze: run with `freeze_inputs`.
        valid: the input passes the full check (a malformed one may still reach a folder).
        external: save with external data and hand over the path.
        tolerance: overrides the dtype's: max|Δ| / max|reference|.
    """

    id: str
    expect: Expect
    make: Recipe
    remain: str = ""
    left: str = ""
    why: str = ""
    listed: bool = True
    visible: bool = True
    freeze: bool = False
    external: bool = False
    valid: bool = True
    tolerance: float | None = None
    oracle: Oracle = Oracle.ORT


Fact = str | bool | float | Oracle


def folds(id: str, make: Recipe, **facts: Fact) -> Form:
    return _form(Form(id, Expect.FOLDS, make), facts)


def may(id: str, why: str, make: Recipe, **facts: Fact) -> Form:
    return _form(Form(id, Expect.MAY, make, why=why), facts)


def stays(id: str, why: str, make: Recipe, **facts: Fact) -> Form:
    return _form(Form(id, Expect.STAYS, make, why=why), facts)


def _form(form: Form, facts: Mapping[str, Fact]) -> Form:
    given: dict[str, Any] = dict(facts)
    return replace(form, **given)


def reference(form: Form) -> Form:
    """The row, computed by onnx.reference: for types and opsets ONNX Runtime has no CPU kernel for."""
    return replace(form, oracle=Oracle.REFERENCE)


def rand(*shape: int, seed: int = 0, scale: float = 0.5) -> Array:
    """Normal float32 values with standard deviation `scale`."""
    return np.random.default_rng([97, seed, *shape]).normal(0, scale, shape).astype(np.float32)


def bn(c: int, tag: str = "", dtype: str = "float", seed: int = 1, statistics: str = "") -> dict[str, Weight]:
    """Non-trivial scale, shift, mean and variance g, b, m, v (plus `tag`) of `c` channels, of both signs."""
    rng = np.random.default_rng([11, seed, c])
    sign = np.where(np.arange(c) % 3 == 1, -1.0, 1.0)
    one, two = NUMPY_OF[dtype], NUMPY_OF[statistics or dtype]
    return {
        f"g{tag}": (sign * rng.uniform(0.5, 1.5, c)).astype(one),
        f"b{tag}": rng.normal(0, 0.7, c).astype(one),
        f"m{tag}": rng.normal(0, 0.7, c).astype(two),
        f"v{tag}": rng.uniform(0.2, 2.0, c).astype(two),
    }


def positive(*shape: int, seed: int = 2) -> Array:
    """Values in 0.4..1.8: safe to divide by, far from 1 on average."""
    return np.random.default_rng([5, seed, *shape]).uniform(0.4, 1.8, shape).astype(np.float32)


def literal(array: Array) -> str:
    """A float32 or int64 array as a tensor in ONNX's text form."""
    word = "int64" if array.dtype.kind == "i" else "float"
    shape = ",".join(map(str, array.shape))
    values = ", ".join(repr(v) for v in array.ravel().tolist())
    return f"{word}[{shape}] {{{values}}}" if array.ndim else f"{word} {{{values}}}"


def constant(name: str, array: Array) -> str:
    """A Constant node line that makes `name`."""
    return f"{name} = Constant<value = {literal(array)}>()\n"


def constants(weights: Mapping[str, Weight]) -> str:
    """One Constant node line per weight."""
    return "".join(constant(n, _array(w, "float", i)) for i, (n, w) in enumerate(weights.items()))


def _array(weight: Weight, dtype: str, seed: int) -> Array:
    if isinstance(weight, tuple):
        return rand(*weight, seed=seed).astype(NUMPY_OF[dtype])
    return weight


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything of a model but its nodes and weights."""

    x: str = "float[2,3,6,6] x"
    y: str = ""
    dtype: str = "float"
    opset: int = 17
    ir: int = 8
    imports: str = ""
    functions: str = ""
    value_info: bool = True
    edits: tuple[Edit, ...] = ()


FRAMED = {f.name for f in fields(Frame)} - {"edits"}


def build(body: str, frame: Frame, weights: Mapping[str, Weight]) -> ModelProto:
    """The model of `body`; output shapes come from shape inference unless `frame.y` gives them."""
    y = frame.y or f"{frame.dtype} y"
    imports = f'"" : {frame.opset}' + (f", {frame.imports}" if frame.imports else "")
    head = f"<ir_version: {frame.ir}, opset_import: [{imports}]>"
    model = parser.parse_model(f"{head} g ({frame.x}) => ({y}) {{ {body} }} {frame.functions}")
    for seed, (name, weight) in enumerate(weights.items()):
        model.graph.initializer.append(numpy_helper.from_array(_array(weight, frame.dtype, seed), name))
    if frame.ir < 4:  # every initializer is an input there
        overridable(*weights)(model)
    _open_shapes(model)
    inferred = shape_inference.infer_shapes(model)
    if not frame.value_info:
        del inferred.graph.value_info[:]
    for edit in frame.edits:
        edit(inferred)
    return inferred


def _open_shapes(model: ModelProto) -> None:
    # The text form has no "unknown shape": an output written without one is a scalar until inferred.
    for out in model.graph.output:
        if not out.type.tensor_type.shape.dim:
            out.type.tensor_type.ClearField("shape")


def model(body: str, *edits: Edit, **facts: Weight | str | int) -> Recipe:
    """A recipe for the model of `body`: `edits` change it once built, `facts` are `Frame`'s and weights."""
    framed: dict[str, Any] = {n: f for n, f in facts.items() if n in FRAMED}
    weights = {n: w for n, w in facts.items() if n not in FRAMED and not isinstance(w, (str, int))}
    assert len(framed) + len(weights) == len(facts), "a weight is an array or a shape"
    return partial(build, body, Frame(edits=edits, **framed), weights)


def overridable(*names: str) -> Edit:
    """Lists these initializers as graph inputs too."""

    def edit(proto: ModelProto) -> None:
        for init in proto.graph.initializer:
            if init.name in names:
                info = helper.make_tensor_value_info(init.name, init.data_type, list(init.dims))
                proto.graph.input.append(info)

    return edit


def initializer(proto: ModelProto, name: str) -> onnx.TensorProto:
    """The initializer of that name, to read or to change."""
    found: onnx.TensorProto = next(i for i in proto.graph.initializer if i.name == name)
    return found
