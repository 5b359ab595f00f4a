"""What the input and the written model cost to run: multiply-accumulates, and seconds where they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from onnx_clp.validation import macs
from onnx_clp.validation.measuring import Measured
from onnx_clp.validation.request import Workload
from onnx_clp.validation.session import Feeds, RunError
from onnx_clp.validation.terms import Terms

if TYPE_CHECKING:
    from onnx_clp.validation import latency

_SECONDS: Final = 2.0


def weigh(terms: Terms, original: Measured) -> Workload:
    """Both models' costs on the shapes of the first feed; unknown ones are None."""
    request, feed = terms.request, original.feeds[0]
    shapes = {name: tuple(array.shape) for name, array in feed.items()}
    before = terms.macs if shapes == terms.shapes else macs.count(request.original, shapes)
    after = before if request.written is None else macs.count(request.written, shapes)
    times = _times(terms, feed)
    if times is None:
        return Workload(shapes, before, after, None, None, 0, None)
    return Workload(shapes, before, after, times.before, times.after, times.turns, times.ratio)


def _times(terms: Terms, feed: Feeds) -> latency.Latency | None:
    request = terms.request
    if not request.latency or terms.reference:
        return None
    from onnx_clp.validation import latency

    try:
        return latency.compare(request.original, request.written or request.original, feed, _SECONDS)
    except RunError:  # what the CPU cannot run has no CPU latency
        return None
