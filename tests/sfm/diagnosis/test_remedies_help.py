"""Each cause of the diagnosis: provoked, named by its measurement, and mended by what is advised."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines import sfm
from posfeat_hloc.sfm.diagnosis.diagnose import diagnose
from posfeat_hloc.sfm.diagnosis.measurements import FLAT, Pictures
from posfeat_hloc.sfm.reconstruction import MapperOptions, reconstruct
from tests.rendering import arc, render, write_scene
from tests.sfm.worlds import FOCAL, SIZE, World, turned

pytestmark = pytest.mark.slow


def judged(world, folder, command=None, refine=True):
    """Number of images of the largest model, and the only cause; None where all are in it."""
    path = world.verified()
    models = reconstruct(path, folder, folder / "sparse", MapperOptions(refine_intrinsics=refine), progress=False)
    found = diagnose(path, [folder / "sparse/0"] if models else [], command)
    assert len(found.causes) <= 1, found.causes
    return models[0].registered if models else 0, found.causes[0] if found.causes else None


def walk(world, count, points, start=0):
    for i in range(start, start + count):
        world.image(f"{i}", points, turned(6.0 * i), centre=(0.6 * i, 0.05 * i, 0))


@pytest.fixture
def worlds(tmp_path):
    """Makes one world after the other, each with a folder."""

    def make(name, **options):
        (tmp_path / name).mkdir()
        return World(tmp_path / name / "database.db", **options), tmp_path / name

    return make


def test_pairs_that_were_not_tried(worlds):
    for name in ("before", "after"):
        world, folder = worlds(name)
        points = world.points()
        walk(world, 5, points)
        if name == "before":
            world.match_all("0", "1", "2", "3")  # 4 has no pair
            registered, cause = judged(world, folder, {"pairs": "sequential"})
            assert (registered, cause.name, cause.images) == (4, "no verified pair", ("4",))
            assert cause.options[0] == ("pairs", "exhaustive")
        else:
            world.match_all()
            assert judged(world, folder) == (5, None)


def test_two_groups_that_were_not_matched(worlds):
    for name in ("before", "after"):
        world, folder = worlds(name)
        points = world.points()
        walk(world, 6, points)
        if name == "before":
            world.match_all("0", "1", "2", "3")
            world.match("4", "5")
            registered, cause = judged(world, folder, {"pairs": "retrieval"})
            assert (registered, cause.name, cause.images) == (4, "disconnected component", ("4", "5"))
            assert cause.options[0] == ("pairs", "exhaustive")
        else:
            world.match_all()
            assert judged(world, folder) == (6, None)


def test_copies_of_one_picture(worlds):
    for name in ("before", "after"):
        world, folder = worlds(name, noise=0.05)
        points = world.points()
        if name == "before":
            for i in range(3):
                world.image(f"{i}", points)
            world.match_all()
            registered, cause = judged(world, folder)
            assert (registered, cause.name) == (0, "same image")
            assert "move between them" in cause.remedies
        else:
            walk(world, 3, points)
            world.match_all()
            assert judged(world, folder) == (3, None)


def test_a_camera_that_turned_on_the_spot(worlds):
    for name in ("before", "after"):
        world, folder = worlds(name)
        points = world.rng.uniform((-8, -2, 4), (8, 2, 9), size=(1500, 3))
        for i in range(4):
            world.image(f"{i}", points, turned(6.0 * i), centre=(0.0 if name == "before" else 0.5 * i, 0, 0))
        world.match_all()
        registered, cause = judged(world, folder, {"pairs": "exhaustive"})
        if name == "before":
            assert (registered, cause.name, cause.options) == (0, "pure rotation", ())
            assert "from other places" in cause.remedies
        else:
            assert (registered, cause) == (4, None)


def test_a_focal_length_that_is_wrong_by_option_or_exif(worlds):
    claimed = 2.5 * FOCAL
    for name in ("before", "after"):
        world, folder = worlds(name)
        points = world.points(600)
        for i in range(5):
            centre = (0.9 * i, 0.1 * i, 0.2 * i)
            world.image(f"{i}", points, turned(8.0 * i), centre=centre, claimed=claimed)
        world.match_all()
        path = world.verified()
        if name == "before":
            (cause,) = diagnose(path, [], {"camera": "single"}).causes
            assert cause.name == "wrong focal length"
            ((option, value),) = cause.options
            assert option == "camera_params"
            claimed, *centre = map(float, value.split(","))
            assert centre == [SIZE[0] / 2, SIZE[1] / 2]
            assert claimed == pytest.approx(FOCAL, rel=0.05)
        else:
            models = reconstruct(path, folder, folder / "sparse", progress=False)
            assert [model.registered for model in models] == [5]
            assert diagnose(path, [folder / "sparse/0"]).causes == []


def test_a_facade_of_equal_windows(worlds):
    """Neighbours are matched rightly, more distant views some windows off; in sequence they are left out."""
    for name in ("before", "after"):
        world, folder = worlds(name)
        windows = [world.rng.uniform((-0.4, -2, 0), (0.4, 2, 0), size=(25, 3))] * 16
        points = np.concatenate([w + np.array([0.8 * i - 6, 0, 6 + 0.4 * (i % 3)]) for i, w in enumerate(windows)])
        for i in range(5):
            world.image(f"{i}", points, centre=(0.5 * i, 0.1 * i, 0))
        for i in range(5):
            for j in range(i + 1, 5):
                if j - i == 1 or name == "before":
                    world.match(f"{i}", f"{j}", shift=75 if j - i > 1 else 0)
        path = world.verified()
        if name == "before":
            cause = diagnose(path, []).causes[0]
            assert cause.name == "repeated structure"
            assert cause.options[0] == ("pairs", "sequential")
        else:
            models = reconstruct(path, folder, folder / "sparse", progress=False)
            assert [model.registered for model in models] == [5]


def test_too_few_matches_where_keypoints_were_cut_off(worlds):
    """One image shares few points with the others, and has as many keypoints as it may."""
    for name in ("before", "after"):
        world, folder = worlds(name)
        points = world.points()
        walk(world, 5, points)
        if name == "before":
            world.shows["4"][22:] += 20_000  # no more points in common
        world.match_all()
        limit = len(world.shows["4"])
        registered, cause = judged(world, folder, {"max_keypoints": limit})
        if name == "before":
            assert (registered, cause.name, cause.images) == (4, "too few matches", ("4",))
            assert cause.options[0] == ("max_keypoints", str(2 * limit))
        else:
            assert (registered, cause) == (5, None)


@pytest.mark.parametrize(
    ("feature", "size", "told"),
    [
        ("d2d-hardnet", (2560, 1920), ("different scale", (("max_size", "640"),))),
        ("d2d-hardnet", (800, 600), ("no verified pair", ())),
        ("sift", (2560, 1920), ("no verified pair", ())),
    ],
)
def test_the_scale_is_named_where_sizes_are_far_apart(worlds, feature, size, told):
    world, folder = worlds("one")
    walk(world, 4, world.points())
    world.image("large", world.points(), size=size)
    world.match_all("0", "1", "2", "3")
    command = {"feature": feature, "pairs": "exhaustive"}
    registered, cause = judged(world, folder, command)
    assert (registered, cause.name) == (4, told[0])
    assert cause.options[: len(told[1])] == told[1]
    if told[0] == "different scale":
        assert "its longer side has 1600 px for the features, that of most others 640 px" in str(
            diagnose(world.path, [folder / "sparse/0"], command).reasons["large"]
        )


def test_two_equal_facades_in_one_model_are_told(worlds):
    """Front and back of a house look alike: the back's views are taken for the front's, all from one side."""
    for name, count, step in (("alike", 8, 5.0), ("around", 8, 20.0), ("few", 5, 5.0)):
        world, folder = worlds(name)
        points = world.rng.uniform((-1, -1, -1), (1, 1, 1), size=(400, 3))
        for i in range(count):
            angle = np.radians(step * i)
            world.image(f"{i}", points, turned(step * i), centre=(6 * np.sin(angle), 0.1 * i, -6 * np.cos(angle)))
        world.match_all()
        path = world.verified()
        models = reconstruct(path, folder, folder / "sparse", progress=False)
        assert models[0].registered == count
        found = diagnose(path, [folder / "sparse/0"])
        if name == "alike":
            assert found.one_side == pytest.approx(35, abs=1)
            assert "name the pairs that really overlap by pairs=FILE" in found.about_one_side
        else:
            assert (found.one_side, found.about_one_side) == (None, None)


def run(photos, output, *arguments, feature="sift"):
    """Images in the model, and the causes by name."""
    given = ["--images", photos, "--output", output, "--feature", feature, "--quiet", *arguments]
    sfm.main([str(part) for part in given])
    found = json.loads((output / "summary.json").read_text())
    return found["registered"], {cause["name"]: cause for cause in found["likely_causes"]}


def test_photographs_of_very_different_sizes(tmp_path):
    photos = tmp_path / "photos"
    write_scene(photos, 5)
    for name in ("view_00.png", "view_02.png", "view_03.png", "view_04.png"):
        small = cv2.resize(cv2.imread(str(photos / name)), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(photos / name), small)
    large = cv2.resize(cv2.imread(str(photos / "view_01.png")), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(photos / "view_01.png"), large)
    options = ("--max-keypoints", 1500)
    registered, causes = run(photos, tmp_path / "before", *options, feature="d2d-hardnet-subpixel")
    assert (registered, causes["different scale"]["images"]) == (4, ["view_01.png"])
    ((option, value),) = causes["different scale"]["options"]
    assert (option, value) == ("max_size", "240")
    assert run(photos, tmp_path / "after", *options, "--max-size", value, feature="d2d-hardnet-subpixel") == (5, {})


def test_masks_and_pictures_that_show_nothing(tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    write_scene(photos, 5)
    masks.mkdir()
    Image.new("L", (400, 300)).save(masks / "view_04.png")
    Image.new("L", (400, 300), 255).save(masks / "view_03.png")
    wall = np.random.default_rng(0).normal(120, 1, (300, 400)).clip(0, 255).astype(np.uint8)
    Image.fromarray(wall).save(photos / "wall.png")
    registered, causes = run(photos, tmp_path / "out", "--masks", masks)
    assert (registered, set(causes)) == (4, {"mask", "blank image"})
    assert causes["mask"]["images"] == ["view_04.png"]
    assert "mend this one, or remove it" in causes["mask"]["remedies"]
    reasons = json.loads((tmp_path / "out/summary.json").read_text())["unregistered"]
    assert f"{masks / 'view_04.png'} leaves 0 % of the image" in reasons["view_04.png"]
    (masks / "view_04.png").unlink()
    (photos / "wall.png").unlink()
    assert run(photos, tmp_path / "out", "--masks", masks) == (5, {})


def test_pictures_that_were_made_too_small(tmp_path):
    photos = tmp_path / "photos"
    write_scene(photos, 4)
    registered, causes = run(photos, tmp_path / "before", "--max-size", 50)
    assert (registered, set(causes)) == (0, {"too few keypoints"})
    assert causes["too few keypoints"]["options"][0] == ["max_size", "400"]
    assert run(photos, tmp_path / "after", "--max-size", 400) == (4, {})


def test_three_black_pictures_are_blank_and_no_pairs(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (320, 240)).save(tmp_path / "photos" / f"{i}.png")
    registered, causes = run(tmp_path / "photos", tmp_path / "out")
    assert (registered, set(causes)) == (0, {"blank image"})
    assert json.loads((tmp_path / "out/summary.json").read_text())["verified_pairs"] == 0
    shutil.rmtree(tmp_path / "photos")
    write_scene(tmp_path / "photos", 3)
    assert run(tmp_path / "photos", tmp_path / "out")[0] == 3


def test_contrast_tells_noise_from_structure(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.normal(100, 1.2, (600, 800)).clip(0, 255).astype(np.uint8)).save(tmp_path / "noise.png")

    Image.fromarray(render(arc(3)[0])).save(tmp_path / "scene.png")
    found = {name: Pictures(tmp_path).contrast(f"{name}.png") for name in ("noise", "scene")}
    assert found["noise"] < FLAT
    assert found["scene"] > 5 * FLAT
    assert Pictures().contrast("noise.png") is None
    assert Pictures(tmp_path).contrast("none.png") is None
