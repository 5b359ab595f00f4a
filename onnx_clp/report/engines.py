"""What validation ran on, in words, and the models side by side on CPU and GPU as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_clp.document.run import ProviderRun, Report
from onnx_clp.report.wording import percent
from onnx_clp.text import one_line, shown

_RATES = ("acc", "asr", "ra")


def overruled(report: Report) -> str:
    """One line where the CPU took over from a GPU build under "auto"; empty otherwise."""
    engine = report.validation.engine
    if engine is None or not engine.overruled:
        return ""
    return f"validated on the CPU: {one_line(engine.overruled)} (--provider cpu asks for that without this line)"


def described(report: Report) -> str:
    """ONNX Runtime's build, the device and its driver; empty where nothing ran."""
    engine = report.validation.engine
    if engine is None:
        return ""
    driver = f", driver {engine.driver}" if engine.driver else ""
    return one_line(f"{engine.runtime} on {engine.device}{driver}")


def table(report: Report) -> Iterator[str]:
    """The comparison's rows, at most 65 columns wide, a headline first; nothing where none was asked for."""
    comparison = report.validation.comparison
    if comparison is None:
        return
    rated = any(run.rates for run in comparison.runs)
    yield f"{'model':<7} {'provider':<8} {'load s':>6} {'run ms':>8} {'error':>7}" + "".join(
        f" {name.upper():>7}" for name in _RATES if rated
    )
    for run in comparison.runs:
        yield _row(run, rated)
    for run in comparison.runs:
        if run.failure:
            yield f"{run.model} on {short(run)} did not run: {one_line(run.failure, 200)}"
    if comparison.note:
        yield one_line(comparison.note)


def _row(run: ProviderRun, rated: bool) -> str:
    milliseconds = None if run.run_seconds is None else 1000 * run.run_seconds
    error = "-" if run.error is None else f"{run.error:.1e}"
    text = f"{run.model:<7} {short(run):<8} {_seconds(run.load_seconds):>6} {_seconds(milliseconds):>8} {error:>7}"
    return text + "".join(f" {percent(getattr(run.rates, name, None)):>7}" for name in _RATES if rated)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def short(run: ProviderRun) -> str:
    """The provider's name without what all such names end in."""
    return shown(run.provider.removesuffix("ExecutionProvider"), 8)
