"""Golden reports: what the tool says of many models under several settings, to compare before and after a change.

    python -m tools.golden write FOLDER         # every report as JSON, one file a model and setting
    python -m tools.golden write FOLDER --search  # also two searches for triggers (minutes)
    python -m tools.golden digests              # renew the committed digests after a wanted change

Two folders, written before and after a change, compare with `diff -r`. The digests are what the slow test compares:
they cover the analysis alone, as what ONNX Runtime computes differs from one processor to the next.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import ModelProto

from onnx_clp import CleanConfig, ClpError, clean
from tests import corpus
from tests.forms import TABLE
from tests.forms.build import Form

ROOT: Final = Path(__file__).parent.parent
DIGESTS: Final = ROOT / "tests" / "golden.json"
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "layers-all": {"layers": "all"},
    "caps": {"bound_activations": 2.5},
    "compact": {"compact": True},
    "gain": {"rule": "gain"},
}
SEARCHED: Final = ("models/resnet18_badnets.onnx", "models/resnet18_badnets_plain.folded.onnx")
# They differ from run to run, from machine to machine or with the release.
_UNSTABLE: Final = ("tool", "libraries", "seconds", "peak_memory")
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to report on: its name, and the path or the row of the table of forms it comes from."""

    name: str
    source: Path | Form

    def report(self, setting: Mapping[str, Any], *, validate: bool) -> dict[str, Any]:
        """The report as plain data, or the refusal in words; without what differs from run to run."""
        with tempfile.TemporaryDirectory() as folder:
            source = self._given(Path(folder))
            freeze = isinstance(self.source, Form) and self.source.freeze
            config = CleanConfig(validate=validate, freeze_inputs=freeze, provider="cpu", **setting)
            try:
                made = clean(source, config).report.to_dict()
            except ClpError as error:
                sentence = str(error).replace(str(source), self.name)
                return {"refused": type(error).__name__, "sentence": sentence}
        kept = {key: value for key, value in made.items() if key not in _UNSTABLE}
        if kept["input"] is not None:
            kept["input"]["path"] = self.name
        return kept

    def _given(self, folder: Path) -> Path | ModelProto:
        if isinstance(self.source, Path):
            return self.source
        model = self.source.make()
        if not self.source.external:
            return model
        path = folder / "model.onnx"
        onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
        return path


def zoo() -> Iterator[Subject]:
    """The models of this repository."""
    for path in sorted((ROOT / "models").glob("*.onnx")):
        yield Subject(f"models/{path.name}", path)


def real() -> Iterator[Subject]:
    """Real and exported models, where they lie on this machine."""
    for path in corpus.files():
        yield Subject(f"corpus/{path.relative_to(corpus.ROOT).as_posix()}", path)


def forms() -> Iterator[Subject]:
    """The table of forms."""
    for form in TABLE:
        yield Subject(f"forms/{form.id}", form)


def digest(subject: Subject) -> str:
    """Of the analysis of a model under every setting: the first 16 hex digits of a SHA-256."""
    reports = {name: rounded(subject.report(setting, validate=False)) for name, setting in SETTINGS.items()}
    text = json.dumps(reports, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def renewed(found: str, known: str) -> str:
    """What to keep of a model: its digest, or what was known if that holds it.

    Processors round float32 powers differently. Where a number lies on the border between two cut ones, a model has a
    digest of each, written by hand with "|" between.
    """
    return known if found in known.split("|") else found


def rounded(value: Any) -> Any:
    """Plain data with every float cut to six significant digits, which rounding in sums cannot reach."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return value


def write(folder: Path, *, search: bool) -> None:
    """Write every report, validated where the model is a file, into `folder`."""
    for subject in (*zoo(), *real(), *forms()):
        for name, setting in SETTINGS.items():
            _write(folder, subject, name, subject.report(setting, validate=isinstance(subject.source, Path)))
    for path in SEARCHED if search else ():
        subject = Subject(path, ROOT / path)
        _write(folder, subject, "invert", subject.report({"invert": True}, validate=True))


def _write(folder: Path, subject: Subject, name: str, report: Mapping[str, Any]) -> None:
    path = folder / subject.name.replace(" ", "_") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.golden", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--search", action="store_true")
    commands.add_parser("digests")
    given = parser.parse_args()
    if given.command == "write":
        write(given.folder, search=given.search)
    else:
        known = json.loads(DIGESTS.read_text(encoding="utf-8"))
        made = {one.name: renewed(digest(one), known.get(one.name, "")) for one in (*zoo(), *real(), *forms())}
        DIGESTS.write_text(json.dumps(made, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
