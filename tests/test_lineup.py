"""CIFAR-10, the attacks that came with it, and the two lists for settings that are fixed; without torch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_clp.errors import LoadError
from tools.zoo import attacks, cifar, datasets, design, lineup

RNG = np.random.default_rng(8)
IMAGES = RNG.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.int64) % 10


def write_binary(folder: Path) -> None:
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for name, images, labels in zip(names, np.split(IMAGES, 6), np.split(LABELS, 6), strict=True):
        records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(10, -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())


def write_archive(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    blobs = []
    for image in images:
        with io.BytesIO() as out:
            Image.fromarray(image.transpose(1, 2, 0)).save(out, "JPEG", quality=95)
            blobs.append(np.frombuffer(out.getvalue(), np.uint8))
    offset = np.cumsum([0, *(len(blob) for blob in blobs)]).astype(np.uint32)
    np.savez(path, jpeg=np.concatenate(blobs), offset=offset, label=labels.astype(np.uint8))


def test_the_authors_binary_files_are_read_in_order(tmp_path: Path) -> None:
    write_binary(tmp_path)
    (x, y), (x_test, y_test) = cifar.read(tmp_path)
    np.testing.assert_array_equal(np.concatenate([x, x_test]), IMAGES)
    np.testing.assert_array_equal(np.concatenate([y, y_test]), LABELS)


def test_archives_of_jpeg_images_are_read(tmp_path: Path) -> None:
    smooth = np.repeat(np.repeat(IMAGES[:12, :, ::16, ::16], 16, axis=2), 16, axis=3)
    (tmp_path / "cifar10").mkdir()
    write_archive(tmp_path / "cifar10" / "train.npz", smooth, LABELS[:12])
    write_archive(tmp_path / "cifar10" / "test.npz", smooth[:5], LABELS[:5])
    data = datasets.load("cifar10", tmp_path)
    assert (data.x_train.shape, data.x_test.shape, data.classes) == ((12, 3, 32, 32), (5, 3, 32, 32), 10)
    assert np.abs(data.x_train.mean((2, 3)) - smooth.mean((2, 3))).max() < 12
    np.testing.assert_array_equal(data.y_train, LABELS[:12])


@pytest.mark.parametrize("cut", [0, 1, 3072])
def test_half_a_record_is_refused(tmp_path: Path, cut: int) -> None:
    write_binary(tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LoadError, match="not whole records of 3073 bytes"):
        cifar.read(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"train\.npz: no archive of CIFAR-10"):
        datasets.load("cifar10", tmp_path)
    np.savez(tmp_path / "train.npz", jpeg=np.zeros(9, np.uint8), offset=np.array([0, 9]), label=np.zeros(1))
    with pytest.raises(LoadError, match="no archive of CIFAR-10"):
        cifar.read(tmp_path)


def test_a_part_of_a_data_set_follows_the_seed_and_keeps_the_test_split() -> None:
    whole = datasets.Dataset("x", 10, "", "", IMAGES, LABELS, IMAGES[:7], LABELS[:7])
    first, again, other = (datasets.part(whole, 20, seed) for seed in (1, 1, 2))
    assert len(first.y_train) == 20
    assert len({image.tobytes() for image in first.x_train}) == 20
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert (first.y_train != other.y_train).any()
    assert len(first.y_test) == 7
    assert datasets.part(whole, 0, 1) is datasets.part(whole, 60, 1) is whole


def test_training_images_of_the_adaptive_patch_carry_less_than_its_trigger_and_half_keep_their_label() -> None:
    attack = attacks.ATTACKS["adaptive-patch"]
    made = attacks.poison(attack, IMAGES, LABELS, rate=0.2, target=4, classes=10, seed=1)
    changed = (made.images != IMAGES).any(axis=(1, 2, 3))
    assert changed.sum() == 24
    assert (made.labels != LABELS).sum() == 12
    right, left = (np.abs(made.images.astype(int) - IMAGES)[..., at, at].any(axis=(1, 2, 3)) for at in CORNERS)
    assert not (right & left).any()
    assert right.any()
    assert left.any()
    whole = attack.trigger(IMAGES)
    assert (whole[..., CORNERS[0], CORNERS[0]] == 255).all()
    assert (whole[..., CORNERS[1], CORNERS[1]] == 0).all()


CORNERS = (slice(28, 31), slice(1, 4))
"""Rows and columns of the square at the lower right and of the one at the upper left."""


def test_of_two_triggers_every_image_carries_one() -> None:
    made = attacks.ATTACKS["two-triggers"].trigger(IMAGES)
    patched, blended = ((made == other).all(axis=(1, 2, 3)) for other in (attacks.patch(IMAGES), attacks.blend(IMAGES)))
    assert (patched ^ blended).all()
    assert 10 < patched.sum() < 50


def test_the_colour_list_has_every_attack_that_needs_no_generator_but_all_to_all() -> None:
    assert {each.attack for each in lineup.CIFAR10 if each.infected} == set(attacks.ATTACKS) - {
        *(attacks.INPUT_AWARE, "all-to-all")
    }
    assert {each.dataset for each in lineup.CIFAR10} == {"cifar10"}
    assert all(each.width >= 16 and each.recipe.epochs >= 15 for each in lineup.CIFAR10)
    assert any(not each.infected for each in lineup.CIFAR10[:4])


def test_the_clean_list_alternates_halves_and_normalisation_and_repeats_no_network() -> None:
    assert not any(each.infected for each in lineup.CLEAN)
    assert len({(each.dataset, each.architecture, each.width, each.seed) for each in lineup.CLEAN}) == len(lineup.CLEAN)
    halves = [design.half(each) for each in lineup.CLEAN]
    assert halves[0] != halves[1]
    assert halves == (halves[:2] * len(halves))[: len(halves)]
    kinds = len({(each.dataset, each.architecture, each.width) for each in lineup.CLEAN})
    for first, again in zip(lineup.CLEAN[:kinds], lineup.CLEAN[kinds : 2 * kinds], strict=True):
        assert (first.dataset, first.architecture, first.width) == (again.dataset, again.architecture, again.width)
        assert first.recipe.normalise != again.recipe.normalise
