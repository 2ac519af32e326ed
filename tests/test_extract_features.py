"""The extraction loop: what is extracted, skipped, kept, and in whose pixels; with an extractor one can predict."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from posfeat_hloc import confs, extract_features
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.extract_features import ExtractionReport, extract
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore

CONF: dict[str, Any] = {
    "output": "feats-brightest",
    "model": {"name": "brightest", "count": 3},
    "preprocessing": {"grayscale": True, "resize_max": 64},
}


class Brightest:
    """The brightest pixels, described by the values of all pixels around them."""

    grayscale = True
    detection_noise = 0.5
    light = False
    weights_sha256 = "none"

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.before_each: Callable[[], None] = lambda: None

    def __call__(self, images: Tensor) -> list[Features]:
        self.before_each()
        self.batches.append(tuple(images.shape))
        return [self.extract(image[0].numpy()) for image in images]

    @staticmethod
    def extract(image: NDArray[np.float32]) -> Features:
        order = np.argsort(-image, axis=None, kind="stable")[:3]
        y, x = np.unravel_index(order, image.shape)
        padded = np.pad(image, 1)
        descriptors = np.stack([padded[v : v + 3, u : u + 3].ravel() for u, v in zip(x, y, strict=True)]) + 0.01
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        keypoints = np.stack([x, y], axis=1).astype(np.float32)
        return Features(keypoints, image[y, x].astype(np.float32), descriptors.astype(np.float32))


@pytest.fixture
def brightest(monkeypatch: pytest.MonkeyPatch) -> Brightest:
    extractor = Brightest()
    monkeypatch.setattr(extract_features.extractors, "create", lambda model, device: extractor)
    return extractor


def picture(seed: int, width: int = 48, height: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def fill(folder: Path, *names: str, first: int = 0) -> Path:
    for i, name in enumerate(names, first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(folder / name)
    return folder


def run(folder: Path, path: Path, **options: Any) -> ExtractionReport:
    return extract(CONF, folder, path, progress=False, **options)


def content(path: Path) -> dict[str, tuple[bytes, bytes, bytes, tuple[int, int], float | None, str]]:
    with FeatureStore(path) as store:
        return {
            name: (
                store.keypoints(name).tobytes(),
                store.read(name).scores.tobytes(),
                store.descriptors(name).tobytes(),
                store.image_size(name),
                store.uncertainty(name),
                store.digest(name),
            )
            for name in store.names()
        }


def test_every_image_is_stored_as_extracted(tmp_path: Path, brightest: Brightest) -> None:
    names = ["a.png", "b/c d.png", "b/ü.png"]
    report = run(fill(tmp_path / "images", *names), tmp_path / "out" / "f.h5")
    assert report.extracted == report.names == names
    assert (report.reused, report.skipped) == ([], {})
    assert set(report.notes.values()) == {"only 3 keypoints in 48x32 pixels"}
    with FeatureStore(tmp_path / "out" / "f.h5") as store:
        assert store.names() == names
        for i, name in enumerate(names):
            expected, found = Brightest.extract(picture(i).astype(np.float32) / 255), store.read(name)
            assert_array_equal(found.keypoints, expected.keypoints)
            assert_array_equal(found.scores, expected.scores)
            assert_array_equal(found.descriptors, expected.descriptors.astype(np.float16))
            assert store.image_size(name) == (48, 32)
            assert store.uncertainty(name) == 0.5
    assert brightest.batches == [(1, 1, 32, 48)] * 3


def test_color_extractors_get_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class InColor(Brightest):
        grayscale = False
        seen: Tensor

        def __call__(self, images: Tensor) -> list[Features]:
            self.seen = images
            return [Features.empty(9)]

    extractor = InColor()
    monkeypatch.setattr(extract_features.extractors, "create", lambda model, device: extractor)
    color = np.zeros((4, 6, 3), np.uint8)
    color[..., 0], color[1, 2, 1], color[..., 2] = 255, 51, 102
    Image.fromarray(color).save(tmp_path / "x.png")
    report = run(tmp_path, tmp_path / "f.h5")
    assert_allclose(extractor.seen[0].permute(1, 2, 0).numpy() * 255, color, atol=1e-4)
    assert report.notes == {"x.png": "only 0 keypoints in 6x4 pixels"}
    assert content(tmp_path / "f.h5").keys() == {"x.png"}  # an image without keypoints is done as well


def test_unreadable_images_are_skipped_with_a_reason(tmp_path: Path, brightest: Brightest) -> None:
    images = fill(tmp_path / "images", "a.png", "c.png", "e.png")
    (images / "b.jpg").write_text("not a photograph")
    (images / "d.png").write_bytes((images / "a.png").read_bytes()[:200])
    (images / "f.png").touch()
    report = run(images, tmp_path / "f.h5")
    assert report.names == ["a.png", "c.png", "e.png"]
    assert {name: reason.split(": ", 1)[1].split(",")[0] for name, reason in report.skipped.items()} == {
        "b.jpg": "not an image that can be decoded",
        "d.png": "cannot be decoded",
        "f.png": "the file is empty",
    }
    assert all(str(images / name) in reason for name, reason in report.skipped.items())
    assert sorted(content(tmp_path / "f.h5")) == ["a.png", "c.png", "e.png"]


def test_listed_images_that_do_not_exist_are_skipped(tmp_path: Path, brightest: Brightest) -> None:
    fill(tmp_path, "a.png", "b.png")
    report = run(tmp_path, tmp_path / "f.h5", names=["missing.jpg", "b.png", "b.png"])
    assert report.names == ["b.png"]
    assert list(report.skipped) == ["missing.jpg"]
    assert "no such file" in report.skipped["missing.jpg"]


def test_name_that_is_not_unicode_is_skipped(tmp_path: Path, brightest: Brightest) -> None:
    fill(tmp_path, "a.png", "b.png")
    try:
        (tmp_path / "b.png").rename(
            os.fsdecode(os.fsencode(tmp_path) + b"/stra\xdfe.png")
        )  # Latin-1, of an old archive
    except OSError:
        pytest.skip("this file system has Unicode names only")
    report = run(tmp_path, tmp_path / "f.h5")
    assert report.names == list(content(tmp_path / "f.h5")) == ["a.png"]
    ((name, reason),) = report.skipped.items()
    assert f"{name} {reason}".isprintable()
    assert name.startswith("stra")
    assert "not valid Unicode; rename the file" in reason


def test_second_run_extracts_nothing(tmp_path: Path, brightest: Brightest) -> None:
    fill(tmp_path, "a.png", "b.png")
    run(tmp_path, tmp_path / "f.h5")
    before = (tmp_path / "f.h5").read_bytes()
    report = run(tmp_path, tmp_path / "f.h5")
    assert (report.extracted, report.reused, report.names) == ([], ["a.png", "b.png"], ["a.png", "b.png"])
    assert len(brightest.batches) == 2
    assert (tmp_path / "f.h5").read_bytes() == before


def test_overwrite_extracts_everything(tmp_path: Path, brightest: Brightest) -> None:
    fill(tmp_path, "a.png", "b.png")
    run(tmp_path, tmp_path / "f.h5")
    report = run(tmp_path, tmp_path / "f.h5", overwrite=True)
    assert (report.extracted, report.reused) == (["a.png", "b.png"], [])


def test_only_new_and_changed_images_are_extracted(tmp_path: Path, brightest: Brightest) -> None:
    images = fill(tmp_path / "images", "a.png", "b.png", "c.png")
    path = tmp_path / "f.h5"
    run(images, path)
    before = content(path)
    times = (images / "b.png").stat()
    Image.fromarray(picture(7, 40, 30)).save(images / "b.png")
    os.utime(images / "b.png", ns=(times.st_atime_ns, times.st_mtime_ns))  # other size, same time
    fill(images, "d.png", first=9)
    report = run(images, path)
    assert (report.extracted, report.reused) == (["b.png", "d.png"], ["a.png", "c.png"])
    after = content(path)
    assert after["a.png"] == before["a.png"]
    assert after["c.png"] == before["c.png"]
    with FeatureStore(path) as store:
        assert store.image_size("b.png") == (40, 30)
        expected = Brightest.extract(picture(7, 40, 30).astype(np.float32) / 255)
        assert_array_equal(store.keypoints("b.png"), expected.keypoints)
    time = (images / "c.png").stat().st_mtime_ns + 10**9
    os.utime(images / "c.png", ns=(time, time))  # same content, other time
    assert run(images, path).extracted == ["c.png"]
    assert content(path) == after


def test_interrupted_run_is_continued(tmp_path: Path, brightest: Brightest) -> None:
    images = fill(tmp_path / "images", *(f"{i}.png" for i in range(6)))
    run(images, tmp_path / "whole.h5")

    def interrupt() -> None:
        if len(brightest.batches) == 6 + 3:
            raise KeyboardInterrupt

    brightest.before_each = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "f.h5")
    assert sorted(content(tmp_path / "f.h5")) == ["0.png", "1.png", "2.png"]
    brightest.before_each = lambda: None
    report = run(images, tmp_path / "f.h5")
    assert (report.reused, report.extracted) == (["0.png", "1.png", "2.png"], ["3.png", "4.png", "5.png"])
    assert content(tmp_path / "f.h5") == content(tmp_path / "whole.h5")


@pytest.mark.parametrize(
    "change",
    [{"model": {"name": "brightest", "count": 4}}, {"preprocessing": {"grayscale": True, "resize_max": 32}}],
    ids=["model", "preprocessing"],
)
def test_other_options_do_not_mix(tmp_path: Path, brightest: Brightest, change: dict[str, Any]) -> None:
    fill(tmp_path, "a.png")
    run(tmp_path, tmp_path / "f.h5")
    with pytest.raises(StoreError, match=r"model\.count: 3 there, 4 now|resize_max: 64 there, 32 now"):
        extract(CONF | change, tmp_path, tmp_path / "f.h5", progress=False)
    brightest.weights_sha256 = "other"
    with pytest.raises(StoreError, match="weights: none there, other now"):
        run(tmp_path, tmp_path / "f.h5")


def test_options_that_do_not_change_the_features_may_change(tmp_path: Path, brightest: Brightest) -> None:
    fill(tmp_path, "a.png")
    run(tmp_path, tmp_path / "f.h5")
    model = CONF["model"] | {"precision": "bf16", "batch_size": 3, "weights": "/elsewhere/same.safetensors"}
    assert extract(CONF | {"model": model}, tmp_path, tmp_path / "f.h5", progress=False).reused == ["a.png"]


def test_keypoints_are_in_pixels_of_the_original(tmp_path: Path, brightest: Brightest) -> None:
    original = np.zeros((100, 256), np.uint8)
    original[40:44, 200:204] = 200  # becomes the pixel (50, 10)
    Image.fromarray(original).save(tmp_path / "x.png")
    run(tmp_path, tmp_path / "f.h5")
    assert brightest.batches == [(1, 1, 25, 64)]
    with FeatureStore(tmp_path / "f.h5") as store:
        assert_array_equal(store.keypoints("x.png")[0], [(50 + 0.5) * 4 - 0.5, (10 + 0.5) * 4 - 0.5])
        assert_array_equal(store.keypoints("x.png")[0], [201.5, 41.5])  # the centre of the 4 x 4 pixels
        assert store.image_size("x.png") == (256, 100)
        assert store.uncertainty("x.png") == 4 * 0.5


def test_sides_may_shrink_differently(tmp_path: Path, brightest: Brightest) -> None:
    original = np.zeros((3, 640), np.uint8)
    original[:, 100:110] = 255
    Image.fromarray(original).save(tmp_path / "x.png")
    run(tmp_path, tmp_path / "f.h5")
    assert brightest.batches == [(1, 1, 1, 64)]
    with FeatureStore(tmp_path / "f.h5") as store:
        assert_array_equal(store.keypoints("x.png")[0], [104.5, 1])


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs(tmp_path: Path, brightest: Brightest, orientation: int, resized: bool) -> None:
    scale = 4 if resized else 1
    stored = np.zeros((20 * scale, 48 * scale), np.uint8)
    stored[5 * scale : 6 * scale, 40 * scale : 41 * scale] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    report = extract(
        CONF | {"preprocessing": {"grayscale": True, "resize_max": 48}}, tmp_path, tmp_path / "f.h5", progress=False
    )
    assert ("rotated upright" in report.notes["x.png"]) == (orientation != 1)
    assert brightest.batches == [(1, 1, 48, 20) if orientation >= 5 else (1, 1, 20, 48)]
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.image_size("x.png") == (48 * scale, 20 * scale)
        assert_array_equal(store.keypoints("x.png")[0], [40.5 * scale - 0.5, 5.5 * scale - 0.5])


def test_batches_of_equal_sizes_give_the_same(
    tmp_path: Path, brightest: Brightest, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = fill(tmp_path / "images", *(f"{i:02}.png" for i in range(11)))
    Image.fromarray(picture(50, 30, 30)).save(images / "02.png")
    (images / "05.png").write_text("unreadable")
    one_by_one = run(images, tmp_path / "1.h5")
    assert brightest.batches == [(1, 1, 32, 48)] * 2 + [(1, 1, 30, 30)] + [(1, 1, 32, 48)] * 7
    brightest.batches.clear()
    monkeypatch.setattr(extract_features, "choose_device", lambda device: "cuda")
    fill(images, "11.png", "12.png", first=11)
    together = run(images, tmp_path / "8.h5")
    assert brightest.batches == [(2, 1, 32, 48), (1, 1, 30, 30), (8, 1, 32, 48), (1, 1, 32, 48)]
    assert together.names == [*one_by_one.names, "11.png", "12.png"]
    assert list(together.skipped) == list(one_by_one.skipped) == ["05.png"]
    expected, found = content(tmp_path / "1.h5"), content(tmp_path / "8.h5")
    assert {name: found[name] for name in expected} == expected


def test_folder_without_images_makes_no_file(tmp_path: Path, brightest: Brightest) -> None:
    with pytest.raises(ConfigurationError, match="no images"):
        run(tmp_path, tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


def test_main_as_hlocs(tmp_path: Path, brightest: Brightest, capsys: pytest.CaptureFixture[str]) -> None:
    images = fill(tmp_path / "images", "a.png", "b.png")
    (images / "c.png").write_text("unreadable")
    assert extract_features.main(CONF, images, tmp_path / "out") == tmp_path / "out" / "feats-brightest.h5"
    assert sorted(content(tmp_path / "out" / "feats-brightest.h5")) == ["a.png", "b.png"]
    assert f"skipped c.png: {images / 'c.png'}: not an image" in capsys.readouterr().out
    path = tmp_path / "elsewhere.h5"
    assert extract_features.main(CONF, images, tmp_path / "out", image_list=["b.png"], feature_path=path) == path
    assert list(content(path)) == ["b.png"]
    names = tmp_path / "names.txt"
    names.write_text("# a list as hloc takes it\na.png\n\n")
    listed = tmp_path / "listed.h5"
    assert extract_features.main(CONF, images, image_list=names, feature_path=listed) == listed
    assert list(content(listed)) == ["a.png"]
    with pytest.raises(ConfigurationError, match=r"none\.txt"):
        extract_features.main(CONF, images, image_list=tmp_path / "none.txt", feature_path=listed)


def test_sift_finds_a_blob_where_it_is_in_the_original(tmp_path: Path) -> None:
    y, x = np.mgrid[:480, :640].astype(np.float64)
    center = np.array([301.3, 221.8])
    blob = 60 + 150 * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 12.0**2))
    Image.fromarray(blob.round().astype(np.uint8)).save(tmp_path / "x.png")
    for resize_max, tolerance in ((640, 0.1), (320, 0.2), (160, 0.4)):
        conf = confs.extractors["sift"] | {"preprocessing": {"grayscale": True, "resize_max": resize_max}}
        path = tmp_path / f"{resize_max}.h5"
        extract(conf, tmp_path, path, names=["x.png"], device="cpu", progress=False)
        with FeatureStore(path) as store:
            distance = np.linalg.norm(store.keypoints("x.png") - center, axis=1).min()
        assert distance < tolerance  # scaling without the half pixels is off by 0.7 and 2.1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (20000, 30)])
def test_sift_on_pictures_of_any_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(picture(0, *size)).save(tmp_path / "x.png")
    path = extract_features.main(confs.extractors["sift"], tmp_path, tmp_path)
    with FeatureStore(path) as store:
        assert store.image_size("x.png") == size
        features = store.read("x.png")
        assert (features.keypoints > -0.5).all()
        assert (features.keypoints < np.array(size) - 0.5).all()


def test_sift_twice_is_the_same(tmp_path: Path, texture: Callable[..., NDArray[np.uint8]]) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), texture(0))
    for name in ("1.h5", "2.h5"):
        extract(confs.extractors["sift"], tmp_path, tmp_path / name, device="cpu", progress=False)
    assert content(tmp_path / "1.h5") == content(tmp_path / "2.h5")
    with FeatureStore(tmp_path / "1.h5") as store:
        assert len(store.read("x.png")) > 100


def test_mixed_features_are_known_by_what_decides_their_numbers(brightest: Brightest) -> None:
    def recorded(**keypoints: object) -> object:
        parts = {"name": "mixed", "weights": "a.pth", "keypoints": {"name": "d2d", **keypoints}}
        return extract_features.configuration(CONF | {"model": parts}, brightest)

    assert recorded(weights="here.pth", precision="bf16") == recorded(weights="there.pth")
    assert recorded(radius=5) != recorded(radius=4)


def test_what_was_extracted_before_an_error_is_stored(tmp_path: Path, brightest: Brightest) -> None:
    images = fill(tmp_path / "images", "a.png", "b.png", "c.png")

    def fail_at_the_third() -> None:
        if len(brightest.batches) == 2:
            raise MemoryError

    brightest.before_each = fail_at_the_third
    with pytest.raises(MemoryError):
        run(images, tmp_path / "f.h5")
    assert sorted(content(tmp_path / "f.h5")) == ["a.png", "b.png"]
