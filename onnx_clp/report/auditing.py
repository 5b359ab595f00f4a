"""An audit in words: what was looked at, what was found, what became of it."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.audit import Audit
from onnx_clp.document.run import Report
from onnx_clp.report.gauging import images, spelled
from onnx_clp.report.wording import plural, taken_out


def rows(report: Report) -> Iterator[str]:
    """One sentence a row; nothing where no audit was asked for."""
    audit = report.audit
    if audit is None:
        return
    if audit.left:
        yield f"cut short: {plural(audit.left, 'chain')} of thin kernels or beginnings of such not followed"
    if audit.ordinary is None:
        yield audit.note
        return
    dormant = sum(layer.dormant for layer in audit.layers)
    total = sum(layer.channels for layer in audit.layers)
    yield f"{dormant:,} of {total:,} channels fire on none of {images(audit.ordinary)}"
    if audit.note:
        yield f"not known: {audit.note}"
    elif audit.path is None:
        yield f"{plural(audit.driven, 'chain')} of thin kernels driven: none is a path; that is no proof"
    else:
        yield f"a path of {plural(len(audit.path.layers), 'value')} leads to class {audit.path.target}: see the finding"
    yield from _beside_paths(audit)
    taken = list(taken_out(audit))
    if audit.path is not None and not audit.removed + audit.capped:
        yield "nothing of the path was taken out"
    if taken:
        cost = "" if audit.removal is None else f"; the whole edit costs {spelled(audit.removal.loss)}"
        yield f"{', '.join(taken)}{cost}"


def _beside_paths(audit: Audit) -> Iterator[str]:
    if audit.quiet:
        may = "may be a gate" if len(audit.quiet) == 1 else "may be gates"
        yield f"{plural(len(audit.quiet), 'value')} from the input never moved and {may}: see the findings"
    if audit.contradicted:
        yield f"the statistics of {plural(len(audit.contradicted), 'normalisation')} contradict the weights"
    if audit.blocked:
        yield "no gradient of the class scores reaches the input: see the finding"
