"""Feature files of other programs: mended where that is safe, otherwise refused with file, image and fault."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from posfeat_hloc import confs, match_features
from posfeat_hloc.errors import StoreError
from posfeat_hloc.evaluation.pairs import feature_file
from posfeat_hloc.extractors.choice import FeatureChoice
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore, MatchStore
from posfeat_hloc.stores.foreign import check_sizes

N, D = 60, 32
ORDER = np.random.default_rng(7).permutation(N)
"""Keypoint i of a.jpg is keypoint ``argsort(ORDER)[i]`` of b.jpg."""


def descriptors() -> np.ndarray:
    """``(N, D)`` of a.jpg, norm 1."""
    found = np.random.default_rng(3).normal(size=(N, D))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write(path: Path, change=lambda found: found.T.astype(np.float32), **other: object) -> Path:
    """Two images with the same points in another order; ``other`` replaces datasets of b.jpg, None leaves them out."""
    rng = np.random.default_rng(5)
    with h5py.File(path, "w") as file:
        for name, order in (("a.jpg", np.arange(N)), ("b.jpg", ORDER)):
            data: dict[str, object] = {
                "keypoints": rng.uniform(0, [639, 479], (N, 2)).astype(np.float32)[order],
                "descriptors": change(descriptors()[order]),
                "image_size": np.array([640, 480]),
            }
            for key, value in (data | (other if name == "b.jpg" else {})).items():
                if value is not None:
                    file[f"{name}/{key}"] = value
    return path


def matched(features: Path) -> np.ndarray:
    """Index in b.jpg of each keypoint of a.jpg."""
    pairs = features.with_suffix(".txt")
    pairs.write_text("a.jpg b.jpg\n")
    conf = confs.matchers["NN-mutual"]
    path = match_features.main(conf, pairs, features, matches=features.with_suffix(".m.h5"), device="cpu")
    with MatchStore(path) as store:
        return store.read("a.jpg", "b.jpg").indices


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.T.astype(np.float32), ""),
        (lambda found: found.T * 512, "not normalised (in 'a.jpg' norms are 512 to 512)"),
        (lambda found: found.T * 1e6, "not normalised"),
        (lambda found: (found.T * 1e-7).astype(np.float32), "not normalised"),
        (lambda found: found.astype(np.float32), "stored as (N, D)"),
        (lambda found: found * 300, "stored as (N, D)"),
    ],
    ids=["as hloc", "norm 512", "beyond half precision", "below half precision", "rows", "rows of norm 300"],
)
def test_mended_files_give_all_matches(tmp_path: Path, capsys, change, said: str) -> None:
    path = write(tmp_path / "f.h5", change)
    assert_array_equal(matched(path), np.argsort(ORDER))
    with FeatureStore(path) as store:
        assert_allclose(store.descriptors("a.jpg"), descriptors(), atol=1e-3)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"note: {path}")]
    assert said in "".join(notes)
    assert bool(notes) == bool(said)
    assert len(notes) == len(set(notes))


def test_as_many_points_as_numbers_are_read_as_the_others(tmp_path: Path) -> None:
    square = np.random.default_rng(1).normal(size=(D, D))
    square /= np.linalg.norm(square, axis=1, keepdims=True)
    b = {"keypoints": np.ones((D, 2)), "descriptors": square}
    for name, change, expected in (
        ("rows", lambda found: found, square),
        ("columns", lambda found: found.T, square.T),
    ):
        path = write(tmp_path / f"{name}.h5", change, **b)
        with FeatureStore(path) as store:
            found = store.descriptors("b.jpg").astype(np.float64)
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        assert_allclose(found, expected, atol=1e-3)


def test_zero_descriptors_stay(tmp_path: Path) -> None:
    zeroed = descriptors()
    zeroed[4] = 0
    path = write(tmp_path / "f.h5", descriptors=zeroed.T * 9)
    with FeatureStore(path) as store:
        norms = np.linalg.norm(store.descriptors("b.jpg").astype(np.float64), axis=1)
    assert_allclose(norms, np.arange(N) != 4, atol=1e-3)


def with_nan() -> np.ndarray:
    found = descriptors().T.astype(np.float32)
    found[17] = np.nan
    return found


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"descriptors": with_nan()}, "not finite .* in 60 of 60 keypoints, in 1 of 32 numbers, .* is 17"),
        ({"descriptors": np.zeros((D, N), np.uint8)}, "binary .uint8, 32 each.*Hamming"),
        ({"image_size": None}, "it has no image_size"),
        ({"image_size": None, "descriptors": None}, "it has no descriptors and no image_size"),
        ({"descriptors": np.zeros((D, N - 1))}, re.escape("keypoints (60, 2) and descriptors (32, 59)")),
        ({"keypoints": np.zeros((N, 4))}, re.escape("keypoints (60, 4) are not (N, 2)")),
    ],
    ids=["nan", "binary", "no size", "neither", "other number", "four columns"],
)
def test_faulty_groups_are_named(tmp_path: Path, other: dict[str, object], said: str) -> None:
    path = write(tmp_path / "f.h5", **other)
    with pytest.raises(StoreError, match=said) as caught:
        matched(path)
    assert str(path) in str(caught.value)
    assert "'b.jpg'" in str(caught.value)


def test_keypoints_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    keypoints = np.ones((N, 2))
    keypoints[3, 1] = np.inf
    path = write(tmp_path / "f.h5", keypoints=keypoints)
    with FeatureStore(path) as store, pytest.raises(StoreError, match=r"1 of 60 keypoints of 'b.jpg' are not finite"):
        store.keypoints("b.jpg")


def test_layout_of_the_image_matching_challenge_is_named(tmp_path: Path) -> None:
    path = tmp_path / "descriptors.h5"
    with h5py.File(path, "w") as file:
        file["a"] = descriptors()
        file["b"] = descriptors()
    with pytest.raises(StoreError, match=r"'a' is an array, not a group.*Image Matching Challenge"):
        matched(path)


def photographs(folder: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (640, 480)).save(folder / name)
    return folder


def dense(path: Path, scale: float, size: tuple[int, int]) -> Path:
    """Keypoints all over both images, found in pictures of ``scale`` times their size."""
    x, y = np.meshgrid(np.arange(0, 640, 20), np.arange(0, 480, 20))
    places = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * scale - 0.5
    with h5py.File(path, "w") as file:
        for name in ("a.jpg", "b.jpg"):
            file[f"{name}/keypoints"] = places
            file[f"{name}/descriptors"] = np.eye(64, len(places))
            file[f"{name}/image_size"] = size
    return path


@pytest.mark.parametrize(
    ("scale", "size", "said"),
    [
        (0.5, (320, 240), r"an image of 320 x 240 pixels, but the file has 640 x 480.*\* 2 - 0.5"),
        (0.5, (640, 480), "all 1536 keypoints lie in the first 48 % of the width and 48 % of the height"),
        (2.0, (640, 480), r"of 768 keypoints of 'a.jpg' lie outside its 640 x 480 pixels, up to \(1240, 920\)"),
        (1.0, (640, 480), None),
        (1.0, (480, 640), "lie outside"),
    ],
)
def test_keypoints_of_pictures_of_another_size_are_refused(
    tmp_path: Path, scale: float, size: tuple[int, int], said: str | None
) -> None:
    images = photographs(tmp_path)
    choice = FeatureChoice("f", file=dense(tmp_path / "f.h5", scale, size))
    if said is None:
        assert feature_file(choice, images, ["a.jpg", "b.jpg"], tmp_path, "cpu", False) == (choice.file, {})
        return
    with pytest.raises(StoreError, match=said):
        feature_file(choice, images, ["a.jpg", "b.jpg"], tmp_path, "cpu", False)


def test_own_features_are_not_judged(tmp_path: Path) -> None:
    """A mask may leave one corner; images of ours were read when they were extracted."""
    images = photographs(tmp_path)
    corner = Features(np.ones((1200, 2), np.float32), np.ones(1200, np.float32), np.ones((1200, 4), np.float32) / 2)
    with FeatureStore(tmp_path / "f.h5", {}) as store:
        store.write("a.jpg", corner, (640, 480))
        store.commit()
        check_sizes(store, images, ["a.jpg"])
