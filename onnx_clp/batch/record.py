"""What is to be done with one model, and what came of it: plain data that travels and goes into the journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

WORST_FIRST = (5, 4, 3, 2, 1, 0)
"""Exit codes of single runs, the worst first; a batch ends with the worst of its models'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How one model ended.

    Attributes:
        name: the model's path below IN, with forward slashes; its output has the same below OUT.
        source: the model's absolute path or URL.
        key: SHA-256 over the model, its external data, the options and the tool's version; empty where the
            run may not be reused.
        sha256: of the model file itself; empty where it could not be read.
        exit_code: of the single run (0 to 5).
        verdict: as in the report; empty without one.
        pruned, judged: channels.
        found: what makes it suspicious or unusual, a few words each, the strongest first; channels left out.
        loss: the predicted loss of what was done (a share); None where it is not known.
        picture: the trigger that was found as a data address of a small PNG; "" without one.
        seconds: wall-clock time of the whole job.
        error: one line; empty for exit codes 0 and 1.
        files: what the run wrote, by name below OUT, with its SHA-256.
        kept: nothing was run, this is the result of an earlier batch.
    """

    name: str
    source: str
    exit_code: int
    key: str = ""
    sha256: str = ""
    verdict: str = ""
    pruned: int = 0
    judged: int = 0
    found: tuple[str, ...] = ()
    loss: float | None = None
    picture: str = ""
    seconds: float = 0.0
    error: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict(r.to_dict()) == r`."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain | {"files": dict(self.files), "found": list(self.found)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; keys it does not know are left out.

        Raises:
            TypeError: a value is missing or of another type.
        """
        known = {f.name: plain[f.name] for f in dataclasses.fields(cls) if f.name in plain}
        if "found" in known:
            known["found"] = tuple(known["found"])
        record = cls(**known)
        texts = (record.name, record.source, record.key, record.sha256, record.verdict, record.error, record.picture)
        numbers = (record.exit_code, record.pruned, record.judged, record.seconds, record.loss or 0.0)
        if not all(isinstance(text, str) for text in (*texts, *record.found)) or not isinstance(record.files, dict):
            raise TypeError("not a record")
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise TypeError("not a record")
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One model to process, complete in itself: it may be sent to another machine.

    Attributes:
        name, source: as in `Record`.
        out: the absolute folder or the URL that outputs go to.
        options: words for the single run.
        salt: digest of everything but the model that decides the result.
        views: suffixes of the reports wanted beside the JSON one: ".html", ".sarif", ".in-toto.json".
        write: whether a model is to be written.
        known: what an earlier batch recorded of this model.
        retry: run again what failed for a reason that lies in the model, too.
        max_size: largest model fetched from a URL, in bytes.
        seconds: cap on the whole run, wall-clock time.
        batch: which batch this is part of.
    """

    name: str
    source: str
    out: str
    options: tuple[str, ...]
    salt: str
    views: tuple[str, ...] = ()
    write: bool = True
    known: Record | None = None
    retry: bool = False
    max_size: int = 1 << 36
    seconds: float = 3600.0
    batch: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names below OUT of everything this job writes, external data left out."""
        model = (self.name,) if self.write else ()
        return (*model, *(self.name + suffix for suffix in (".json", *self.views)))


def worst(codes: set[int]) -> int:
    """The worst of some exit codes, by `WORST_FIRST`; 0 for none."""
    return next((code for code in WORST_FIRST if code in codes), 0)
