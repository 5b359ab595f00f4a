"""The child's main: choose where to run, cap itself, search, answer.

What it writes are lines: `tick stage done total` while it works, then one line of JSON, the answer or the error.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx_clp.errors import ClpError, NotValidated, UnsupportedModelError, UsageError
from onnx_clp.inversion.request import SearchRequest, found_to_json
from onnx_clp.text import quoted
from onnx_clp.validation.request import error_to_json, memory_sentence
from onnx_clp.validation.worker import limit_memory, serve

FAILED = "not searched"
INSTEAD = "go without --invert and --synthesize"


def main(parent: int, cap: int) -> None:
    """Read a request from stdin, write the answer; `cap` is the memory cap in bytes."""
    serve(parent, lambda text, tell: answer(text, cap, tell))


def answer(text: str, cap: int, tell: Callable[[str], None]) -> str:
    """The JSON answer to the JSON request `text`; every documented error becomes an answer too."""
    request = SearchRequest.from_json(text)
    shown = quoted(request.original)
    try:
        return _search(request, cap, tell)
    except UsageError as error:
        return error_to_json(error)
    except UnsupportedModelError as error:
        return error_to_json(UnsupportedModelError(f"{shown}: {FAILED} because {error}"))
    except ClpError as error:
        return error_to_json(NotValidated(f"{shown}: {FAILED} because {error}"))
    except MemoryError:
        return error_to_json(NotValidated(memory_sentence(request, cap, FAILED, INSTEAD)))
    except RecursionError:
        return error_to_json(NotValidated(f"{shown}: {FAILED} because its graphs are nested too deep"))


def _search(request: SearchRequest, cap: int, tell: Callable[[str], None]) -> str:
    from onnx_clp.inversion.search import search
    from onnx_clp.validation.provider import choose

    engine = choose(request.provider)
    if not engine.on_gpu:
        limit_memory(cap)

    def tick(stage: str, done: int, total: int) -> None:
        tell(f"tick {stage} {done} {total}\n")

    return found_to_json(search(request, engine, tick))
