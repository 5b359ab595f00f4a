# PYTHON_ARGCOMPLETE_OK
"""The command line: arguments to a run, its result to the terminal, errors to exit codes.

Nothing else in the package prints or exits. stdout carries the result, stderr everything else.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from onnx_clp.cli.arguments import Arguments, parse
from onnx_clp.cli.options import main_parser
from onnx_clp.cli.streams import is_terminal, wants_color, width
from onnx_clp.errors import GATE_TRIPPED, INTERNAL_ERROR, ClpError, Interrupted, SaveError, UsageError
from onnx_clp.process import signals
from onnx_clp.text import one_line, shown_path

if TYPE_CHECKING:
    from onnx_clp.document.run import Report
    from onnx_clp.process.progress import Progress
    from onnx_clp.report.files import ReportFiles
    from onnx_clp.report.gate import Key

__all__ = ["console", "main", "main_parser"]

PROGRAM = "onnx-clp"
_BATCH = "onnx_clp.batch.command"
_WIDEST_MESSAGE = 2000
_log = logging.getLogger("onnx_clp")


def console() -> NoReturn:
    """Run as a program: safe streams, signals that clean up after themselves, an exit status."""
    # Many small products gain nothing from OpenBLAS's threads, which cost memory and spin while they wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _make_streams_safe()
    _complete()
    batch = _means_batch(sys.argv[1:])
    if not batch:
        # One run leaves next to nothing in cycles: its peak is the same without looking for them, and it is faster.
        gc.disable()
    try:
        try:
            signals.catch()
            status = main(sys.argv[1:])
        finally:
            signals.ignore()
    except Interrupted as error:
        status = error.exit_code
    _flush_stdout()
    if batch:  # its launchers have threads and workers of their own to end
        sys.exit(status)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit without taking the interpreter apart: that costs a tenth of a small run, and every file is in its place."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def _complete() -> None:
    """Answer a shell that asks how the command line goes on, and exit; argcomplete's variable says so."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        sys.exit(1)
    argcomplete.autocomplete(main_parser())


def main(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit status; never exits."""
    try:
        return _batch(argv[1:]) if _means_batch(argv) else _run(parse(argv))
    except SystemExit as stop:  # argparse has printed --help or --version
        return stop.code if isinstance(stop.code, int) else 0
    except ClpError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT
    except MemoryError:
        _say("error: not enough memory for this model; nothing was written")
        return ClpError.exit_code
    except OSError as error:
        _say(f"error: {_system_error(error)}; nothing was written")
        return ClpError.exit_code
    except Exception as error:
        _log.debug("traceback of the internal error", exc_info=True)
        _say(f"internal error: {type(error).__name__}: {error} (please report it, with the output of -vv)")
        return INTERNAL_ERROR


def _system_error(error: OSError) -> str:
    from onnx_clp.file.door import current_folder_is_gone

    if isinstance(error, FileNotFoundError) and current_folder_is_gone():
        return "the current folder has been deleted; change to another one"
    what = error.filename if isinstance(error.filename, str) else "the system"
    return f"{what}: {error.strerror or error}"


def _means_batch(argv: Sequence[str]) -> bool:
    # A model may be called "batch"; then this word is the model, as it always was.
    return argv[:1] == ["batch"] and (not os.path.lexists("batch") or Path("batch").is_dir())


def _batch(argv: Sequence[str]) -> int:
    batch = import_module(_BATCH)  # it imports this package, for the parser
    with _logging(0):
        return int(batch.run(argv, batch.Sinks(lambda text: _print(_defused(text)), _say, is_terminal(sys.stderr))))


def _run(arguments: Arguments) -> int:
    from onnx_clp.report.files import ReportFiles

    _refuse_folder(arguments)
    for said in (arguments.configured, *arguments.warnings):
        if said:
            _say(said)
    with _logging(arguments.verbosity):
        files = ReportFiles(arguments.source, arguments.reports, arguments.sarif, arguments.attestations)
        files.check()
        baseline = _baseline(arguments)
        from onnx_clp.run import pipeline

        try:
            with contextlib.ExitStack() as bar:
                report = pipeline.run(
                    arguments.source,
                    arguments.destination,
                    arguments.config,
                    overwrite=arguments.overwrite,
                    progress=bar.enter_context(_progress(arguments)),
                    before_write=lambda report: _given(report, files, arguments, bar),
                    beside=files.targets(),
                )
            return _gate(report, arguments, baseline)
        finally:
            _discard(files)


def _refuse_folder(arguments: Arguments) -> None:
    if arguments.source.is_dir():
        line = shlex.join(["onnx-clp", "batch", str(arguments.source), str(arguments.destination or "OUT")])
        raise UsageError(f"{arguments.source}: is a folder; {line} takes every model in it")


def _given(
    report: Report, files: ReportFiles, arguments: Arguments, bar: contextlib.ExitStack
) -> contextlib.AbstractContextManager[None]:
    """Give the result while nothing is in place: where stdout or a report cannot take it, nothing is written."""
    bar.close()
    files.stage(report)
    _tell_of_fallback(report, arguments)
    _print_result(report, arguments)
    return files.placed()


def _tell_of_fallback(report: Report, arguments: Arguments) -> None:
    from onnx_clp.report.engines import overruled

    if (said := overruled(report)) and not arguments.quiet:
        _say(said)


def _discard(files: ReportFiles) -> None:
    try:
        files.discard()
    except Interrupted:  # it came before the first step was taken, or between two; there is no second one
        files.discard()
        raise


def _baseline(arguments: Arguments) -> frozenset[Key]:
    if arguments.baseline is None:
        return frozenset()
    from onnx_clp.report.gate import read_baseline

    return read_baseline(arguments.baseline)


def _print_result(report: Report, arguments: Arguments) -> None:
    if arguments.json:
        _print(_defused(report.to_json()))
    elif not arguments.quiet:
        from onnx_clp.report import terminal

        colored = wants_color(arguments.color)
        verbose = arguments.verbosity > 0
        _print(terminal.render(report, width=width(), verbose=verbose, color=colored))


def _defused(json_text: str) -> str:
    # "##[" anywhere in a line is a command to some continuous-integration logs; it can only be in a string.
    return json_text.replace("##[", "##\\u005b")


def _gate(report: Report, arguments: Arguments, baseline: frozenset[Key]) -> int:
    if not arguments.fail_on:
        return 0
    from onnx_clp.report.gate import judge

    result = judge(report, arguments.fail_on, baseline)
    if result.tripped or not arguments.quiet:
        _say(f"{shown_path(arguments.source)}: {result.sentence}")
    return GATE_TRIPPED if result.tripped else 0


@contextlib.contextmanager
def _progress(arguments: Arguments) -> Iterator[Callable[[Progress], None] | None]:
    if arguments.quiet or arguments.verbosity or not is_terminal(sys.stderr):
        yield None
        return
    from onnx_clp.report.bar import ProgressBar

    with ProgressBar() as bar:
        yield bar


@contextlib.contextmanager
def _logging(verbosity: int) -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"{PROGRAM}: %(levelname)s: %(message)s"))
    before = _log.level, _log.propagate
    _log.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])
    _log.propagate = False
    _log.addHandler(handler)
    try:
        yield
    except Exception:
        _log.debug("the run ended with", exc_info=True)
        raise
    finally:
        _log.removeHandler(handler)
        _log.level, _log.propagate = before


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class's name)
        return one_line(super().formatMessage(record), _WIDEST_MESSAGE)


def _print(text: str) -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        _forget_stdout()
        raise SaveError(f"cannot write to standard output: {error.strerror}; free space there, or use -q") from error


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"{PROGRAM}: {one_line(text, _WIDEST_MESSAGE)}", file=sys.stderr, flush=True)


def _forget_stdout() -> None:
    # What is still buffered would raise again when the interpreter closes the stream.
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def _flush_stdout() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _forget_stdout()


def _make_streams_safe() -> None:
    if os.name == "nt":
        os.system("")  # switches the old console to ANSI sequences
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
