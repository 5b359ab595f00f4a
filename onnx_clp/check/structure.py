"""Structure: a parsed model that breaks ONNX's rules is refused here, with the part at fault named.

What is checked: versions, static single assignment and the order of nodes, attributes, stored tensors,
convolution windows, and calls of local functions. Nothing recurses, whatever the nesting, and the time is
proportional to the model's size. Messages do not name the file; the caller knows it.

Source: the ONNX IR specification (docs/IR.md of onnx 1.23) and onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import ModelProto

from onnx_clp.check.callgraph import Body, check_calls
from onnx_clp.check.names import OWN_DOMAINS, Visible
from onnx_clp.errors import InvalidModelError, UnsupportedModelError
from onnx_clp.file.storage import PayloadSize
from onnx_clp.graph.functions import FunctionKey, function_label, functions_of, plain_domain
from onnx_clp.text import shown

_LARGEST_VERSION = 2**31 - 1


def check(model: ModelProto, payload_size: PayloadSize) -> None:
    """Check a model's structure.

    Args:
        model: only read.
        payload_size: bytes of a tensor's values wherever they lie (raw, moved out, or external), None when
            they lie in a typed field. It may raise, for external data that is refused.

    Raises:
        InvalidModelError: the model breaks the ONNX specification.
        UnsupportedModelError: it is of a version, or of a size once expanded, that this tool cannot process.
    """
    versions = _versions(model)
    functions = functions_of(model)
    _check_names(functions)
    bodies = {key: Body() for key in functions}
    for key, function in functions.items():
        own = {**versions, **_imports(function.opset_import, function_label(key))}
        Visible(own, functions, payload_size, bodies[key], in_function=True).walk_function(key, function)
    main = Visible(versions, functions, payload_size)
    main.walk(model.graph, keep=True)
    for training in model.training_info:
        Visible(versions, functions, payload_size).walk(training.initialization)
        main.walk(training.algorithm)
    check_calls(main.body, bodies)


def _check_names(functions: Iterable[FunctionKey]) -> None:
    """Refuse a function with an operator's name: onnx.proto leaves it to each runtime which of the two a node calls."""
    for key in functions:
        domain, name, _ = key
        if domain in OWN_DOMAINS and onnx.defs.has(name, domain):
            raise UnsupportedModelError(
                f"{function_label(key)} has the name of an ONNX operator, and runtimes disagree on which of the two "
                "a node calls; rename the function and the nodes that call it"
            )


def _versions(model: ModelProto) -> dict[str, int]:
    if not model.ir_version:
        raise InvalidModelError("it has no IR version, so it is no ONNX model or a damaged one; export it again")
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise UnsupportedModelError(
            f"IR version {model.ir_version} is unknown to onnx {onnx.__version__}, which knows 1 to "
            f"{onnx.IR_VERSION}; update onnx, or export an older version"
        )
    if not model.HasField("graph"):
        raise InvalidModelError("it has no graph; export it again")
    versions = _imports(model.opset_import, "the model")
    if not versions and model.ir_version >= 3:
        raise InvalidModelError("it imports no operator set; export it again")
    return versions or {"": 1}


def _imports(entries: Iterable[onnx.OperatorSetIdProto], where: str) -> dict[str, int]:
    versions: dict[str, int] = {}
    for entry in entries:
        domain, version = plain_domain(entry.domain), entry.version
        name = f"'{shown(domain or 'ai.onnx')}'"
        if not 1 <= version <= _LARGEST_VERSION:
            raise InvalidModelError(f"{where} imports version {version} of operator set {name}; export it again")
        if versions.setdefault(domain, version) != version:
            raise InvalidModelError(f"{where} imports two versions of operator set {name}; export it again")
        if version > OWN_DOMAINS.get(domain, version):
            raise UnsupportedModelError(
                f"{where} imports opset {version} of {name}; onnx {onnx.__version__} knows up to "
                f"{OWN_DOMAINS[domain]}; update onnx, or export an older opset"
            )
    return versions
