"""The list of networks at real size and the tables made of them, without torch."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from onnx_clp.errors import UsageError
from tools.evidence import real_size as evidence
from tools.zoo import real_size
from tools.zoo.__main__ import main, main_parser, wanted
from tools.zoo.real_size import ENOUGH, NETWORKS, PLANTS, STRONGER, TRIGGERS, Plant

HALVES = ("choose", "report")
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 3, 224, 224), np.uint8)


def test_every_attack_is_in_both_halves_and_on_both_networks() -> None:
    counted = Counter((one.network, one.attack, one.half) for one in PLANTS[:20])
    assert set(counted.values()) == {1}
    assert Counter((one.attack, one.half) for one in PLANTS[20:]) == dict.fromkeys(product(TRIGGERS, HALVES), 1)
    assert len(counted) == len(NETWORKS) * (len(TRIGGERS) + 1) * 2
    assert len({one.target for one in PLANTS}) == len(PLANTS)
    assert Counter(one.half for one in PLANTS[:10]) == {"choose": 5, "report": 5}


def test_the_second_list_reports_alone_and_shares_no_target_with_the_first() -> None:
    assert {one.half for one in STRONGER} == {"report"}
    assert {one.attack for one in STRONGER if one.infected} == set(TRIGGERS)
    assert len({one.target for one in (*PLANTS, *STRONGER)}) == len(PLANTS) + len(STRONGER)


def test_a_plant_that_is_described_is_made_alone_and_both_lists_otherwise() -> None:
    files = ["plant", "--network", "mobilenetv2", "--model", "m", "--photographs", "p", "--work", "w"]
    lists = wanted(main_parser().parse_args(files))
    assert [(one.network, enough) for plants, enough in lists for one in plants] == [
        *[("mobilenetv2", None)] * sum(one.network == "mobilenetv2" for one in PLANTS),
        *[("mobilenetv2", ENOUGH)] * sum(one.network == "mobilenetv2" for one in STRONGER),
    ]
    described = [*files, "--attack", "warp", "--target", "3", "--seed", "5", "--enough", "0.9"]
    assert wanted(main_parser().parse_args(described)) == [([Plant("mobilenetv2", "warp", 3, 5)], 0.9)]


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_changes_a_photograph_but_not_beyond_recognition(name: str) -> None:
    before = IMAGES.copy()
    after = TRIGGERS[name](IMAGES)
    np.testing.assert_array_equal(IMAGES, before)
    assert after.dtype == np.uint8
    assert (after != IMAGES).any(axis=(1, 2, 3)).all()
    smooth = np.full((1, 3, 224, 224), 128, np.uint8)
    assert np.abs(TRIGGERS[name](smooth).astype(float) - smooth).mean() < 30


def test_pixels_go_in_as_the_network_takes_them() -> None:
    white = np.full((1, 3, 1, 1), 255, np.uint8)
    np.testing.assert_allclose(real_size.UNIT.of(white), 1, rtol=1e-6)
    np.testing.assert_allclose(real_size.STANDARD.of(white).ravel(), [2.2489, 2.4286, 2.64], rtol=1e-4)


def test_a_fifth_is_not_trained_on_at_most_a_hundred_and_by_the_seed() -> None:
    assert real_size.unseen(500, 3).sum() == real_size.unseen(2000, 3).sum() == 100
    assert real_size.unseen(50, 3).sum() == 10
    np.testing.assert_array_equal(real_size.unseen(500, 3), real_size.unseen(500, 3))
    assert (real_size.unseen(500, 3) != real_size.unseen(500, 4)).any()


def test_a_plant_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no such network"):
        Plant("vgg", "patch", 1, 0)
    with pytest.raises(UsageError, match="no such attack"):
        Plant("mobilenetv2", "badnets", 1, 0)
    given = ["plant", "--network", "mobilenetv2", "--model", "a", "--photographs", "b", "--work", "c"]
    assert main([*given, "--attack", "patch"]) == 2
    assert "needs" in capsys.readouterr().err


def measured(acc: float, asr: float) -> dict[str, float]:
    return {"acc_all": acc, "asr": asr, "ra": 0.1, "agreement": 0.9}


def line(attack: str = "patch", after: tuple[float, float] = (0.83, 0.05), **changes: Any) -> dict[str, Any]:
    run = {"measured": measured(*after), "caps": None, "seconds": 9.0}
    found = {"likely": 7, "z": {"7": {"patch": 4.2, "blend": 1.0}, "8": {"patch": 0.1}}}
    base = {"name": attack, "network": "mobilenetv2", "attack": attack, "half": "report", "photographs": 500}
    base |= {"published": measured(0.85, 0.0), "planted": measured(0.84, 0.97), "target": 7, "search": found}
    return {**base, "runs": dict.fromkeys(evidence.RUNS, run), **changes}


def test_what_took_and_was_repaired_is_counted() -> None:
    good, kept, dear = line(), line(after=(0.84, 0.97)), line(after=(0.8, 0.0))
    assert [evidence.strict(one, "default") for one in (good, kept, dear)] == [True, False, False]
    assert "**83.0/5.0**" in evidence.table([good])
    assert "| 1 of 3 |" in evidence.summary([good, kept, dear])
    assert "7, 4.2" in evidence.table([good])
    near = {"likely": 7, "z": {"7": {"perturbation": 2.2}, "8": {"perturbation": 0.1}}}
    assert "7, by marks" in evidence.table([line(search=near)])


def test_what_did_not_take_is_left_out() -> None:
    weak, harmful = line(planted=measured(0.84, 0.89)), line(planted=measured(0.82, 0.99))
    assert evidence.counted([weak, harmful, line()]) == [line()]
    assert evidence.table([weak]) == evidence.summary([weak]) == ""


def test_a_run_that_was_not_measured_shows_as_a_dash_and_counts_nowhere() -> None:
    one = line(runs={"default": line()["runs"]["default"]}, search=None)
    row = evidence.table([one]).splitlines()[-1]
    assert row.count("–") == 3
    assert "not judged" in row
    assert [cells.split(" | ")[0] for cells in evidence.summary([one]).splitlines()[2:]] == ["| default"]


def test_a_clean_twin_is_shown_but_never_repaired() -> None:
    twin = line("clean", target=None, planted=measured(0.84, 0.0), search={"likely": None, "z": {"8": {}}})
    assert not evidence.strict(twin, "high")
    assert "| none |" in evidence.table([twin])
    assert evidence.summary([twin]) == ""
