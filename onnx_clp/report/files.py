"""Report files: rendered before the model is written, put in place after it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_clp.errors import SaveError, UsageError
from onnx_clp.process import signals

if TYPE_CHECKING:
    from onnx_clp.document.run import Report


@dataclass(slots=True)
class ReportFiles:
    """The files asked for: `check` first, then `stage`, then `placed`; `discard` whatever happened.

    `source` is the model, for messages. An existing file is replaced only if it holds a report: the model's
    external data may have any name.

    A staged file lies beside its target under a temporary name, so that putting it in place is one rename
    and a report that cannot be rendered or stored is known before the model is written.
    """

    source: Path
    reports: Sequence[Path]
    sarif: Path | None
    attestations: Sequence[tuple[str, Path]] = ()
    _staged: list[tuple[Path, Path]] = field(default_factory=list)

    def check(self) -> None:
        """Refuse early what cannot work.

        Raises:
            UsageError: a target is a directory, lies in a folder that does not exist, is a file that holds
                no report, or needs an extra that is not installed.
        """
        for path in self.targets():
            if path.is_dir():
                raise UsageError(f"{path}: is a directory; name a file for the report")
            if not path.absolute().parent.is_dir():
                raise UsageError(f"{path}: the folder of the report does not exist; create it first")
            if os.path.lexists(path) and not _holds_a_report(path):
                raise UsageError(
                    f"{path}: holds no report, so it is not replaced (a data file of {self.source}?); name another file"
                )
        if any(_is_html(path) for path in self.reports):
            from onnx_clp.report import html

            html.require_extra()

    def stage(self, report: Report) -> None:
        """Render every file and store it beside its target.

        Raises:
            SaveError: a file cannot be stored.
        """
        self.discard()
        for path in self.targets():
            text = self._render(path, report)
            target = Path(os.path.realpath(path))
            temporary = _beside(target)
            self._staged.append((temporary, path))
            _store(temporary, text, path)

    @contextlib.contextmanager
    def placed(self) -> Iterator[None]:
        """Put every file in place; what lay there before is back where that, or the block, fails.

        Raises:
            SaveError: a file cannot be put in place.
        """
        kept: list[_Kept] = []
        with signals.held():
            try:
                while self._staged:
                    kept.append(_put(*self._staged[0]))
                    del self._staged[0]
                yield
            except BaseException:
                for one in reversed(kept):
                    one.put_back()
                raise
            for one in kept:
                one.forget()

    def discard(self) -> None:
        """Remove what was staged and not committed."""
        with signals.held():
            for temporary, _ in self._staged:
                with contextlib.suppress(OSError):
                    temporary.unlink()
            self._staged.clear()

    def targets(self) -> list[Path]:
        """Every path that will be written."""
        sarif = [] if self.sarif is None else [self.sarif]
        return [*self.reports, *sarif, *(path for _, path in self.attestations)]

    def _render(self, path: Path, report: Report) -> str:
        if path == self.sarif:
            from onnx_clp.report import sarif

            return sarif.render(report)
        for form, asked in self.attestations:
            if path == asked:
                from onnx_clp.report import attestation

                return attestation.render(form, report)
        if _is_html(path):
            from onnx_clp.report import html

            return html.render(report)
        return report.to_json()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file put in place, and a second name of the one that lay there before; None where there was none."""

    target: Path
    before: Path | None

    def put_back(self) -> None:
        """The file that was at the target before, or nothing; a failure is passed over."""
        with contextlib.suppress(OSError):
            if self.before is None:
                self.target.unlink()
            else:
                self.before.replace(self.target)

    def forget(self) -> None:
        if self.before is not None:
            with contextlib.suppress(OSError):
                self.before.unlink()


def _put(temporary: Path, path: Path) -> _Kept:
    target = Path(os.path.realpath(path))
    before: Path | None = None
    try:
        if target.exists():
            before = _beside(target)
            _keep(target, before)
        temporary.replace(target)
    except OSError as error:
        if before is not None:
            with contextlib.suppress(OSError):
                before.unlink()
        raise SaveError(f"{path}: cannot write the report: {error.strerror}") from error
    return _Kept(target, before)


def _keep(target: Path, name: Path) -> None:
    try:
        name.hardlink_to(target)
    except OSError:  # a disk without hard links
        shutil.copy2(target, name)


def _beside(target: Path) -> Path:
    return target.with_name(f".onnx-clp-{os.urandom(8).hex()}.tmp")


def _is_html(path: Path) -> bool:
    return path.suffix.lower() == ".html"


def _holds_a_report(path: Path) -> bool:
    """Whether the file begins as a report of its suffix does; an empty one, or a dangling link, will do."""
    if not path.exists():
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            start = stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError:
        return False
    if path.suffix.lower() == ".md":  # a card of somebody's own begins alike
        return not start or b"onnx-clp" in start
    return not start or start.startswith(b"<!doctype html" if _is_html(path) else b"{")


def _store(temporary: Path, text: str, path: Path) -> None:
    try:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise SaveError(f"{path}: cannot write the report: {error.strerror}") from error
