"""The child's side of a search: choose where to run, cap this process, search.

What it sends while it works are lines `tick stage done total`.
"""

from __future__ import annotations

from onnx_clp.inversion.request import Found, SearchRequest
from onnx_clp.process.serve import Send, limit_memory


def work(request: SearchRequest, cap: int, send: Send) -> Found:
    """Search the request's model within `cap` bytes of memory; errors as `launch.search`."""
    from onnx_clp.inversion.search import search
    from onnx_clp.validation.provider import choose

    engine = choose(request.limits.provider)
    if not engine.on_gpu:
        limit_memory(cap)
    return search(request, engine, lambda stage, done, total: send(f"tick {stage} {done} {total}"))
