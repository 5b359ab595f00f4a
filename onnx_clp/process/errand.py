"""What a child process is started for: which request it gets, which answer it gives, and the words for failing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from onnx_clp.config import GIB, RunLimits
from onnx_clp.text import quoted


class Asked(Protocol):
    """What parent and child need to know of any request."""

    @property
    def original(self) -> Path:
        """The input model, to be named in errors."""

    @property
    def written(self) -> Path | None:
        """The model made from it that is run."""

    @property
    def limits(self) -> RunLimits:
        """Where and how far the models may be run."""

    @property
    def on_cpu(self) -> bool:
        """Whether nothing of it can run on a GPU."""


_Request = TypeVar("_Request", bound=Asked)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Errand(Generic[_Request, _Answer]):
    """One kind of child process.

    Attributes:
        home: the module and name this errand is found by, "package.module:NAME".
        worker: the function that does the work in the child, "package.module:name": it takes the request, the
            memory cap in bytes and a function that sends a line to the parent, and gives the answer.
        asked, answered: the dataclasses of request and answer.
        failed, instead: how a sentence says that it was not done, and what a user can do without it.
        names: whether errors of the worker are to be led by the model's name; else they name it themselves.
        spare: the bytes that a request may take beside its models: for libraries, inputs, and the values of a run.
        more: whether another child follows within seconds, so that it may be started by then.
    """

    home: str
    worker: str
    asked: type[_Request]
    answered: type[_Answer]
    failed: str
    instead: str
    names: bool = False
    spare: Callable[[_Request], int] = lambda _: 4 * GIB
    more: bool = False

    def memory_sentence(self, request: Asked, cap: int) -> str:
        """The one line for a model that needs more memory than it may have."""
        return self.sentence(
            request,
            f"it needs more than {cap / (1 << 30):.2g} GiB of memory; allow more with --memory, or {self.instead}",
        )

    def sentence(self, request: Asked, cause: str) -> str:
        """The one line that says of which model what was not done and why."""
        return f"{quoted(request.original)}: {self.failed} because {cause}"


def model_bytes(request: Asked) -> int:
    """How large the input model is: as the limits say, which count its external data, else the file."""
    known = request.limits.model_bytes
    return request.original.stat().st_size if known is None else known


def found(address: str) -> Any:
    """The object at "package.module:name"."""
    module, _, name = address.partition(":")
    return getattr(import_module(module), name)
