"""Collections with one thing wrong: the diagnosis names it."""

import re

import numpy as np
import pycolmap
import pytest

from posfeat_hloc.cli.arguments import flag
from posfeat_hloc.cli.main import parsed
from posfeat_hloc.errors import MappingError, Option, wording
from posfeat_hloc.sfm.diagnosis.diagnose import CAUSES, diagnose, remedies_for
from posfeat_hloc.sfm.diagnosis.measurements import chain_disagreement, focal_factor, rotation_deviation
from posfeat_hloc.sfm.match_graph import MatchGraph, connected_components
from posfeat_hloc.sfm.reconstruction import MapperOptions, reconstruct
from tests.sfm.worlds import FOCAL, SIZE, World, turned


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "database.db")


def good_views(world, count=4, points=None):
    points = world.points() if points is None else points
    names = [f"good{i}" for i in range(count)]
    for i, name in enumerate(names):
        world.image(name, points, turned(6.0 * i), centre=(0.6 * i, 0.05 * i, 0))
    world.match_all(*names)
    return points, names


def causes(path, models=()):
    return {name: reason.cause for name, reason in diagnose(path, models).reasons.items()}


def test_a_model_of_all_images_has_nothing_to_explain(world, tmp_path):
    good_views(world, 5)
    path = world.verified()
    models = reconstruct(path, tmp_path, tmp_path / "sparse", progress=False)
    assert models[0].registered == 5
    found = diagnose(path, [tmp_path / "sparse/0"])
    assert found.reasons == {}
    assert found.causes == []


@pytest.mark.parametrize(
    ("prior", "factors", "told"),
    [
        (False, [1, 1, 1, 1.02], None),
        (False, [1, 1, 1, 1.2], (FOCAL, 1.2 * FOCAL)),
        (True, [1, 1, 1, 1.2], None),
    ],
)
def test_focal_lengths_too_far_apart_for_one_camera_are_told(world, tmp_path, prior, factors, told):
    """Of those that EXIF tells apart nothing is said."""
    points = world.points()
    names = [f"image{i}" for i in range(len(factors))]
    for i, (name, factor) in enumerate(zip(names, factors, strict=True)):
        focal = factor * FOCAL
        world.image(
            name, points, turned(6.0 * i), centre=(0.6 * i, 0.05 * i, 0), focal=focal, claimed=focal, prior=prior
        )
    world.match_all(*names)
    path = world.verified()
    reconstruct(path, tmp_path, tmp_path / "sparse", MapperOptions(refine_intrinsics=False), progress=False)
    found = diagnose(path, [tmp_path / "sparse/0"]).focal_lengths
    assert found == (told and pytest.approx(told))


def test_each_image_out_of_a_model_gets_its_own_cause(world, tmp_path):
    points, names = good_views(world, 5)
    world.image("blank", points[:12], centre=(0.3, 0, 0))
    world.image("stranger", world.points())
    world.shows["stranger"] += 10_000
    far = world.points() + np.array([50, 0, 0])
    for i in range(2):
        world.image(f"apart{i}", far, centre=(50 + 0.5 * i, 0, 0))
    world.match("apart0", "apart1")
    world.image("weak", points, centre=(0.5, 0.4, 0))
    few = world.shows["weak"][:22]
    world.shows["weak"][22:] += 20_000  # no more points in common
    assert len(few) == 22
    for name in ("blank", "weak"):
        for good in names:
            world.match(name, good)
    path = world.verified()
    reconstruct(path, tmp_path, tmp_path / "sparse", progress=False)
    found = diagnose(path, [tmp_path / "sparse/0"])
    assert {name: reason.cause for name, reason in found.reasons.items()} == {
        "apart0": "disconnected component",
        "apart1": "disconnected component",
        "blank": "too few keypoints",
        "stranger": "no verified pair",
        "weak": "too few matches",
    }
    assert found.reasons["blank"].evidence.startswith(f"{len(world.shows['blank'])}, where the median")
    assert "only 2" in found.reasons["weak"].evidence or "only 1" in found.reasons["weak"].evidence
    assert "1 other image, but not with the largest model" in found.reasons["apart0"].evidence
    assert found.causes[0].name == "disconnected component"
    assert found.causes[0].images == ("apart0", "apart1")


def test_a_camera_that_only_turns(world):
    points = world.rng.uniform((-8, -2, 4), (8, 2, 9), size=(1500, 3))
    for i in range(4):
        world.image(f"{i}", points, turned(8.0 * i), prior=i % 2 == 0)
    world.match_all()
    assert set(causes(world.verified()).values()) == {"pure rotation"}


def test_a_plane_seen_from_several_places_is_not_pure_rotation(world):
    points = world.points() * (1, 1, 0) + (0, 0, 6)
    for i in range(4):
        world.image(f"{i}", points, turned(5.0 * i), centre=(0.7 * i, 0, 0))
    world.match_all()
    assert "pure rotation" not in causes(world.verified()).values()


def test_exif_with_a_wrong_focal_length(world):
    points = world.points(600)
    for i in range(5):
        world.image(f"{i}", points, turned(8.0 * i), centre=(0.9 * i, 0.1 * i, 0.2 * i), claimed=2.5 * FOCAL)
    world.match_all()
    found = diagnose(world.verified(), [])
    assert {reason.cause for reason in found.reasons.values()} == {"wrong focal length"}
    suggested = [int(re.search(r"fit (\d+) px", reason.evidence)[1]) for reason in found.reasons.values()]
    assert np.median(suggested) == pytest.approx(FOCAL, rel=0.05)


def test_a_facade_of_equal_windows(world):
    """Neighbours are matched rightly, more distant views one window off, as verification lets pass."""
    windows = [world.rng.uniform((-0.4, -2, 0), (0.4, 2, 0), size=(25, 3))] * 16
    points = np.concatenate([w + np.array([0.8 * i - 6, 0, 6 + 0.4 * (i % 3)]) for i, w in enumerate(windows)])
    for i in range(5):
        world.image(f"{i}", points, centre=(0.5 * i, 0.1 * i, 0))
    for i in range(5):
        for j in range(i + 1, 5):
            world.match(f"{i}", f"{j}", shift=75 if j - i > 1 else 0)  # three windows on: the same relief
    assert list(causes(world.verified()).values()).count("repeated structure") >= 3


def test_no_model_for_want_of_matches(world):
    points = world.points(2000)
    for i in range(3):
        world.image(f"{i}", points, centre=(0.8 * i, 0, 0))
        world.shows[f"{i}"][60:] += 10_000 * (i + 1)
    world.match_all()
    assert set(causes(world.verified()).values()) == {"too few matches"}


def test_rotations_have_no_deviation_and_translations_show_their_size():
    rng = np.random.default_rng(1)
    camera = pycolmap.Camera(model="PINHOLE", width=640, height=480, params=[600, 590, 310, 250])
    camera.has_prior_focal_length = True
    K = camera.calibration_matrix()
    for t in (0.0, 0.05, 0.2):
        R = turned(rng.uniform(-20, 20))
        homography = K @ (R + t * np.outer(R @ (1, 0, 0), (0, 0, 1))) @ np.linalg.inv(K) * rng.uniform(0.5, 2)
        # singular values of I + t e1 e3^T, in closed form
        expected = (np.sqrt(1 + t**2 / 4) + t / 2) ** 2 - 1
        assert rotation_deviation(homography, camera, camera) == pytest.approx(expected, abs=1e-9)
    assert rotation_deviation(np.zeros((3, 3)), camera, camera) == np.inf


@pytest.mark.parametrize("known1", [False, True])
def test_the_focal_length_that_makes_fundamental_matrices_essential(known1):
    rng = np.random.default_rng(2)
    true = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 500.0, *SIZE)
    guess = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 900.0, *SIZE)
    inverse = np.linalg.inv(true.calibration_matrix())
    fundamentals = []
    for _ in range(6):
        R, t = pycolmap.Rotation3d(rng.normal(size=3) * 0.3).matrix(), rng.normal(size=3)
        cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
        fundamentals.append(inverse.T @ cross @ R @ inverse)
    factor, cost, cost_now = focal_factor(fundamentals, guess, [true if known1 else guess] * 6, known1)
    assert factor == pytest.approx(500 / 900, rel=0.02)
    assert cost < 0.03
    assert cost_now > 0.1


def test_chains_close_where_matches_are_right():
    ab = np.array([[0, 5], [1, 6], [2, 7], [3, 8]])
    bc = np.array([[5, 0], [6, 1], [7, 3], [9, 2]])
    ac = np.array([[0, 0], [1, 2], [2, 3], [3, 1]])
    places = np.array([[0.0, 0], [10, 0], [10, 3], [0, 0]])
    assert chain_disagreement(ab, bc, ac, places, tolerance=2) == (3, 1)
    assert chain_disagreement(ab, bc, ac, places, tolerance=4) == (3, 0)
    nothing = np.zeros((0, 2), np.int64)
    assert chain_disagreement(ab, nothing, ac, places, tolerance=4) == (0, 0)


def test_components_are_ordered_by_size():
    graph = {"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c", "e"], "e": ["d"], "f": []}
    assert connected_components(graph) == [["c", "d", "e"], ["a", "b"], ["f"]]


def test_the_graph_counts_and_reads_in_both_orders(world):
    good_views(world, 3)
    with MatchGraph(world.verified()) as graph:
        assert graph.names == ["good0", "good1", "good2"]
        assert graph.counts("good1", "good0") == graph.pairs["good0", "good1"]
        assert graph.neighbors("good0") == ["good1", "good2"]
        there, back = graph.inliers("good0", "good2"), graph.inliers("good2", "good0")
        np.testing.assert_array_equal(there, back[:, ::-1])
        assert len(there) == graph.counts("good0", "good2").inliers
        assert [c.inliers for c in graph.verified.values()] == sorted(
            (c.inliers for c in graph.pairs.values()), reverse=True
        )


def test_the_graph_reads_what_colmap_reads_and_writes_nothing(world):
    points = world.points() * (1, 1, 0) + (0, 0, 6)  # a plane: there are homographies
    for i in range(3):
        world.image(f"{i}", points, turned(5.0 * i), centre=(0.7 * i, 0, 0), prior=i > 0)
    world.match_all()
    path = world.verified()
    before = path.read_bytes()
    with MatchGraph(path) as graph:
        found = {(a, b): graph.geometry(a, b) for a in graph.names for b in graph.names if a != b}
        places, cameras = graph.positions("1"), graph.cameras
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == [path]
    with pycolmap.Database.open(path) as db:
        for (name0, name1), own in found.items():
            theirs = db.read_two_view_geometry(world.ids[name0], world.ids[name1])
            assert own.config == theirs.config
            np.testing.assert_array_equal(own.inliers, theirs.inlier_matches)
            assert (own.F is None) == (theirs.F is None)
            if own.F is not None:
                np.testing.assert_allclose(own.F, theirs.F)
            np.testing.assert_allclose(own.H / own.H[2, 2], theirs.H / theirs.H[2, 2], rtol=1e-6)
        np.testing.assert_allclose(places, db.read_keypoints(world.ids["1"])[:, :2])
        stored = db.read_camera(db.read_image(world.ids["0"]).camera_id)
        assert cameras["0"].params.tolist() == stored.params.tolist()
        assert [cameras[name].has_prior_focal_length for name in "012"] == [False, True, True]


def test_files_that_are_no_database(tmp_path):
    (tmp_path / "text.db").write_text("no database" * 100)
    graph = World(tmp_path / "cut.db")
    good_views(graph, 3)
    whole = graph.verified().read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[: len(whole) // 2])
    for name in ("text.db", "none.db", "cut.db"):
        with pytest.raises(MappingError, match=name):
            diagnose(tmp_path / name, [])


@pytest.mark.parametrize("cause", CAUSES)
def test_advice_names_options_that_exist(cause):
    with wording(flag):
        text = str(remedies_for(cause, {}))
    for option, value in re.findall(r"(--[a-z-]+)(?: ([\w-]+))?", text):
        if option == "--camera-params":
            value = "600,320,240,0"
        if (option, value) == ("--pairs", "FILE"):
            value = "gps"
        parsed(["sfm", "--images", "x", option, value])  # argparse would exit
    assert text


def test_advice_leaves_out_what_was_tried():
    assert "pairs=exhaustive" in str(remedies_for("no verified pair", {"pairs": "sequential"}))
    assert "pairs=exhaustive" not in str(remedies_for("no verified pair", {"pairs": "exhaustive"}))
    larger = Option("max_size", "3200")
    assert remedies_for("too few keypoints", {}, [larger]).options[0] == larger
    assert larger not in remedies_for("too few keypoints", {"max_size": 3200}, [larger]).options


def test_advice_keeps_its_option_when_another_is_in_use():
    """The sentence about one camera belongs to camera=single, and goes with it."""
    assert str(remedies_for("wrong focal length", {})) == (
        "camera=single (if one camera with one zoom setting took them all); "
        "give the intrinsics by camera_params where they are known"
    )
    used = "give the intrinsics by camera_params where they are known"
    assert str(remedies_for("wrong focal length", {"camera": "single"})) == used
    assert str(remedies_for("wrong focal length", {}, one_size=False)) == used
    measured = Option("camera_params", "600,320,240", "if one camera with one zoom setting took them all")
    with wording(flag):
        found = str(remedies_for("wrong focal length", {"camera": "single"}, [measured]))
    assert found == "--camera-params 600,320,240 (if one camera with one zoom setting took them all)"
