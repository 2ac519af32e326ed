"""The metrics of validation on maps whose matches are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.validation import (
    Matched,
    better,
    draw_matches,
    draw_scores,
    look,
    match_grid,
    match_keypoints,
    validate,
)
from tests.training.cameras import epipolar_distances
from tests.training.scenes import SIZE, mix, network, photographs


def test_half_precision_is_the_network_s_alone(pair: PosedPair) -> None:
    """Pixels in bfloat16 would be whole ones above 128."""
    posfeat = network(backbone_name="small").eval()
    full, half = (validate(posfeat, [pair], "consistent", True, precision) for precision in ("fp32", "bf16"))
    assert half["matches"] == pytest.approx(full["matches"], rel=0.3)
    matched, scores = look(posfeat, pair, "consistent", "bf16")
    assert matched.points0.dtype == scores.dtype == np.float32
    assert np.unique(matched.points0 % 1).size > 5


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PosedPair:
    return mix(photographs(tmp_path_factory.mktemp("photographs"))).sample(np.random.default_rng(1))


def perfect_maps(pair: PosedPair) -> torch.Tensor:
    """Descriptors that say which place of image 1 a cell shows, read at pixel 4i: an untextured oracle."""
    height, width = pair.image0.shape[:2]
    cells = np.stack(np.meshgrid(np.arange(0, width, 4), np.arange(0, height, 4)), axis=-1).reshape(-1, 2)
    truth = pair.transfer(cells.astype(np.float64))[0]
    truth = np.where(np.isfinite(truth), truth, -50)
    centres = np.linspace(-20, 120, 29)

    def encode(xy: np.ndarray) -> np.ndarray:
        return np.concatenate([np.exp(-((xy[:, i, None] - centres) ** 2) / 60) for i in (0, 1)], axis=1)

    maps = [encode(points).T.reshape(-1, height // 4, width // 4) for points in (truth, cells)]
    return torch.tensor(np.stack(maps), dtype=torch.float32)


def test_perfect_descriptors_match_the_truth(pair: PosedPair) -> None:
    matched = match_grid(perfect_maps(pair), pair, "consistent", spacing=8)
    known = ~np.isnan(matched.error)
    assert known.sum() > 20
    assert np.mean(matched.error[known] < 4) > 0.9
    assert np.median(matched.epipolar[known]) < 2
    expected = epipolar_distances(pair, matched.points0, matched.points1)
    np.testing.assert_allclose(matched.epipolar, expected, atol=1e-2)


def test_the_true_error_is_that_of_the_transfer(pair: PosedPair) -> None:
    matched = match_grid(torch.rand(2, 8, SIZE[1] // 4, SIZE[0] // 4), pair, "consistent")
    truth, seen = pair.transfer(matched.points0)
    assert np.array_equal(np.isnan(matched.error), ~seen)
    distance = np.hypot(*(truth - matched.points1).T)
    np.testing.assert_allclose(matched.error[seen], distance[seen])


def test_keypoints_at_true_places_match(pair: PosedPair) -> None:
    height, width = pair.image0.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(10, width, 12), np.arange(10, height, 12)), axis=-1).reshape(-1, 2)
    truth, seen = pair.transfer(grid.astype(np.float64))
    within = seen & (truth > 3).all(axis=1) & (truth < [width - 4, height - 4]).all(axis=1)
    scores = torch.zeros(2, height, width)
    for points, heat in ((grid[within], scores[0]), (np.round(truth[within]).astype(int), scores[1])):
        heat[points[:, 1], points[:, 0]] = 1.0
    matched = match_keypoints(perfect_maps(pair), scores, pair, "consistent")
    assert len(matched.points0) > 0.6 * within.sum()
    good = ~np.isnan(matched.error)
    assert np.mean(matched.error[good] < 3) > 0.9
    forth = epipolar_distances(pair, matched.points0, matched.points1)
    back = epipolar_distances(pair.swapped(), matched.points1, matched.points0)
    np.testing.assert_allclose(matched.epipolar, np.maximum(forth, back), atol=1e-2)


def test_the_score_is_the_truth_where_it_is_known(pair: PosedPair) -> None:
    known = validate(network().eval(), [pair], "published", False)
    assert known["grid_score"] == known["grid_right"] != known["grid_near"]
    unknown = validate(network().eval(), [replace(pair, depth0=None, depth1=None)], "published", False)
    assert "grid_right" not in unknown
    assert unknown["grid_score"] == unknown["grid_near"]


def test_score_maps_without_peaks_give_no_matches(pair: PosedPair) -> None:
    maps, flat = torch.rand(2, 8, SIZE[1] // 4, SIZE[0] // 4), torch.zeros(2, SIZE[1], SIZE[0])
    assert len(match_keypoints(maps, flat, pair, "published").points0) == 0


def test_metrics_are_means_over_pairs(pair: PosedPair) -> None:
    posfeat = network().eval()
    one, other = validate(posfeat, [pair], "published", True), validate(posfeat, [pair.swapped()], "published", True)
    both = validate(posfeat, [pair, pair.swapped()], "published", True)
    assert both.keys() == one.keys()
    for name, value in both.items():
        assert value == pytest.approx((one[name] + other[name]) / 2), name
    assert "matches" not in validate(posfeat, [pair], "published", False)


def test_the_best_is_judged_by_what_the_stage_trains() -> None:
    metrics = {"grid_near": 0.2, "grid_right": 0.1, "grid_score": 0.1, "near_count": 30.0}
    assert better("describe", metrics) == 0.1
    assert better("detect", metrics) == 30


def test_pictures_show_both_images(pair: PosedPair) -> None:
    matched, scores = look(network().eval(), pair, "published")
    picture = draw_matches(pair, matched)
    assert picture.shape == (SIZE[1], 2 * SIZE[0], 3)
    assert draw_scores(pair, scores, matched).shape == picture.shape
    drawn = (picture != np.concatenate([pair.image0, pair.image1], axis=1)).any(axis=2)
    assert drawn.any()
    assert not np.shares_memory(picture, pair.image0)


def test_matches_far_from_their_line_are_red(pair: PosedPair) -> None:
    ends = np.array([[10, 20], [10, 60]], np.float32)
    picture = draw_matches(pair, Matched(ends, ends, np.array([0.0, 50.0], np.float32), np.full(2, np.nan)))
    assert picture[20, 10].tolist() == [0, 255, 40]
    assert picture[60, 10].tolist() == [255, 0, 40]


def test_pictures_without_matches_are_the_images(pair: PosedPair) -> None:
    matched, _ = look(network().eval(), pair, "published")
    none = type(matched)(*(values[:0] for values in vars(matched).values()))
    assert np.array_equal(draw_matches(pair, none), np.concatenate([pair.image0, pair.image1], axis=1))
