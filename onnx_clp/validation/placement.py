"""Which provider took a model's nodes: a session that leads with CUDA may still leave all of them to the CPU."""

from __future__ import annotations

from onnx_clp.document.validation import EngineFacts
from onnx_clp.errors import UsageError
from onnx_clp.text import quoted
from onnx_clp.validation.measuring import Measured
from onnx_clp.validation.terms import Terms


def really_ran(terms: Terms, original: Measured) -> EngineFacts:
    """What the input model ran on.

    Raises:
        UsageError: the provider was named, and took none of the model's nodes.
    """
    engine, leader = terms.engine, terms.engine.providers[0]
    overruled = engine.overruled
    if engine.on_gpu and original.placed and not original.placed.get(leader):
        took = " and ".join(_short(name) for name in original.placed)
        overruled = f"{_short(leader)} took none of the model's nodes, {took} ran them"
        if terms.request.limits.provider != "auto":
            shown = quoted(terms.request.original)
            raise UsageError(f"{shown}: --provider {terms.request.limits.provider}: {overruled}; name another, or auto")
    gpu = engine.gpu if engine.on_gpu else None
    return EngineFacts(
        runtime=engine.runtime,
        device="CPU" if not engine.on_gpu else "a GPU that its driver does not name" if gpu is None else gpu.name,
        driver="" if gpu is None else f"{gpu.driver}, CUDA {gpu.cuda}",
        placed=dict(original.placed),
        overruled=overruled,
    )


def note_of(terms: Terms, ran: EngineFacts) -> str:
    """The engine's note, and on a GPU how many nodes it took."""
    engine = terms.engine
    if not engine.on_gpu or not ran.placed:
        return engine.note
    leader = engine.providers[0]
    share = f"{ran.placed.get(leader, 0):,} of {sum(ran.placed.values()):,} nodes on {_short(leader)}"
    return f"{engine.note}; {share}"


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")
