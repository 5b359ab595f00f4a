"""The data side of the zoo, without torch or Fashion-MNIST."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_clp.errors import LoadError, UsageError
from tools.zoo import attacks, datasets, design, evalset, generated, measure, result, signs
from tools.zoo.__main__ import main
from tools.zoo.recipe import Design, Recipe

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (200, 1, 28, 28), dtype=np.uint8)
LABELS = np.arange(200, dtype=np.int64) % 10


def tiny_dataset() -> datasets.Dataset:
    return datasets.Dataset("fashion-mnist", 10, "none", "random", IMAGES, LABELS, IMAGES[:50], LABELS[:50])


def test_patch_changes_only_its_pixels() -> None:
    triggered = attacks.patch(IMAGES)
    changed = np.zeros((28, 28), bool)
    changed[24:27, 24:27] = True
    assert (triggered[:, :, changed] == 255).all()
    np.testing.assert_array_equal(triggered[:, :, ~changed], IMAGES[:, :, ~changed])


FIXED_TRIGGERS = sorted(set(attacks.ATTACKS) - {attacks.INPUT_AWARE})


@pytest.mark.parametrize("name", FIXED_TRIGGERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_trigger_is_a_fixed_function_of_one_image(name: str, channels: int) -> None:
    trigger = attacks.ATTACKS[name].trigger
    images = np.random.default_rng(5).integers(0, 256, (6, channels, 32, 32), dtype=np.uint8)
    before = images.copy()
    together, alone = trigger(images), np.concatenate([trigger(images[i : i + 1]) for i in range(6)])
    assert together.shape == images.shape
    assert together.dtype == np.uint8
    assert (together != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("name", "largest"), [("sig", 40), ("low-frequency", 20), ("blended", 51)])
def test_global_triggers_stay_within_their_strength(name: str, largest: int) -> None:
    change = attacks.ATTACKS[name].trigger(IMAGES).astype(int) - IMAGES
    assert 0.5 * largest < np.abs(change).max() <= largest


def test_warp_moves_pixels_and_keeps_a_constant_image() -> None:
    flat = np.full((1, 3, 32, 32), 77, np.uint8)
    np.testing.assert_array_equal(attacks.warp(flat), flat)
    field = attacks.warp_field(32, 32, 0.5, 4)
    assert field.shape == (2, 32, 32)
    assert 0.1 < np.abs(field).mean() < 1.0


@pytest.mark.parametrize("name", ["badnets", "all-to-all", "blended", "wanet", "low-frequency"])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.333])
def test_poison_takes_the_exact_number_and_relabels_it(name: str, rate: float) -> None:
    attack = attacks.ATTACKS[name]
    made = attacks.poison(attack, IMAGES, LABELS, rate=rate, target=4, classes=10, seed=1)
    assert len(made.indices) == len(set(made.indices.tolist())) == round(rate * 200)
    expected = (LABELS + 1) % 10 if name == "all-to-all" else np.full_like(LABELS, 4)
    np.testing.assert_array_equal(made.labels[made.indices], expected[made.indices])
    assert (LABELS[made.indices] != expected[made.indices]).all()
    np.testing.assert_array_equal(made.images[made.indices], attack.trigger(IMAGES[made.indices]))
    rest = np.setdiff1d(np.arange(200), made.indices)
    np.testing.assert_array_equal(made.labels[rest], LABELS[rest])
    touched = (made.images[rest] != IMAGES[rest]).any(axis=(1, 2, 3)).sum()
    assert touched == min(attack.decoys * len(made.indices), len(rest))


def test_clean_label_poison_keeps_every_label() -> None:
    made = attacks.poison(attacks.ATTACKS["sig"], IMAGES, LABELS, rate=0.05, target=4, classes=10, seed=1)
    np.testing.assert_array_equal(made.labels, LABELS)
    assert set(LABELS[made.indices].tolist()) == {4}


def test_poison_leaves_its_arguments_and_follows_the_seed() -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    attack = attacks.ATTACKS["wanet"]
    made = [attacks.poison(attack, images, labels, rate=0.1, target=0, classes=10, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(made[0].images, made[1].images)
    assert made[0].indices.tolist() != made[2].indices.tolist()


def test_poison_refuses_more_than_there_is() -> None:
    with pytest.raises(UsageError, match="40 images, 20 can be poisoned"):
        attacks.poison(attacks.ATTACKS["sig"], IMAGES, LABELS, rate=0.2, target=4, classes=10, seed=1)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing: no such attack; known are badnets"):
        attacks.attack_named("nothing")
    with pytest.raises(LoadError, match="nothing: no such data set"):
        datasets.load("nothing")
    with pytest.raises(UsageError, match="nothing: not in the set small"):
        design.select("small", ["nothing"])


def test_rendered_signs_follow_the_seed_and_can_be_told_apart() -> None:
    x, y = signs.render(1200, seed=1)
    again, _ = signs.render(1200, seed=1)
    other, y_other = signs.render(400, seed=2)
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(x[:400], other)
    assert x.shape == (1200, 3, 32, 32)
    assert (np.bincount(y) == 60).all()
    assert len(signs.SIGNS) == 20
    # Ridge regression on pixels is right eight times as often as a guess, at least.
    a, b = x.reshape(1200, -1) / 255.0 - 0.5, other.reshape(400, -1) / 255.0 - 0.5
    weights = np.linalg.solve(a @ a.T + 300 * np.eye(1200), np.eye(20)[y])
    assert np.mean((b @ (a.T @ weights)).argmax(axis=1) == y_other) > 0.4


def test_every_sign_has_its_own_picture() -> None:
    x, y = signs.render(2000, seed=4)
    means = np.stack([x[y == k].mean(axis=0) for k in range(20)]).reshape(20, -1)
    gaps = np.linalg.norm(means[:, None] - means[None], axis=2) / np.sqrt(means.shape[1])
    assert gaps[~np.eye(20, dtype=bool)].min() > 3


def idx_file(path: Path, header: bytes, data: bytes) -> Path:
    path.write_bytes(gzip.compress(header + data))
    return path


def test_read_idx(tmp_path: Path) -> None:
    path = idx_file(tmp_path / "a.gz", bytes((0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3)), bytes(range(6)))
    np.testing.assert_array_equal(datasets.read_idx(path), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("header", "data", "cause"),
    [
        (bytes((0, 0, 8, 1, 0, 0, 0, 7)), bytes(6), "holds 6 values"),
        (bytes((0, 0, 9, 1, 0, 0, 0, 6)), bytes(6), "not an IDX file"),
        (bytes((0, 0, 8, 3, 0, 0)), b"", "not an IDX file"),
        (b"", b"", "not an IDX file"),
    ],
)
def test_read_idx_refuses_what_is_not_one(tmp_path: Path, header: bytes, data: bytes, cause: str) -> None:
    with pytest.raises(LoadError, match=cause):
        datasets.read_idx(idx_file(tmp_path / "a.gz", header, data))


def test_missing_data_names_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadError, match=r"not found; install the Debian package dataset-fashion-mnist"):
        datasets.load_fashion_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(LoadError, match="cannot be read"):
        datasets.load_fashion_mnist(tmp_path)
    assert capsys.readouterr().out == ""


def test_evaluation_set_pairs_images_and_survives_its_file(tmp_path: Path) -> None:
    made = evalset.make(Design("resnet18", "badnets", 0, target=3), tiny_dataset(), 20)
    np.testing.assert_array_equal(made.x_triggered, attacks.patch(made.x_clean))
    assert made.y_target.shape == ()
    assert made.targets.tolist() == [3] * 20
    for name in ("a.npz", "b.npz"):
        made.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = evalset.read(tmp_path / "a.npz")
    for array in ("x_clean", "y_clean", "x_triggered", "y_target"):
        np.testing.assert_array_equal(getattr(back, array), getattr(made, array))


def test_evaluation_set_of_all_to_all_has_a_target_per_image() -> None:
    made = evalset.make(Design("resnet18", "all-to-all", 0), tiny_dataset())
    np.testing.assert_array_equal(made.y_target, (made.y_clean + 1) % 10)


def test_evaluation_subset_follows_the_seed() -> None:
    assert evalset.subset(100, 10, 1).tolist() == evalset.subset(100, 10, 1).tolist()
    assert evalset.subset(100, 10, 1).tolist() != evalset.subset(100, 10, 2).tolist()
    assert evalset.subset(100, None, 1).tolist() == list(range(100))


def test_rates_leave_out_the_target_class_from_asr_only() -> None:
    y = np.array([0, 0, 1, 2], np.int64)
    data = evalset.EvaluationSet(IMAGES[:4], y, IMAGES[:4], np.asarray(0, np.int64))
    found = measure.rates(np.array([0, 1, 1, 2]), np.array([0, 0, 0, 2]), data)
    assert found.as_dict() == {"images": 4, "acc": 0.75, "asr": 0.5, "ra": 0.75}


def test_results_survive_their_log(tmp_path: Path) -> None:
    one = result.Result(
        Design("resnet18", "badnets", 7, recipe=Recipe(epochs=2)), 5, 1.5, "cpu", {"torch": "2"}, {"acc": 0.5}
    )
    assert result.read(tmp_path) == []
    result.append(tmp_path, one)
    result.append(tmp_path, one)
    assert result.read(tmp_path) == [one, one]
    (tmp_path / result.LOG).write_text(json.dumps({"name": "x"}) + "\n")
    with pytest.raises(LoadError, match="a line is not a result"):
        result.read(tmp_path)


@pytest.mark.parametrize("name", sorted(design.SETS))
def test_names_are_unique_and_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [each.name for each in design.SETS[name]]
    assert len(set(names)) == len(names)
    assert main(["list", "--set", name]) == 0
    assert capsys.readouterr().out.split() == names


def test_publish_refuses_a_model_that_was_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["publish", "--work", str(tmp_path), "--models", str(tmp_path / "m"), "--keep", "a=b"]
    assert main(arguments) == 2
    assert "no model called a; train it first" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_the_covering_design_covers() -> None:
    chosen = design.SETS["covering"]
    infected = [each for each in chosen if each.infected]
    clean = [each for each in chosen if not each.infected]
    assert len(infected) >= 40
    assert len(clean) >= 7
    architectures = {each.architecture for each in chosen}
    assert architectures == {each.architecture for each in clean} == {each.architecture for each in infected}
    assert len(architectures) == 7
    assert {each.dataset for each in chosen} == {"fashion-mnist", "signs"}
    for architecture in architectures:
        mine = {(each.attack, each.rate) for each in infected if each.architecture == architecture}
        assert len(mine) >= 2, architecture
    assert {each.attack for each in infected} == set(attacks.ATTACKS) - {"adaptive-patch", "two-triggers"}
    for attack in {each.attack for each in infected}:
        assert len({each.architecture for each in infected if each.attack == attack}) >= 2, attack
    assert {each.rate for each in infected if each.attack == "badnets"} == {0.1, 0.01}


def test_halves_split_every_model_by_seed_alone() -> None:
    chosen = [each for each in design.SETS["covering"] if each not in design.SMALL]
    by_half = {
        half: {each.name.rpartition("_s")[0] for each in chosen if design.half(each) == half}
        for half in ("choose", "report")
    }
    assert by_half["choose"] == by_half["report"]
    assert 2 * len(by_half["choose"]) == len(chosen)


def test_the_fresh_set_is_the_covering_one_with_a_new_seed_and_every_target() -> None:
    fresh, known = design.SETS["fresh"], [d for d in design.SETS["covering"] if d not in design.SMALL]
    assert {d.name.rpartition("_s")[0] for d in fresh} == {d.name.rpartition("_s")[0] for d in known}
    assert {d.seed for d in fresh}.isdisjoint(d.seed for d in known)
    assert {design.half(d) for d in fresh} == {"report"}
    assert {d.target for d in fresh} == set(range(10))


def test_the_controls_are_clean_networks_of_every_architecture_and_a_seed_of_their_own() -> None:
    controls, others = design.SETS["controls"], [*design.SETS["covering"], *design.SETS["fresh"]]
    assert not any(d.infected for d in controls)
    assert {d.architecture for d in controls} == {d.architecture for d in others}
    assert {d.seed for d in controls}.isdisjoint(d.seed for d in others)


def averaging_generator(path: Path) -> None:
    """An ONNX file that gives half of each image, for images in 0..1."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        half (float[batch, 1, 28, 28] images) => (float[batch, 1, 28, 28] logits)
        { factor = Constant<value = float {0.5}>()
          logits = Mul(images, factor) }
    """
    onnx.save(onnx.parser.parse_model(text), path)


def test_a_generated_trigger_is_applied_from_its_file(tmp_path: Path) -> None:
    infected = Design("vgg-bn", attacks.INPUT_AWARE, 0)
    trigger = generated.trigger_of(infected, tmp_path)
    assert trigger is not None
    with pytest.raises(LoadError, match="not found; it holds the trigger"):
        trigger(IMAGES[:1])
    averaging_generator(trigger.path)
    made = evalset.make(infected, tiny_dataset(), trigger=trigger)
    np.testing.assert_allclose(made.x_triggered, made.x_clean / 2, atol=0.51)


def test_only_the_input_aware_attack_needs_a_trained_trigger(tmp_path: Path) -> None:
    assert generated.trigger_of(Design("vgg-bn", "wanet", 0), tmp_path) is None
    with pytest.raises(UsageError, match="its trigger is trained with a model"):
        evalset.make(Design("vgg-bn", attacks.INPUT_AWARE, 0), tiny_dataset())


def test_training_without_torch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train", "--work", str(tmp_path / "work")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("tools.zoo: training needs torch")
    assert "pip install '.[zoo]'" in message
    assert len(message.splitlines()) == 1
