"""Attestations: each fits its schema as a library keeps it, and says what the report says."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnx_clp.cli.arguments import ATTESTATIONS
from onnx_clp.cli.main import main
from onnx_clp.document.assessment import assess
from onnx_clp.document.run import EvaluationReport, FileFacts, Rates, Report
from onnx_clp.errors import UsageError
from onnx_clp.report import atlas, sarif
from onnx_clp.report.attestation import FORMATS
from tests import reports
from tests.test_pipeline import infected

FAMILY: dict[str, Report] = {
    "plain": reports.report(),
    "nothing found": reports.report((), findings=()),
    "hostile": reports.hostile(),
    "in memory": reports.report(input=None, output=None),
    "analysis": reports.report(output=None),
    "data file": reports.report(input=FileFacts("in.onnx", "0" * 64, 9, data=True)),
    "measured": assess(
        replace(
            reports.report(),
            evaluation=EvaluationReport("a/d.npz", 10, 10, Rates(0.9, 1.0, None), Rates(0.8, 0.125, 0.7)),
        )
    ),
}


@pytest.mark.parametrize("name", FAMILY)
def test_the_bill_of_materials_fits_the_schema_of_cyclonedx(name: str) -> None:
    pytest.importorskip("cyclonedx")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = FORMATS["cyclonedx"](FAMILY[name])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    broken = json.loads(text)
    broken["metadata"]["component"]["type"] = "sandwich"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "in memory"])
def test_the_statement_is_one_of_in_toto(name: str) -> None:
    pytest.importorskip("in_toto_attestation")
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1.statement import Statement

    statement = json.loads(FORMATS["in-toto"](FAMILY[name]))
    read = Statement.copy_from_pb(json_format.ParseDict(statement, Statement([], "", {}).pb))
    read.validate()
    predicate = test_result_pb2.TestResult()
    json_format.ParseDict(statement["predicate"], predicate)
    assert predicate.result in ("PASSED", "WARNED", "FAILED")
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict({**statement["predicate"], "sandwich": 1}, test_result_pb2.TestResult())


def predicate(report: Report) -> dict[str, Any]:
    found = json.loads(FORMATS["in-toto"](report))["predicate"]
    assert isinstance(found, dict)
    return found


def test_the_statement_says_what_was_found_and_proven() -> None:
    plain = predicate(FAMILY["plain"])
    assert plain["result"] == "WARNED"
    assert any("data-dependent branch" in name for name in plain["warnedTests"])
    assert any(name.startswith("output: folding") for name in plain["passedTests"])
    measured = predicate(FAMILY["measured"])
    assert (measured["result"], len(measured["failedTests"])) == ("FAILED", 1)
    outside = predicate(FAMILY["data file"])
    assert "input: weights lie in a data file, which the digest does not cover" in outside["warnedTests"]
    assert all(name.startswith("input: ") for name in predicate(FAMILY["analysis"])["warnedTests"])


def test_what_was_not_proven_is_a_warning() -> None:
    from onnx_clp.document.run import ValidationReport

    without = ValidationReport("not asked for", "auto", "", "", None, None, None)
    found = predicate(reports.report((), findings=(), validation=without))
    assert "output: not validated" in found["warnedTests"]


def test_the_options_are_in_the_statement_and_hashed() -> None:
    (options,) = predicate(FAMILY["plain"])["configuration"]
    content = base64.b64decode(options["content"])
    assert hashlib.sha256(content).hexdigest() == options["digest"]["sha256"]
    assert json.loads(content)["options"] == FAMILY["plain"].options


def test_the_bill_of_materials_names_the_input_as_ancestor() -> None:
    component = json.loads(FORMATS["cyclonedx"](FAMILY["plain"]))["metadata"]["component"]
    (ancestor,) = component["pedigree"]["ancestors"]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "0123456789abcdef" * 4}]
    assert component["hashes"] == [{"alg": "SHA-256", "content": "fedcba9876543210" * 4}]
    assert "channel-Lipschitzness" in component["pedigree"]["notes"]
    metrics = json.loads(FORMATS["cyclonedx"](FAMILY["measured"]))["metadata"]["component"]["modelCard"]
    values = {one["type"]: one["value"] for one in metrics["quantitativeAnalysis"]["performanceMetrics"]}
    assert values == {"ACC": "0.8000", "ASR": "0.1250", "RA": "0.7000"}
    alone = json.loads(FORMATS["cyclonedx"](FAMILY["analysis"]))["metadata"]["component"]
    assert "ancestors" not in alone["pedigree"]
    assert alone["hashes"][0]["content"] == "0123456789abcdef" * 4


def test_a_report_gives_its_attestations_in_python_too() -> None:
    report = FAMILY["plain"]
    assert report.to_attestation("in-toto") == FORMATS["in-toto"](report)
    with pytest.raises(UsageError, match="choose from in-toto, cyclonedx, model-card"):
        report.to_attestation("spdx")


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_report_gives_the_same_bytes(form: str) -> None:
    for report in FAMILY.values():
        text = FORMATS[form](report)
        assert text == FORMATS[form](report)
        assert "is clean" not in text
        assert "is safe" not in text


@pytest.mark.parametrize("name", FAMILY)
def test_the_card_has_metadata_that_yaml_reads_and_a_section(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    _, head, body = FORMATS["model-card"](FAMILY[name]).split("---\n", 2)
    found = yaml.safe_load(head)
    assert (found["library_name"], found["tags"]) == ("onnx", ["onnx", "onnx-clp"])
    assert ("model-index" in found) == (name == "measured")
    assert "## Backdoor check" in body
    assert "<script>" not in body
    assert "\x1b" not in body


def test_the_card_is_one_that_hugging_face_reads() -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(FORMATS["model-card"](FAMILY["measured"])).data
    assert {(one.metric_name, one.metric_value) for one in data.eval_results} == {
        ("ACC", 0.8),
        ("ASR", 0.125),
        ("RA", 0.7),
    }


@pytest.mark.parametrize("name", FAMILY)
def test_sarif_is_sarif(name: str) -> None:
    found = pytest.importorskip("sarif_pydantic")
    log = json.loads(sarif.render(FAMILY[name]))
    found.Sarif.model_validate(log)
    log["runs"][0]["tool"]["driver"]["rules"][0]["id"] = 7
    with pytest.raises(ValueError, match="valid string"):
        found.Sarif.model_validate(log)


def test_sarif_points_to_the_techniques_of_atlas() -> None:
    (run,) = json.loads(sarif.render(FAMILY["plain"]))["runs"]
    (taxonomy,) = run["taxonomies"]
    taxa = [taxon["id"] for taxon in taxonomy["taxa"]]
    assert taxa == list(atlas.TECHNIQUES)
    for rule in run["tool"]["driver"]["rules"]:
        assert rule["relationships"]
        for relation in rule["relationships"]:
            assert taxa[relation["target"]["index"]] == relation["target"]["id"]
            assert run["taxonomies"][relation["target"]["toolComponent"]["index"]]["name"] == "MITRE ATLAS"
    assert atlas.techniques("gate") == (atlas.REBUILT,)
    assert atlas.techniques("path") == (atlas.POISONED,)


# --- the command line ---------------------------------------------------------------------------------


def words(folder: Path) -> list[str]:
    (folder / "in.onnx").write_bytes(infected().SerializeToString())
    return [str(folder / "in.onnx"), str(folder / "out.onnx"), "--no-validate", "-q", "--overwrite"]


def asked(folder: Path) -> list[str]:
    return [f"--attestation={form}={folder / form}{end}" for form, end in ATTESTATIONS.items()]


def test_a_run_writes_all_three_with_the_digests_of_its_files(tmp_path: Path) -> None:
    assert set(ATTESTATIONS) == set(FORMATS)
    for _ in range(2):  # the second run replaces its own files
        assert main([*words(tmp_path), *asked(tmp_path)]) == 0
    subjects = json.loads((tmp_path / "in-toto.json").read_text())["subject"]
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("in.onnx", "out.onnx")]
    assert [one["digest"]["sha256"] for one in subjects] == digests
    assert digests[1] in (tmp_path / "model-card.md").read_text()


def test_a_card_of_somebody_elses_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n# My model\n")
    assert main([*words(tmp_path), f"--attestation=model-card={card}"]) == 2
    assert "holds no report" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()
    assert card.read_text().endswith("# My model\n")


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("spdx", "a.json", "write FORMAT=PATH; the formats are in-toto, cyclonedx, model-card"),
        ("in-toto", "a.yaml", "the name must end in .json"),
        ("model-card", "in.onnx", "the name must end in .md"),
    ],
)
def test_a_wrong_request_is_one_line(
    form: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(tmp_path), f"--attestation={form}={tmp_path / name}"]) == 2
    assert said in capsys.readouterr().err


def test_two_reports_never_share_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = str(tmp_path / "a.json")
    assert main([*words(tmp_path), "--report", same, f"--attestation=in-toto={same}"]) == 2
    assert "would overwrite another report" in capsys.readouterr().err


def test_a_configuration_may_ask_for_them(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'attestation = ["in-toto={tmp_path}/a.json"]\n')
    assert main([*words(tmp_path), "--config", str(config)]) == 0
    assert (tmp_path / "a.json").exists()


def test_a_signature_over_the_folder_still_verifies(tmp_path: Path) -> None:
    """Signing stays with sigstore's model_signing: it signs the output and what lies beside it."""
    pytest.importorskip("model_signing")
    model = tmp_path / "model"
    model.mkdir()
    line = words(tmp_path)
    assert main([line[0], str(model / "out.onnx"), *line[2:], *asked(model)]) == 0
    key, public, signature = (tmp_path / name for name in ("key.pem", "public.pem", "model.sig"))
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)

    def tool(*given: Any) -> int:
        run = [sys.executable, "-m", "model_signing", *map(str, given)]
        return subprocess.run(run, capture_output=True, check=False).returncode

    assert tool("sign", "key", model, "--signature", signature, "--private_key", key) == 0
    assert tool("verify", "key", model, "--signature", signature, "--public_key", public) == 0
    (model / "in-toto.json").write_text("{}")
    assert tool("verify", "key", model, "--signature", signature, "--public_key", public) != 0
