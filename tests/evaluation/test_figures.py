import numpy as np
import torch

from posfeat_hloc.detection.d2d import absolute_saliency, relative_saliency
from posfeat_hloc.evaluation.figures import on_pixels, saliency_maps


def test_the_five_maps_of_the_figure():
    raw = torch.randn(1, 8, 12, 15, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 2, 15)
    s_as, s_rs, s_d2d, more_as, more_rs = saliency_maps(raw, radius=3).values()
    absolute, relative = absolute_saliency(raw)[0].numpy(), relative_saliency(raw, 3)[0].numpy()
    for found, values in ((s_as, absolute), (s_rs, relative), (s_d2d, absolute * relative)):
        np.testing.assert_allclose(found, (values - values.min()) / (values.max() - values.min()), atol=1e-6)
    assert ((more_as > 0) & (more_rs > 0)).sum() == 0
    assert max(more_as.max(), more_rs.max()) == 1
    difference = s_as - s_rs
    np.testing.assert_allclose(more_as - more_rs, difference / np.abs(difference).max(), atol=1e-6)


def test_cells_lie_at_their_pixels():
    """Cell x is centred at pixel 4x + 14; between cells the values are interpolated."""
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    placed = on_pixels(values, (45, 52))
    assert placed.shape == (45, 52)
    for (y, x), value in np.ndenumerate(values):
        assert abs(placed[4 * y + 14, 4 * x + 14] - value) < 1e-4
    assert abs(placed[14, 16] - 0.5) < 0.02
    assert np.isnan(placed[5, 20])
    assert np.isnan(placed[30, 2])


def test_a_flat_map_is_dark():
    assert all((m == 0).all() for m in saliency_maps(torch.ones(1, 4, 9, 9)).values())
