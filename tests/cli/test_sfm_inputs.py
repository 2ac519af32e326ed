"""The command sfm with masks, videos, GPS, loops and exports, end to end on the rendered scene; the demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from pipelines import sfm
from posfeat_hloc.evaluation.poses import TrueCamera, pose_errors
from posfeat_hloc.extract_features import ExtractionReport
from posfeat_hloc.images.decoding import list_images
from posfeat_hloc.rendering import demo
from posfeat_hloc.sfm import choices
from posfeat_hloc.sfm.job import Job
from posfeat_hloc.sfm.models import read_model
from posfeat_hloc.sfm.options import SfmOptions, complete
from posfeat_hloc.stores import FeatureStore
from tests.images.video_scenes import write_video
from tests.rendering import HEIGHT, WIDTH, View, arc, render, write_scene

Output = pytest.CaptureFixture[str]
LATITUDE, LONGITUDE, ALTITUDE = 48.0, 2.0, 50.0


def run(output: Path, *arguments: object) -> int:
    options = ["--output", output, "--feature", "sift", "--max-keypoints", 1000, "--quiet", "--device", "cpu"]
    return sfm.main([str(part) for part in (*options, *arguments)])


def summary(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, View]]:
    """Six views; five know where they were taken: one unit of the scene is ten metres, y is down, z is north."""
    folder = tmp_path_factory.mktemp("photos")
    cameras = write_scene(folder, 6)
    transform = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    for name, view in sorted(cameras.items())[:5]:
        x, y, z = 10 * view.centre
        ((latitude, longitude, altitude),) = transform.enu_to_ellipsoid(
            np.array([[x, z, -y]]), LATITUDE, LONGITUDE, ALTITUDE
        )
        exif = Image.Exif()
        exif[0x8825] = {1: "N", 2: _sexagesimal(latitude), 3: "E", 4: _sexagesimal(longitude), 5: b"\0", 6: altitude}
        with Image.open(folder / name) as image:
            image.load()
            image.save(folder / name, exif=exif)
    return folder, cameras


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    minutes = degrees % 1 * 60
    return float(int(degrees)), float(int(minutes)), round(minutes % 1 * 60, 5)


def test_gps_puts_the_model_in_metres(photos: tuple[Path, dict[str, View]], tmp_path: Path, capsys: Output) -> None:
    folder, cameras = photos
    assert run(tmp_path, "--images", folder, "--gps", "--export", "ply", "transforms") == 0
    model = read_model(tmp_path / "sparse/0")
    centres = {image.name: image.projection_center() for image in model.images.values()}
    record = json.loads((tmp_path / "sparse/georeference.json").read_text())
    transform = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    shift = transform.ellipsoid_to_enu(np.array([record["origin"]]), LATITUDE, LONGITUDE, ALTITUDE)[0]
    for name, view in cameras.items():  # also the one without a position
        x, y, z = 10 * view.centre
        assert np.linalg.norm(centres[name] + shift - [x, z, -y]) < 0.5  # of 40 m
    assert summary(tmp_path)["remarks"]["GPS"] == "5 of 6 images have a position"
    assert "metres east, north, up of 48.0" in summary(tmp_path)["remarks"]["georeference"]
    assert (tmp_path / "export/points.ply").exists()
    frame = json.loads((tmp_path / "export/transforms.json").read_text())["frames"][0]
    assert (tmp_path / "export" / frame["file_path"]).is_file()
    with pycolmap.Database.open(tmp_path / "database.db") as db:
        assert db.num_pose_priors() == 5
    capsys.readouterr()
    assert run(tmp_path, "--images", folder, "--gps") == 0
    assert "georeference        metres east" in capsys.readouterr().out
    assert summary(tmp_path)["kept_from_earlier_run"] == ["extract", "map", "match", "verify"]
    assert run(tmp_path, "--images", folder, "--pairs", "gps", "--neighbors", 2) == 0  # in units of its own again
    pairs = (tmp_path / "pairs.txt").read_text().splitlines()
    assert len([pair for pair in pairs if "view_05.png" in pair]) == 5  # it has no position
    assert len(pairs) < 15
    assert summary(tmp_path)["notes"]["view_05.png"] == "no GPS position, matched with all images"


def test_without_positions_gps_is_refused(tmp_path: Path, capsys: Output) -> None:
    write_scene(tmp_path / "photos", 2)
    for options in (["--gps"], ["--pairs", "gps"]):
        assert run(tmp_path / "out", "--images", tmp_path / "photos", *options) == 1
        assert "none of the images has a GPS position" in capsys.readouterr().err
    assert not (tmp_path / "out/features.h5").exists()  # said before the work


def test_masks_keep_points_away(photos: tuple[Path, dict[str, View]], tmp_path: Path) -> None:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :120] = 0
    (tmp_path / "masks").mkdir()
    for name in list(photos[1])[:5]:
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    assert run(tmp_path / "out", "--images", photos[0], "--masks", tmp_path / "masks") == 0
    found = summary(tmp_path / "out")
    assert found["registered"] == 6
    assert "no mask in" in found["notes"]["view_05.png"]
    for image in read_model(tmp_path / "out/sparse/0").images.values():
        columns = np.array([point.xy[0] for point in image.points2D])
        assert (columns.min() > 120) == (image.name != "view_05.png")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video along the arc: one frame in three is true, between them the image stands still or shakes."""
    frames = []
    for view in arc(10):
        picture = render(view)
        frames += [cv2.blur(picture, (9, 9)), picture, cv2.blur(picture, (5, 5))]
    return write_video(tmp_path_factory.mktemp("video") / "walk.avi", frames)


def test_a_video_becomes_a_model(walk: Path, tmp_path: Path, capsys: Output) -> None:
    assert run(tmp_path, "--video", walk, "--motion", 2) == 0
    found = summary(tmp_path)
    names = sorted(path.name for path in (tmp_path / "images/walk").iterdir())
    assert found["images"] == found["registered"] == len(names) >= 5
    assert all(int(name[:6]) % 3 == 1 for name in names)  # the sharp ones
    assert found["cameras"] == 1
    assert f"frames              {len(names)} of 30" in capsys.readouterr().out
    views = {f"walk/{3 * i + 1:06d}.jpg": TrueCamera(v.rotation, v.centre) for i, v in enumerate(arc(10))}
    truth = {f"walk/{name}": views[f"walk/{name}"] for name in names}
    assert pose_errors(read_model(tmp_path / "sparse/0"), truth).rotation.max() < 1
    assert found["command"]["video"] == [str(walk)]
    assert run(tmp_path, "--video", walk, "--motion", 2) == 0
    kept = summary(tmp_path)["kept_from_earlier_run"]
    assert {"frames", "extract", "match", "verify", "map"} <= set(kept)


@pytest.mark.slow
def test_photographs_and_a_video_become_one_model(
    walk: Path, photos: tuple[Path, dict[str, View]], tmp_path: Path
) -> None:
    assert run(tmp_path, "--images", photos[0], "--video", walk, "--frames", 6) == 0
    found = summary(tmp_path)
    folder = photos[0].name
    assert {path.name for path in (tmp_path / "images").iterdir()} == {folder, "walk"}
    model = read_model(tmp_path / "sparse/0")
    cameras = {image.name: image.camera_id for image in model.images.values()}
    frames = [name for name in cameras if name.startswith("walk/")]
    assert found["images"] == len(cameras) == 6 + len(frames)
    assert 5 <= len(frames) <= 6
    assert len({cameras[name] for name in frames}) == 1
    assert len(set(cameras.values())) == 7  # each photograph has its own: there is no EXIF
    truth = {f"{folder}/{name}": TrueCamera(v.rotation, v.centre) for name, v in photos[1].items()}
    truth |= {f"walk/{3 * i + 1:06d}.jpg": TrueCamera(v.rotation, v.centre) for i, v in enumerate(arc(10))}
    errors = pose_errors(model, {name: truth[name] for name in cameras})
    assert errors.rotation.max() < 1


def test_videos_that_are_none_end_with_one_line(walk: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    write_video(tmp_path / "still.avi", [render(arc(1)[0])] * 3)
    shutil.copy(walk, tmp_path / "still.mp4")
    for arguments, message in (
        ([tmp_path / "none.mp4"], "none.mp4: no such file"),
        ([tmp_path / "text.mp4"], "text.mp4: not a video that can be read"),
        ([tmp_path / "still.avi"], "hardly moves in its 3 frames"),
        ([tmp_path / "still.avi", tmp_path / "still.mp4"], "two videos are called 'still'"),
        ([walk, "--frames", 1], "at least two"),
        ([walk, "--motion", 0], "positive"),
        ([walk, "--pairs", "exhaustive", "--loop-closure"], "--loop-closure is for --pairs sequential"),
    ):
        assert run(tmp_path / "out", "--video", *arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error


def test_loops_are_closed_by_similarity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk out and back: its end is matched with its beginning, which no neighbour in time is."""
    names = [f"{number}.png" for number in range(10)]
    places = [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    asked = []

    def retrieve(one: Path, other: Path, count: int, *_: list[str]) -> list[tuple[str, str]]:
        asked.append(count)
        orders = [sorted(range(10), key=lambda j, i=i: abs(places[i] - places[j])) for i in range(10)]  # type: ignore[misc]
        return [(names[i], names[j]) for i, order in enumerate(orders) for j in [j for j in order if j != i][:count]]

    monkeypatch.setattr(choices, "describe_images", lambda *_, **__: ExtractionReport(extracted=names))
    monkeypatch.setattr(choices, "retrieve", retrieve)

    def job(usable: list[str], loops: bool) -> Job:
        options = SfmOptions(pairs="sequential", overlap=2, neighbors=1, loop_closure=loops)
        return Job(tmp_path, tmp_path, options, usable=usable)

    alone = choices.choose_pairs(job(names, False), names)
    assert (len(alone), asked) == (9 + 8, [])
    closing = job(names, True)
    found = choices.choose_pairs(closing, names)
    assert found[: len(alone)] == alone
    loops = {frozenset(int(name[0]) for name in pair) for pair in found[len(alone) :]}
    # the turning point is in the overlap, so its images meet the next best
    assert loops == {frozenset(pair) for pair in ((0, 9), (1, 8), (2, 7), (3, 6), (4, 7), (5, 2))}
    assert asked == [1 + 2 * 2]  # so many that one is left without the neighbours in time
    assert set(closing.result.seconds) == {"retrieve"}
    few = choices.choose_pairs(job(names[:3], True), names[:3])
    assert (len(few), len(asked)) == (3, 1)  # nothing is far apart


def test_defaults_are_those_of_the_input() -> None:
    photographs = complete(SfmOptions(), Path("x"))
    assert (photographs.pairs, photographs.camera, photographs.loop_closure) == (None, "auto", False)  # by their number
    walk = (Path("x.mp4"),)
    video = complete(SfmOptions(video=walk), None)
    assert (video.pairs, video.camera, video.loop_closure) == ("sequential", "folder", True)
    assert not complete(SfmOptions(video=walk, loop_closure=False), None).loop_closure
    assert not complete(SfmOptions(video=walk, pairs="exhaustive", camera="auto"), None).loop_closure


@pytest.fixture
def few(monkeypatch):
    """Five views are enough here."""
    monkeypatch.setattr(demo, "VIEWS", 5)


def test_the_demo_finds_its_cameras(few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sfm.main(["--demo", "--feature", "sift", "--quiet", "--no-report"]) == 0
    output = tmp_path / "outputs/demo"
    found = json.loads((output / "summary.json").read_text())
    assert found["registered"] == found["images"] == 5
    assert found["against_truth"]["images"] == 5
    assert found["against_truth"]["median_rotation"] < 0.3
    assert found["against_truth"]["median_position"] < 0.01
    said = capsys.readouterr().out
    assert f"camera errors       {found['against_truth']['median_rotation']:.3f} degrees" in said
    assert "posfeat-hloc export outputs/demo --format ply transforms" in said
    assert len(list_images(output / "queries")) == 3
    assert found["cameras"] == 1  # by EXIF, as of photographs of one camera
    with FeatureStore(output / "features.h5") as store:
        assert max(len(store.keypoints(name)) for name in store.names()) <= 1500


def test_rendering_goes_on_where_it_stopped(few, tmp_path):
    truth = demo.write_photographs(tmp_path, progress=False)
    names = list_images(tmp_path)
    assert names == list(truth)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in names}
    (tmp_path / names[2]).unlink()
    (tmp_path / f".{names[2]}").write_bytes(b"half a picture")
    demo.write_photographs(tmp_path, progress=False)
    assert {name: (tmp_path / name).read_bytes() for name in list_images(tmp_path)} == before
    assert [n for n in names if (tmp_path / n).stat().st_mtime_ns != times[n]] == [names[2]]


def test_exif_says_the_true_focal_length(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "VIEWS", 1)
    demo.write_photographs(tmp_path, progress=False)
    bitmap = pycolmap.Bitmap.read(tmp_path / "square_01.jpg", False)
    assert bitmap.exif_focal_length() == pytest.approx(demo._camera().focal_length)


def test_errors_are_relative_to_the_path():
    from posfeat_hloc.evaluation.poses import PoseErrors, TrueCamera

    truth = {n: TrueCamera(np.eye(3), np.array([x, 0.0, 0.0])) for n, x in (("a", 0), ("b", 3), ("c", 8))}
    errors = PoseErrors(["a", "b", "c"], np.array([1.0, 2.0, 9.0]), np.array([0.4, 0.1, 0.8]))
    assert demo.relative_errors(errors, truth) == {"images": 3, "median_rotation": 2.0, "median_position": 0.05}


@pytest.mark.parametrize("arguments", [[], ["--demo", "--images", "x"]])
def test_either_photographs_or_the_demo(arguments, capsys):
    assert sfm.main(arguments) == 2
    assert "--demo" in capsys.readouterr().err
