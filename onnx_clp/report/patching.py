"""A bound on patches in words."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.patches import PatchBound, PatchReach
from onnx_clp.document.run import Report
from onnx_clp.report.gauging import images
from onnx_clp.text import shown


def rows(report: Report) -> Iterator[str]:
    """One sentence a row; nothing where no bound was asked for."""
    found = report.patch_bound
    if found is None:
        return
    if found.before is None or found.ordinary is None or found.pixels is None:
        yield f"not known: {found.note}"
        return
    yield _moved(found, found.after or found.before)
    low, high = found.pixels
    yield (
        f"it holds for all images of pixels in {low:g}..{high:g} and all places of the patch; a typical margin is the "
        f"median on {images(found.ordinary)}"
    )


def _moved(found: PatchBound, last: PatchReach) -> str:
    first = f"a {found.size} × {found.size} patch"
    was = "" if found.after is None or found.before is None else f" (before: {_told(found.before)})"
    if last.margins is None:
        return f"{first}: {_told(last)}{was}"
    kind = (
        "a bound, but vacuous: above 1 it rules nothing out" if last.margins > 1 else "a bound: no typical image turns"
    )
    return f"{first} moves class scores against each other by at most {_told(last)}{was}: {kind}"


def _told(reach: PatchReach) -> str:
    if reach.moves is None:
        return f"no bound: {shown(reach.stopped, 80)}"
    if reach.margins is None:
        return "no bound in margins: ordinary images have none"
    return f"{spelled(reach.margins)} typical margins"


def spelled(times: float) -> str:
    """A bound rounded up: "0.41", "8.8", "4,100", "3.3e+08"."""
    from math import ceil, floor, log10

    if times <= 0:
        return "0"
    step = 10.0 ** (floor(log10(times)) - 1)
    rounded = ceil(times / step) * step
    return f"{rounded:.1e}" if rounded >= 1e6 else f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"
