"""A sweep as lines of text: one a threshold, the knee and the run's own u marked."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.run import Report, Sweep, SweepPoint
from onnx_clp.report.wording import percent, plural
from onnx_clp.text import one_line

KNEE = "where the count bends: the u farthest below the straight line from the first count to the last"
_RATES = ("acc", "asr", "ra")


def table(report: Report) -> Iterator[str]:
    """The sweep's rows, at most 64 columns wide, a headline first; nothing where there was no sweep."""
    sweep = report.sweep
    if sweep is None:
        return
    measured = any(point.prediction for point in sweep.points)
    rated = any(point.rates for point in sweep.points)
    yield _headline(measured, rated)
    for point in sweep.points:
        yield _row(point, report, measured, rated)
    yield _remark(sweep)
    for failed in (point for point in sweep.points if point.failure):
        yield f"u = {failed.u:g} could not be measured: {one_line(failed.failure, 200)}"


def _headline(measured: bool, rated: bool) -> str:
    text = f"{'u':>6} {'pruned':>7} {'layers':>6}"
    text += f" {'loss':>7} {'up to':>7}" if measured else ""
    return text + "".join(f" {name.upper():>7}" for name in _RATES if rated)


def _row(point: SweepPoint, report: Report, measured: bool, rated: bool) -> str:
    text = f"{point.u:>6g} {point.channels:>7,} {point.layers:>6,}"
    if measured:
        loss = point.prediction.loss if point.prediction else None
        text += f" {percent(loss.share if loss else None):>7} {percent(loss.high if loss else None):>7}"
    if rated:
        text += "".join(f" {percent(getattr(point.rates, name, None)):>7}" for name in _RATES)
    return text + "".join(f" {mark}" for mark in marks(point, report))


def marks(point: SweepPoint, report: Report) -> list[str]:
    """What is said of a threshold: that it is the knee, that it is the one the run was for."""
    knee = report.sweep is not None and point.u == report.sweep.knee
    return ["knee"] * knee + ["-u"] * (point.u == report.options.get("u"))


def _remark(sweep: Sweep) -> str:
    different = f"{plural(sweep.distinct, 'different set')} of channels"
    if sweep.knee is None:
        return f"{different}; no knee: the count does not bend"
    return f"{different}; knee at u = {sweep.knee:g}: {KNEE}"
