"""The line-to-window search against a loop over pixels, and on maps whose right answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posfeat_hloc.detection.sampling import GRID_ALIGNMENTS, sample_map
from posfeat_hloc.geometry.epipolar import epipolar_lines, line_distances
from posfeat_hloc.training.correspondence import WindowOptions, cosine_volume, describe, search_window
from posfeat_hloc.training.correspondence_search import (
    CoarseToFineOptions,
    LineToWindowOptions,
    coarse_to_fine,
    line_to_window,
    move_windows,
    query_points,
    search_line,
)
from tests.training.two_views import distance_by_hand, fundamentals, place_maps, random_maps, read_by_hand, seeded, unit

SIZE = (80, 96)
SIDEWAYS = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]], dtype=torch.float64)  # lines y1 = y0


def test_defaults_are_the_papers():
    options = LineToWindowOptions()
    assert (options.line_points, options.window, options.inverse_temperature) == (100, 0.1, 60)
    assert (options.noise, options.sigma, options.grid_alignment) == ("paper", "paper", "published")


def test_one_query_in_each_cell_and_none_in_the_rest():
    points = query_points(2, (50, 70), seeded(0))
    cells = (points // 16).long()
    assert cells[1].tolist() == [[x, y] for y in range(3) for x in range(4)]
    assert torch.equal(points, points.round())
    assert torch.equal(points, query_points(2, (50, 70), seeded(0)))
    assert not torch.equal(points[0], points[1])


def test_queries_are_uniform_in_their_cells():
    inside = query_points(16, (256, 256), seeded(1)) % 16
    for axis in range(2):
        share = torch.bincount(inside[..., axis].flatten().long(), minlength=16) / inside[..., 0].numel()
        np.testing.assert_allclose(share, 1 / 16, atol=5 * np.sqrt(1 / 16 / 4096))
    assert abs(np.corrcoef(inside.flatten(0, 1).T.numpy())[0, 1]) < 0.08


@pytest.mark.parametrize("grid_alignment", GRID_ALIGNMENTS)
def test_the_line_search_is_the_loop(grid_alignment):
    dense = random_maps(0, 2, 5, 20, 24)
    points0 = query_points(2, SIZE, seeded(1), cell=32).double()
    queries = F.normalize(random_maps(2, *points0.shape[:2], 5), dim=-1)
    matrices = fundamentals(3, 2, SIZE)
    found, valid = search_line(
        cosine_volume(queries, dense), epipolar_lines(points0, matrices), SIZE, 9, grid_alignment
    )
    assert 0 < valid.sum() < valid.numel() or valid.all()
    for b, n in np.argwhere(valid.numpy()):
        a, b_, c = (matrices[b] @ torch.tensor([*points0[b, n].tolist(), 1.0]).double()).tolist()
        border = [(x, -(a * x + c) / b_) for x in (0, 95)] + [(-(b_ * y + c) / a, y) for y in (0, 79)]
        ends = np.array([p for p in border if -1e-9 <= p[0] <= 95 + 1e-9 and -1e-9 <= p[1] <= 79 + 1e-9])
        assert len(ends) == 2
        candidates = [ends[0] + t * (ends[1] - ends[0]) for t in np.linspace(0, 1, 9)]
        cosines = [
            queries[b, n].numpy() @ read_by_hand(unit(dense[b].numpy()), x, y, SIZE, grid_alignment, "border")
            for x, y in candidates
        ]
        np.testing.assert_allclose(found[b, n], candidates[int(np.argmax(cosines))], atol=1e-6)


def test_of_equal_points_on_a_line_the_first_counts():
    volume = torch.ones(1, 1, 20, 24)
    found, valid = search_line(volume, torch.tensor([[[0.0, 1, -40]]]), SIZE)
    assert valid.all()
    assert found[0, 0].tolist() in ([0, 40], [95, 40])  # an end point, not the sum of all


def test_no_gradient_through_the_line():
    local = random_maps(0, 1, 4, 20, 24).requires_grad_()
    points0 = torch.tensor([[[40.0, 40], [20, 60]]]).double()
    options = replace(LineToWindowOptions(), noise="official-code", inverse_temperature=5.0)
    found = line_to_window(points0, local, local, SIDEWAYS, SIZE, options, seeded(5))
    (gradient,) = torch.autograd.grad(found.points.sum(), local)
    # the same with the line's answer given as a constant
    volume = cosine_volume(describe(local, points0, SIZE, "published"), local)
    best, _ = search_line(volume, epipolar_lines(points0, SIDEWAYS), SIZE)
    assert not best.requires_grad
    centres, _ = move_windows(best, SIZE, options, seeded(5))
    points, _ = search_window(volume, centres, SIZE, WindowOptions(inverse_temperature=5.0))
    torch.testing.assert_close(found.points, points)
    torch.testing.assert_close(torch.autograd.grad(points.sum(), local)[0], gradient)
    assert gradient.abs().sum() > 0


def test_noise_of_the_paper_and_of_the_repository():
    points, size = torch.full((4, 500, 2), 200.0), (401, 801)
    paper, _ = move_windows(points, size, LineToWindowOptions(), seeded(0))
    repository, _ = move_windows(points, size, LineToWindowOptions(noise="official-code"), seeded(0))
    shift = (paper - points) / torch.tensor([40.0, 20])  # half a window
    assert 0 <= shift.min() < 0.01
    assert 0.99 < shift.max() <= 1
    np.testing.assert_allclose(shift.mean(dim=(0, 1)), 0.5, atol=0.03)
    torch.testing.assert_close(
        (repository - points) / torch.tensor([40.0, 20]), 0.707 * (2 * shift - 1), atol=1e-4, rtol=0
    )


def test_windows_with_their_centre_outside_are_not_valid():
    corners = torch.tensor([[[0.0, 0], [95, 0], [0, 79], [95, 79]]]).repeat(1, 50, 1)
    for noise in ("paper", "official-code"):
        centres, valid = move_windows(corners, SIZE, LineToWindowOptions(noise=noise), seeded(1))
        for (x, y), inside in zip(centres[0].tolist(), valid[0].tolist(), strict=True):
            assert inside == (0 <= x <= 95 and 0 <= y <= 79)
    with pytest.raises(ValueError, match="noise"):
        move_windows(corners, SIZE, LineToWindowOptions(noise="none"), seeded(1))


@pytest.mark.parametrize("grid_alignment", GRID_ALIGNMENTS)
@pytest.mark.parametrize("noise", ["paper", "official-code"])
def test_a_moved_place_is_found(grid_alignment, noise):
    local0 = place_maps(1, 20, 24)
    local1 = local0.roll(3, dims=3)  # image 1 is image 0 moved right by three cells
    moved = 12.0 if grid_alignment == "consistent" else 3 / 24 * 95
    points0 = torch.tensor([[[40.0, 30], [22, 51], [61, 44]]]).double()
    options = LineToWindowOptions(window=0.3, noise=noise, grid_alignment=grid_alignment)
    found = line_to_window(points0, local0, local1, SIDEWAYS, SIZE, options, seeded(0))
    assert found.valid.all()
    torch.testing.assert_close(found.points, points0 + torch.tensor([moved, 0]), atol=1.0, rtol=0)
    assert line_distances(found.points, epipolar_lines(points0, SIDEWAYS)).max() < 1


def test_the_options_reach_the_window():
    points0, local = torch.tensor([[[40.0, 40], [20, 60]]]).double(), random_maps(0, 1, 4, 20, 24)
    sigmas = []
    for options in (
        LineToWindowOptions(),
        LineToWindowOptions(sigma="official-code"),
        LineToWindowOptions(min_variance=1.0),
        LineToWindowOptions(inverse_temperature=0.0),
    ):
        found = line_to_window(points0, local, local, SIDEWAYS, SIZE, options, seeded(5))
        sigmas.append(found.sigma[0])
        # 2 x 2 points at +-0.1 have a variance of 0.01 when all are as likely
    assert (sigmas[0] < 0.0142).all()
    assert (sigmas[1] > sigmas[0]).all()
    assert sigmas[2].tolist() == pytest.approx([2**0.5] * 2)
    assert sigmas[3].tolist() == pytest.approx([2**0.5 * 0.01] * 2)


def test_points_without_a_line_are_marked_and_finite():
    matrix = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 300]]])  # y1 = y0 + 300
    points0 = query_points(1, SIZE, seeded(0))
    local = random_maps(0, 1, 4, 20, 24).float()
    found = line_to_window(points0, local, local, matrix, SIZE, LineToWindowOptions(), seeded(0))
    assert not found.valid.any()
    assert found.points.isfinite().all()
    assert found.sigma.isfinite().all()


def test_autocast_changes_nothing():
    points0, local = query_points(1, SIZE, seeded(0)), random_maps(0, 1, 8, 20, 24).float()
    matrices = fundamentals(0, 1, SIZE).float()
    expected = line_to_window(points0, local, local, matrices, SIZE, LineToWindowOptions(), seeded(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = line_to_window(points0, local, local, matrices, SIZE, LineToWindowOptions(), seeded(0))
    assert torch.equal(found.points, expected.points)
    assert torch.equal(found.valid, expected.valid)


def test_the_product_of_equation_1_is_the_cosine_of_unit_vectors_and_not_of_others():
    points0, matrices = query_points(1, SIZE, seeded(0)), fundamentals(0, 1, SIZE).float()
    local0, local1 = (random_maps(seed, 1, 8, 20, 24).float() for seed in (0, 1))
    product = LineToWindowOptions(similarity="product", inverse_temperature=1.0)
    volume = sample_map(local0, points0, SIZE) @ local1.flatten(2)
    found = line_to_window(points0, local0, local1, matrices, SIZE, product, seeded(3))
    best, _ = search_line(volume.unflatten(2, (20, 24)), epipolar_lines(points0, matrices), SIZE)
    centres, _ = move_windows(best, SIZE, product, seeded(3))
    expected, _ = search_window(volume.unflatten(2, (20, 24)), centres, SIZE, WindowOptions(inverse_temperature=1.0))
    torch.testing.assert_close(found.points, expected)
    cosine = line_to_window(points0, local0, local1, matrices, SIZE, LineToWindowOptions(), seeded(3))
    assert (cosine.points - found.points).abs().max() > 1
    # twice as long descriptors change products, not cosines
    for options, same in ((product, False), (LineToWindowOptions(), True)):
        a, b = (line_to_window(points0, local0, k * local1, matrices, SIZE, options, seeded(3)) for k in (1, 2))
        assert torch.allclose(a.points, b.points, atol=1e-3) == same
    with pytest.raises(ValueError, match="similarity"):
        line_to_window(points0, local0, local1, matrices, SIZE, replace(product, similarity="l2"), seeded(3))


POINTS = torch.tensor([[[40.0, 30], [20, 60], [77, 11]]], dtype=torch.float64)


def random_pyramid(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return random_maps(seed, 1, 6, 5, 6), random_maps(seed + 1, 1, 4, 20, 24)


@pytest.mark.parametrize("grid_alignment", ["published", "consistent"])
@pytest.mark.parametrize("centre", ["nearest", "expectation"])
def test_both_levels_are_the_loop(grid_alignment, centre):
    maps0, maps1 = random_pyramid(0), random_pyramid(10)
    options = CoarseToFineOptions(inverse_temperature=4.0, centre=centre, grid_alignment=grid_alignment)
    matrix = fundamentals(1, 1, SIZE)
    coarse, fine = coarse_to_fine(POINTS, maps0, maps1, matrix, SIZE, options)
    for n, (x, y) in enumerate(POINTS[0].tolist()):
        query = unit(read_by_hand(maps0[0][0].numpy(), x, y, SIZE, grid_alignment))
        cells, weights = [], []
        for r, c in np.ndindex(5, 6):
            weights.append(np.exp(4 * query @ unit(maps1[0][0, :, r, c].numpy())))
            published = ((c + 0.5) / 6 * 95, (r + 0.5) / 5 * 79)
            cells.append(published if grid_alignment == "published" else (16 * c, 16 * r))
        p, xy = np.array(weights) / sum(weights), np.array(cells)
        np.testing.assert_allclose(coarse.points[0, n], p @ xy, atol=1e-8)
        variance = (p @ xy**2 - (p @ xy) ** 2) / np.array([47.5, 39.5]) ** 2
        assert coarse.sigma[0, n].item() == pytest.approx(np.sqrt(variance).sum())
        middle = p @ xy if centre == "expectation" else xy[p.argmax()]
        volume = cosine_volume(describe(maps0[1], POINTS[:, n : n + 1], SIZE, grid_alignment), maps1[1])
        window = torch.from_numpy(np.asarray(middle, np.float64))[None, None]
        expected, sigma = search_window(
            volume, window, SIZE, WindowOptions(0.125, 4.0, "official-code", grid_alignment=grid_alignment)
        )
        torch.testing.assert_close(fine.points[:, n], expected[:, 0])
        torch.testing.assert_close(fine.sigma[:, n], sigma[:, 0])
        distance = distance_by_hand(POINTS[0, n].numpy(), p @ xy, matrix[0].numpy())
        assert fine.valid[0, n].item() == (distance < 0.125 * 80)
    assert coarse.valid.all()


def test_a_moved_place_is_found_coarsely_and_finely():
    coarse0, fine0 = place_maps(1, 5, 6, width=0.7), place_maps(1, 20, 24)
    maps1 = coarse0.roll(1, dims=3), fine0.roll(4, dims=3)  # right by one coarse cell
    options = CoarseToFineOptions(grid_alignment="consistent", window=0.25)
    coarse, fine = coarse_to_fine(POINTS[:, :2], (coarse0, fine0), maps1, SIDEWAYS, SIZE, options)
    expected = POINTS[:, :2] + torch.tensor([16.0, 0])
    assert (coarse.points - expected).abs().max() < 8
    torch.testing.assert_close(fine.points, expected, atol=1.0, rtol=0)
    assert fine.valid.all()


@pytest.mark.parametrize("centre", ["nearest", "expectation"])
def test_each_level_trains_its_own_map(centre):
    maps0, maps1 = (tuple(m.requires_grad_() for m in random_pyramid(seed)) for seed in (0, 10))
    options = CoarseToFineOptions(inverse_temperature=2.0, centre=centre)
    levels = coarse_to_fine(POINTS, maps0, maps1, SIDEWAYS, SIZE, options)
    for own, level in enumerate(levels):
        assert not level.sigma.requires_grad
        for maps in (maps0, maps1):
            gradients = torch.autograd.grad(level.points.sum(), maps, allow_unused=True, retain_graph=True)
            assert gradients[own].abs().sum() > 0
            assert gradients[1 - own] is None


def test_bad_centre():
    with pytest.raises(ValueError, match="nearest"):
        coarse_to_fine(POINTS, random_pyramid(0), random_pyramid(1), SIDEWAYS, SIZE, CoarseToFineOptions(centre="mean"))
