"""An atheris harness over everything that looks at an untrusted file before anything is proven or written.

    python -m tools.fuzz.front_door --seed-corpus CORPUS
    python -m tools.fuzz.front_door CORPUS -max_total_time=600 -timeout=20 -rss_limit_mb=2048

One execution: the bytes become a file, which is opened, parsed, checked, analysed and put together again as it
would be written. A refusal (`ClpError`) is a right answer; any other exception, a hang and a leak are findings.
Inputs are changed by bytes (libFuzzer) or by fields of the message (`tests.mutants`), half and half.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["onnx_clp"]):
    from onnx_clp import CleanConfig, ClpError
    from onnx_clp.modelfile.reader import read
    from onnx_clp.modelfile.staging import complete
    from onnx_clp.run.analysis import analyse
from tests.mutants import mutate

CONFIG = CleanConfig(u=0.5, layers="all", validate=False, max_size=1 << 20)
_FOLDER = tempfile.TemporaryDirectory(prefix="onnx-clp-fuzz-")
_FILE = Path(_FOLDER.name) / "model.onnx"


def one_input(data: bytes) -> None:
    """Read, analyse and reassemble one file."""
    _FILE.write_bytes(data)
    try:
        with read(_FILE, CONFIG.max_size) as file:
            analysis = analyse(file, CONFIG, lambda *_: None)
            complete(file, analysis.written)
    except ClpError:
        return


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutator for libFuzzer: its own on bytes, or one on the fields of the message."""
    if seed & 1:
        new = mutate(data, seed)
        if len(new) <= max_size:
            return new
    return bytes(atheris.Mutate(data, max_size))


def write_corpus(folder: Path) -> None:
    """Write the models of the table of forms, one file each, named by content."""
    from tests.forms import TABLE

    folder.mkdir(parents=True, exist_ok=True)
    for form in TABLE:
        data = form.make().SerializeToString()
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def main() -> None:
    """Fuzz, or write the first corpus."""
    if sys.argv[1:2] == ["--seed-corpus"]:
        write_corpus(Path(sys.argv[2]))
        return
    atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
