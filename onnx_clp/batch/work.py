"""One model's job: is it done already? if not, run it, and account for what it wrote.

`do` takes plain data and gives plain data, so it runs wherever this package is installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from onnx_clp.batch import launch
from onnx_clp.batch.destinations import Destination, LocalDestination, RemoteDestination, filesystem, is_url, place
from onnx_clp.batch.fingerprint import Fingerprint, data_file, data_names, digest, fingerprint
from onnx_clp.batch.gist import gist
from onnx_clp.batch.record import WORST_FIRST, Record, Task
from onnx_clp.errors import GATE_TRIPPED, INTERNAL_ERROR, ClpError, LoadError, NotValidated, UsageError
from onnx_clp.file.file_names import is_own_data
from onnx_clp.text import one_line, shown, shown_path

SETTLED = frozenset((0, GATE_TRIPPED))
KEPT = SETTLED | {3, 4}
"""Exit codes that lie in the model. A refusal is quick to repeat and its cause may have gone (a full disk)."""

_PREFIX = re.compile(r"^onnx-clp: (internal error: |error: )?")


@dataclass(frozen=True, slots=True)
class _Shop:
    """Where one run works: the model, the folder outputs appear in, the folder names are relative to."""

    source: Path
    outputs: Path
    folder: Path | None


def do(job: Task) -> Record:
    """Process one model; whatever happens to it is in the record.

    Raises:
        Stopped: the batch was stopped.
    """
    start = time.monotonic()
    try:
        record = _do(job)
    except launch.Stopped:
        raise
    except ClpError as error:
        record = _failed(job, error.exit_code, str(error))
    except (OSError, ValueError) as error:
        record = _failed(job, UsageError.exit_code, f"{shown_path(job.source)}: {error}")
    except Exception as error:
        record = _failed(job, INTERNAL_ERROR, f"{type(error).__name__}: {error}")
    return dataclasses.replace(record, seconds=round(time.monotonic() - start, 3))


def _failed(job: Task, code: int, text: str, **facts: Any) -> Record:
    return Record(name=job.name, source=job.source, exit_code=code, error=one_line(text), **facts)


def _do(job: Task) -> Record:
    outputs = place(job.out)
    with _shop(job, outputs) as shop:
        try:
            mark = fingerprint(shop.source)
        except (OSError, ValueError, LoadError):
            mark = Fingerprint("", 0)  # the run itself says best why the file cannot be read
        key = mark.key(job.salt) if mark.sha256 else ""
        known = job.known
        if known is not None and _stands(known, key, job, outputs):
            return dataclasses.replace(known, source=job.source, kept=True)
        record = _run(job, shop, mark, key)
        if known is not None and job.write and record.exit_code not in SETTLED:
            _remove_stale(known, outputs)
        return _uploaded(record, shop, outputs)


def _stands(known: Record, key: str, job: Task, outputs: Destination) -> bool:
    if not key or known.key != key or known.exit_code not in (SETTLED if job.retry else KEPT):
        return False
    return all(outputs.digest(name) == sha256 for name, sha256 in known.files.items())


def _remove_stale(known: Record, outputs: Destination) -> None:
    """What an earlier input or earlier options gave must not pass for this one's result."""
    own = [name for name, sha256 in known.files.items() if outputs.digest(name) == sha256]
    data = [name for name in own if is_own_data(Path(known.name), Path(name).name)]
    outputs.remove([name for name in own if name not in data])
    outputs.remove_unreferenced(known.name, data)


@contextlib.contextmanager
def _shop(job: Task, outputs: Destination) -> Iterator[_Shop]:
    if isinstance(outputs, LocalDestination) and not is_url(job.source):
        yield _Shop(Path(job.source), outputs.folder, None)
        return
    with tempfile.TemporaryDirectory(prefix="onnx-clp-batch-") as scratch:
        folder = Path(scratch)
        source = _fetched(job, folder / "in") if is_url(job.source) else Path(job.source)
        target = outputs.folder if isinstance(outputs, LocalDestination) else folder / "out"
        yield _Shop(source, target, folder)


def _fetched(job: Task, folder: Path) -> Path:
    """The model and its data files, brought into `folder`."""
    system, path = filesystem(job.source)
    local = folder / PurePosixPath(job.name)
    left = _get(system, path, local, job, job.max_size)
    for name in sorted(data_names(local)):
        target = Path(os.path.normpath(local.parent / name))
        if not target.is_relative_to(local.parent) or data_file(local, name) is not None:
            continue
        with contextlib.suppress(FileNotFoundError):  # the run says best what is missing
            left = _get(system, f"{path.rpartition('/')[0]}/{name}", target, job, left)
    return local


def _get(system: Any, path: str, local: Path, job: Task, most: int) -> int:
    try:
        size = int(system.size(path) or 0)
        if size > most:
            raise LoadError(f"{shown(job.source)}: larger than --max-size; it was not fetched")
        local.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(local))
    except (ClpError, FileNotFoundError):
        raise
    # Every protocol has a library of its own, with errors of its own.
    except Exception as error:
        raise LoadError(f"{shown(job.source)}: cannot be fetched: {type(error).__name__}: {error}") from error
    return most - size


def _run(job: Task, shop: _Shop, mark: Fingerprint, key: str) -> Record:
    (shop.outputs / job.name).parent.mkdir(parents=True, exist_ok=True)
    ending = launch.run(_words(job, shop), shop.folder, job.seconds, job.batch)
    error = _PREFIX.sub("", ending.said)
    if ending.late:
        error = f"{shown_path(job.source)}: took longer than {job.seconds:g} s; allow more with --model-timeout"
        return _failed(job, NotValidated.exit_code, error, key=key, sha256=mark.sha256)
    if ending.code not in WORST_FIRST:
        return _failed(job, INTERNAL_ERROR, f"{shown_path(job.source)}: {_odd(ending.code)} {error}".rstrip())
    if ending.code not in SETTLED:
        return _failed(job, ending.code, error, key=key, sha256=mark.sha256)
    return _reported(job, shop, mark, key, ending.code)


def _odd(code: int) -> str:
    from onnx_clp.process.interpreter import signal_name

    return f"the process was ended by {signal_name(-code)};" if code < 0 else f"the process ended with status {code};"


def _words(job: Task, shop: _Shop) -> list[str]:
    def named(path: Path) -> str:
        # Reports name files as they were given, and a scratch folder's name means nothing to anyone.
        inside = shop.folder is not None and path.is_relative_to(shop.folder)
        return f"./{path.relative_to(shop.folder).as_posix()}" if inside and shop.folder else str(path)

    # A settings file where the process happens to run is not part of the key.
    words = [named(shop.source), "--no-config", *job.options, "--quiet"]
    if job.write:
        words += [named(shop.outputs / job.name), "--overwrite"]
    for suffix in (".json", *job.views):
        words.append(f"{_option(suffix)}={named(shop.outputs / (job.name + suffix))}")
    return words


def _option(suffix: str) -> str:
    """The option of a single run that writes what has the suffix."""
    form = suffix.removeprefix(".").rpartition(".")[0]
    return f"--attestation={form}" if form else "--sarif" if suffix == ".sarif" else "--report"


def _reported(job: Task, shop: _Shop, mark: Fingerprint, key: str, code: int) -> Record:
    report = json.loads((shop.outputs / (job.name + ".json")).read_bytes())
    summary, read = report["summary"], report["input"]
    # The run saw another file, or data files that its fingerprint does not cover: do not rely on the key.
    if (read["sha256"], read["bytes"]) != (mark.sha256, mark.size):
        key = ""
    return Record(
        name=job.name,
        source=job.source,
        exit_code=code,
        key=key,
        sha256=read["sha256"],
        verdict=summary["verdict"],
        pruned=summary["channels_pruned"],
        judged=summary["channels_judged"],
        **gist(report),
        files={name: digest(shop.outputs / name) for name in _written(job, shop)},
    )


def _written(job: Task, shop: _Shop) -> list[str]:
    names = list(job.targets)
    if job.write:
        model, beside = shop.outputs / job.name, PurePosixPath(job.name).parent
        names += sorted(str(beside / one) for one in data_names(model) if is_own_data(model, one))
    return names


def _uploaded(record: Record, shop: _Shop, outputs: Destination) -> Record:
    if isinstance(outputs, RemoteDestination):
        for name in sorted(record.files, key=lambda one: one == record.name):  # the model last
            outputs.put(shop.outputs / name, name)
    return record
