"""D2-Net's hard detection against loops over cells, and on maps whose answer is known."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posfeat_hloc.detection.channel_maxima import channel_maxima


def by_hand(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detections and displacements (dx, dy) from every channel's padded map, one cell and channel at a time."""
    channels, height, width = dense.shape
    padded = np.pad(dense.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    detected, displacement = np.zeros((height, width), bool), np.zeros((height, width, 2))
    for d, y, x in np.ndindex(channels, height, width):
        patch = padded[d, y : y + 3, x : x + 3]
        if patch[1, 1] < dense[:, y, x].max() or patch[1, 1] < patch.max():
            continue
        gradient = np.array([patch[1, 2] - patch[1, 0], patch[2, 1] - patch[0, 1]]) / 2
        mixed = (patch[0, 0] + patch[2, 2] - patch[0, 2] - patch[2, 0]) / 4
        hessian = np.array([[patch[1, 0] + patch[1, 2], 0], [0, patch[0, 1] + patch[2, 1]]]) - 2 * patch[1, 1] * np.eye(
            2
        )
        hessian[0, 1] = hessian[1, 0] = mixed
        curvatures = np.linalg.eigvalsh(hessian)
        if curvatures[0] * curvatures[1] <= 0 or max(curvatures / curvatures[::-1]) > 5:
            continue
        detected[y, x] = True
        displacement[y, x] = -np.linalg.solve(hessian, gradient)
    return detected, displacement


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_against_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = np.maximum(rng.normal(size=(3, 7, 9)), 0).astype(np.float32)
    detected, displacement = by_hand(dense)
    found = channel_maxima(torch.from_numpy(dense))
    np.testing.assert_array_equal(found.detected, detected)
    np.testing.assert_allclose(found.displacement[found.detected], displacement[detected], atol=1e-3)
    np.testing.assert_array_equal(found.values, dense.max(axis=0))


def test_the_summit_of_a_parabola_is_found() -> None:
    y, x = np.mgrid[:7, :8]
    dense = np.zeros((4, 7, 8), np.float32)
    dense[2] = 20 - (x - 4.3) ** 2 - 2 * (y - 2.8) ** 2 - 0.4 * (x - 4.3) * (y - 2.8)
    found = channel_maxima(torch.from_numpy(np.maximum(dense, 0)))
    assert found.detected.nonzero().tolist() == [[3, 4]]
    np.testing.assert_allclose(found.displacement[3, 4], [0.3, -0.2], atol=1e-4)


def test_edges_flat_maps_and_weaker_channels_are_no_detections() -> None:
    y, x = np.mgrid[:5, :5]
    for ratio, expected in ((4.9, True), (5.1, False)):
        ridge = torch.from_numpy(100 - (x - 2.0) ** 2 - ratio * (y - 2.0) ** 2)[None]
        assert bool(channel_maxima(ridge).detected[2, 2]) == expected
    assert not channel_maxima(torch.zeros(3, 4, 4)).detected.any()
    peak = torch.from_numpy(np.maximum(9 - (x - 2.0) ** 2 - (y - 2.0) ** 2, 0))
    assert not channel_maxima(torch.stack([peak, torch.full((5, 5), 10.0)])).detected[1:4, 1:4].any()
