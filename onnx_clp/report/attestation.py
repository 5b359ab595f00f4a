"""What a run found, in forms that other programs file beside a model: in-toto, CycloneDX and a model card.

None of them is signed here: signing stays with the tools that do it for models and for attestations.

in-toto: Statement v1 with the predicate test-result v0.1 (in-toto Attestation Framework).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from onnx_clp.document.run import Evidence, FileFacts, Report, Verdict
from onnx_clp.errors import UsageError
from onnx_clp.report import bom, model_card
from onnx_clp.report.wording import brief
from onnx_clp.text import one_line, shown

Json = dict[str, Any]

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://in-toto.io/attestation/test-result/v0.1"
_MOST_TESTS: Final = 500


def in_toto(report: Report) -> str:
    """The in-toto Statement: the input and, where one was written, the output; tests by name, and the options.

    `FAILED` stands for a file that is suspicious. `WARNED` is one that is unusual, that could not be judged, or whose
    rewrite was not proven. `PASSED` says that these tests found nothing, which is not that the file holds nothing.
    """
    tests = list(_tests(report))[:_MOST_TESTS]
    named = {word: [name for outcome, name in tests if outcome == word] for word in ("passed", "warned", "failed")}
    predicate = {
        "result": "FAILED" if named["failed"] else "WARNED" if named["warned"] else "PASSED",
        "configuration": [_options(report)],
        **{f"{word}Tests": names for word, names in named.items() if names},
    }
    statement = {
        "_type": STATEMENT,
        "subject": [_descriptor(role, facts) for role, facts in _files(report)],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    return json.dumps(statement, indent=2) + "\n"


def _files(report: Report) -> Iterator[tuple[str, FileFacts]]:
    if report.input is not None:
        yield "input", report.input
    if report.output is not None:
        yield "output", report.output


def _descriptor(role: str, facts: FileFacts) -> Json:
    return {
        "name": shown(facts.path, 500),
        "digest": {"sha256": facts.sha256},
        "annotations": {"role": role, "bytes": facts.bytes},
    }


def _options(report: Report) -> Json:
    content = json.dumps({"tool": report.tool, "options": report.to_dict()["options"]}, sort_keys=True).encode("ascii")
    return {
        "name": "onnx-clp options",
        "digest": {"sha256": hashlib.sha256(content).hexdigest()},
        "mediaType": "application/json",
        "content": base64.b64encode(content).decode("ascii"),
    }


def _tests(report: Report) -> Iterator[tuple[str, str]]:
    """Each test as its outcome and its name, the subject in front."""
    for one in report.evidence:
        yield ("failed" if one.verdict is Verdict.SUSPICIOUS else "warned"), f"input: {_named(one)}"
    if report.summary.verdict is Verdict.COULD_NOT_JUDGE:
        yield "warned", "input: could not judge"
    elif not report.evidence:
        for what in report.looked_at:
            yield "passed", f"input: nothing found in {one_line(what)}"
    for role, facts in _files(report):
        if facts.data:
            yield "warned", f"{role}: weights lie in a data file, which the digest does not cover"
    if report.output is not None:
        yield from _proof(report)


def _named(one: Evidence) -> str:
    return one_line(f"{brief(one)}: {one.sentence}")[:1000]


def _proof(report: Report) -> Iterator[tuple[str, str]]:
    proof = report.validation
    if not proof.outcome.startswith("validated"):
        yield "warned", "output: not validated"
        return
    yield "passed", f"output: loads and answers in ONNX Runtime ({one_line(proof.provider_used)})"
    errors = (("folding", proof.fold_error), ("compaction", proof.compaction_error), ("clean-up", proof.cleanup_error))
    for step, error in errors:
        if error is not None:
            yield "passed", f"output: {step} leaves the answers as they were (error {error:.3g})"


FORMATS: Final[dict[str, Callable[[Report], str]]] = {
    "in-toto": in_toto,
    "cyclonedx": bom.cyclonedx,
    "model-card": model_card.model_card,
}
"""What `--attestation` writes, by the name of the format."""


def render(form: str, report: Report) -> str:
    """The report in one of the formats.

    Raises:
        UsageError: there is no such format.
    """
    if form not in FORMATS:
        raise UsageError(f"{form!r} is no format of an attestation; choose from {', '.join(FORMATS)}")
    return FORMATS[form](report)
