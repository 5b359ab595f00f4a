"""Data-free backdoor removal for ONNX models: fold, bound, prune, prove.

    import onnx_clp
    result = onnx_clp.clean("in.onnx", onnx_clp.CleanConfig(u=3.0))
    result.report.summary.channels_pruned   # channels that stood out
    result.save("out.onnx")

`score` and `search` look without changing anything, `clean_batch` takes many models, `register_rule` adds a rule.
The names below are loaded on first use: importing the package imports neither onnx nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from onnx_clp.version import __version__

if TYPE_CHECKING:
    from onnx_clp.batch.many import clean_batch as clean_batch
    from onnx_clp.batch.record import Record as Record
    from onnx_clp.config import CleanConfig as CleanConfig
    from onnx_clp.config import Rule as Rule
    from onnx_clp.config import register_rule as register_rule
    from onnx_clp.document.run import Decision as Decision
    from onnx_clp.document.run import Evidence as Evidence
    from onnx_clp.document.run import Report as Report
    from onnx_clp.errors import ClpError as ClpError
    from onnx_clp.errors import InvalidModelError as InvalidModelError
    from onnx_clp.errors import LoadError as LoadError
    from onnx_clp.errors import NotValidated as NotValidated
    from onnx_clp.errors import SaveError as SaveError
    from onnx_clp.errors import UnsupportedModelError as UnsupportedModelError
    from onnx_clp.errors import UsageError as UsageError
    from onnx_clp.errors import ValidationFailed as ValidationFailed
    from onnx_clp.process.progress import Progress as Progress
    from onnx_clp.run.looks import score as score
    from onnx_clp.run.looks import search as search
    from onnx_clp.run.pipeline import CleanResult as CleanResult
    from onnx_clp.run.pipeline import clean as clean
    from onnx_clp.verdicts import Finding as Finding
    from onnx_clp.verdicts import LayerStatus as LayerStatus
    from onnx_clp.verdicts import Verdict as Verdict

_HOMES = {
    "clean": "run.pipeline",
    "clean_batch": "batch.many",
    "score": "run.looks",
    "search": "run.looks",
    "register_rule": "config",
    "Rule": "config",
    "Record": "batch.record",
    "Report": "document.run",
    "Decision": "document.run",
    "Evidence": "document.run",
    "Finding": "verdicts",
    "LayerStatus": "verdicts",
    "Verdict": "verdicts",
    "Progress": "process.progress",
    "CleanResult": "run.pipeline",
    "CleanConfig": "config",
    "ClpError": "errors",
    "InvalidModelError": "errors",
    "LoadError": "errors",
    "NotValidated": "errors",
    "SaveError": "errors",
    "UnsupportedModelError": "errors",
    "UsageError": "errors",
    "ValidationFailed": "errors",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"onnx_clp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
