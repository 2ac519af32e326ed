"""The coarse-to-fine search against loops and known answers."""

import numpy as np
import pytest
import torch

from posfeat_hloc.training.coarse_to_fine import CoarseToFineOptions, coarse_to_fine
from posfeat_hloc.training.correspondence import cosine_volume, describe, search_window
from tests.training.two_views import distance_by_hand, fundamentals, place_maps, random_maps, read_by_hand, unit

SIZE = (80, 96)
SIDEWAYS = torch.tensor([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]], dtype=torch.float64)
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
            volume, window, SIZE, 0.125, 4.0, "official-code", grid_alignment=grid_alignment
        )
        torch.testing.assert_close(fine.points[:, n], expected[:, 0])
        torch.testing.assert_close(fine.sigma[:, n], sigma[:, 0])
        distance = distance_by_hand(POINTS[0, n].numpy(), p @ xy, matrix[0].numpy())
        assert fine.valid[0, n].item() == (distance < 0.125 * 80)
    assert coarse.valid.all()


def test_a_moved_place_is_found():
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
